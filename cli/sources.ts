// `remuda sources …`: the sources of a pool's proxies.
import type { Command } from "commander";
import type { SourceReply } from "../protocol/source.ts";
import { type Asked, poolCommand } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { readDocument } from "./files.ts";
import { print, printJson, printReply, showInstant, Table } from "./output.ts";

/** Reading a source now may take as long as its own timeout. */
const readMsMax = 600_000;

export function addSources(program: Command, withService: WithService): void {
  const sources = program.command("sources").description("follow lists of proxies that others keep");

  poolCommand(sources, "list", "list the pool's sources, and how they do").action(async (options: Asked) => {
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
          (doubtedUntil === undefined ? "" : `names less than half: doubted until ${showInstant(doubtedUntil)}`),
      ]),
    );
  });

  poolCommand(sources, "put", "follow a URL or another pool")
    .argument("<document>", 'JSON, a file, or -: {"name": "vendor", "from": {"kind": "url", "url": "https://…"}}')
    .action(async (document: string, options: Asked) => {
      const body = await readDocument(document);
      const reply = await withService(options, (ask) => ask<SourceReply>("sources.put", body));
      if (options.json) printJson(reply);
      else print(`${reply.name} is followed; "remuda sources list" shows how it does`);
    });

  poolCommand(sources, "read", "ask a source now, and say what came of it")
    .argument("<name>", "the source")
    .action(async (name: string, options: Asked) => {
      const reply = await withService(options, (ask) => ask<SourceReply>("sources.read", { name }, readMsMax));
      printReply(options, reply);
    });

  poolCommand(sources, "remove", "follow a source no longer; the proxies that it has brought stay")
    .argument("<name>", "the source")
    .action(async (name: string, options: Asked) => {
      const reply = await withService(options, (ask) => ask<{ removed: string }>("sources.remove", { name }));
      if (options.json) printJson(reply);
      else print(`${reply.removed} is followed no longer`);
    });
}
