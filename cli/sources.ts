// `remuda sources …`: the sources of a pool's proxies.

import type { Command } from "commander";
import type { SourceReply } from "../protocol/source.ts";
import { showInstant } from "../runtime/text.ts";
import { type Asked, poolCommand } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { readDocument } from "./files.ts";
import { print, printJson, printReply, Table } from "./output.ts";

/** A source may take as long as its own timeout. */
const readMsMax = 600_000;

export function addSources(program: Command, withService: WithService): void {
  const sources = program.command("sources").description("follow lists of proxies that are kept elsewhere");

  poolCommand(sources, "list", "list the pool's sources and their state").action(async (options: Asked) => {
    const reply = await withService(options, (ask) => ask<{ sources: SourceReply[] }>("sources.list", {}));
    if (options.json) return printJson(reply);
    if (reply.sources.length === 0) return print("no sources");
    new Table(["NAME", "KIND", "PROXIES", "LAST READ", "TROUBLE"]).print(
      reply.sources.map(({ name, kind, proxies, last, trouble, doubtedUntil }) => [
        name,
        kind,
        proxies,
        last === undefined ? "–" : showInstant(last.at),
        trouble?.why ??
          (doubtedUntil === undefined
            ? ""
            : `has fewer than half of its proxies: doubted until ${showInstant(doubtedUntil)}`),
      ]),
    );
  });

  poolCommand(sources, "put", "add or change a source: a URL or another pool")
    .argument("<document>", 'JSON, a file, or -: {"name": "vendor", "from": {"kind": "url", "url": "https://…"}}')
    .action(async (document: string, options: Asked) => {
      const body = await readDocument(document);
      const reply = await withService(options, (ask) => ask<SourceReply>("sources.put", body));
      if (options.json) printJson(reply);
      else print(`${reply.name} is followed; "remuda sources list" shows its state`);
    });

  poolCommand(sources, "read", "read a source now, and print the result")
    .argument("<name>", "the source")
    .action(async (name: string, options: Asked) => {
      const reply = await withService(options, (ask) => ask<SourceReply>("sources.read", { name }, readMsMax));
      printReply(options, reply);
    });

  poolCommand(sources, "remove", "stop following a source; its proxies stay in the pool")
    .argument("<name>", "the source")
    .action(async (name: string, options: Asked) => {
      const reply = await withService(options, (ask) => ask<{ removed: string }>("sources.remove", { name }));
      if (options.json) printJson(reply);
      else print(`${reply.removed} is no longer followed`);
    });
}
