// `remuda sources …`: the sources of a pool's proxies.

import type { Command } from "commander";
import type { SourceReply } from "../protocol/source.ts";
import { type Asked, poolCommand } from "./arguments.ts";
import type { WithService } from "./connection.ts";
import { readDocument } from "./files.ts";
import { type Column, type Order, printer, sorted, sortOption } from "./list.ts";
import { print, printJson, printReply, relativeTo, showDuration } from "./output.ts";

/** A source may take as long as its own timeout. */
const readMsMax = 600_000;

export function addSources(program: Command, withService: WithService): void {
  const sources = program.command("sources").description("follow lists of proxies that are kept elsewhere");

  sortOption(poolCommand(sources, "list", "list the pool's sources and their state"), columns)
    .option("--bad", "only sources that fail or are doubted")
    .action(async (options: Asked & { sort?: Order; bad?: true }) => {
      const reply = await withService(options, (ask) => ask<{ sources: SourceReply[] }>("sources.list", {}));
      const wanted = options.bad ? reply.sources.filter((source) => troubleOf(source) !== undefined) : reply.sources;
      const listed = options.sort === undefined ? wanted : sorted(wanted, columns, options.sort);
      if (options.json) return printJson({ ...reply, sources: listed });
      if (listed.length === 0) return print(options.bad ? "no source fails or is doubted" : "no sources");
      printer(columns)(listed);
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

const columns: readonly Column<SourceReply>[] = [
  { name: "NAME", cell: ({ name }) => name },
  { name: "KIND", cell: ({ kind }) => kind },
  { name: "PROXIES", cell: ({ proxies }) => proxies },
  { name: "LAST READ", cell: ({ last }) => relativeTo(last?.at) ?? "–", by: ({ last }) => last?.at },
  { name: "TROUBLE", cell: troubleOf },
];

function troubleOf({ trouble, doubtedUntil }: SourceReply): string | undefined {
  if (trouble !== undefined || doubtedUntil === undefined) return trouble?.why;
  return `has fewer than half of its proxies: doubted for ${showDuration(Math.max(0, doubtedUntil - Date.now()))}`;
}
