// `remuda proxies …`: a pool's proxies, and manual changes to them.

import { type Command, Option } from "commander";
import { proxyStates } from "../events/proxy.ts";
import { proxyUrl } from "../lists/address.ts";
import { given } from "../protocol/given.ts";
import { type ChangedReply, type ListScheme, listSchemeSchema, type ProxyReply } from "../protocol/proxy.ts";
import { refuse } from "../protocol/refusal.ts";
import type { Verb } from "../protocol/verbs.ts";
import { type Asked, durationForm, poolCommand, readDuration, readLabel } from "./arguments.ts";
import { stateColour } from "./colour.ts";
import type { WithService } from "./connection.ts";
import { labelled } from "./event-line.ts";
import { addExport } from "./export.ts";
import { Refused } from "./failure.ts";
import { addLists, openLists, type Tell, type Told } from "./lists.ts";
import { print, printable, printJson, printReply, showInstant, Table } from "./output.ts";
import { printPages, type Range, rangeOptions } from "./pages.ts";

/** A file that is not a list may have a million rejected entries. */
const rejectedListedMax = 1000;

export function addProxies(program: Command, withService: WithService): void {
  const proxies = program.command("proxies").description("add, list and change proxies");

  poolCommand(
    proxies,
    "add",
    "add lists: lines (host:port, host:port:user:pass, scheme://user:pass@host:port …), CSV, JSON",
  )
    .argument("[file...]", "lists; - or none for the standard input")
    .addOption(
      new Option("--scheme <scheme>", "of the entries that name none; else http").choices(listSchemeSchema.options),
    )
    .option("--verbose", "tell of every entry what became of it, not only of the rejected")
    .action(async (files: string[], options: Asked & { verbose?: true; scheme?: ListScheme }) => {
      const lists = await openLists(files);
      const rejected: Told[] = [];
      let unlisted = 0;
      const tell: Tell = (told) => {
        const isListed = options.verbose || (told.why !== undefined && rejected.length < rejectedListedMax);
        if (told.why !== undefined && isListed) rejected.push(told);
        else if (told.why !== undefined) unlisted += 1;
        if (isListed && !options.json) print(sentence(told));
      };
      const total = await withService(options, (ask) =>
        addLists(ask, lists, { tell, summarize: !options.json, scheme: options.scheme }),
      );
      if (options.json) printJson({ ...total, rejected, rejectedCount: total.rejected });
      else if (unlisted > 0) print(`${unlisted} more rejected entries are not listed (--verbose lists all)`);
      if (total.read === 0 || total.rejected < total.read) return;
      throw new Refused(
        refuse("invalid-request", "No entry could be read as a proxy (expected lines like host:port)."),
      );
    });

  rangeOptions(poolCommand(proxies, "list", "list the proxies, by id"))
    .addOption(new Option("--state <state>", "only those in this state").choices(proxyStates))
    .option("--label <name=value...>", "only those with this label", readLabel)
    .action(async (options: Asked & Range & { state?: string; label?: Record<string, string> }) => {
      const filter = given({ state: options.state, labels: options.label });
      const table = new Table(["ID", "STATE", "SCORE", "LEASES", "UNTIL", "PROXY", "LABELS"], { STATE: stateColour });
      const show = (page: ProxyReply[]): void => table.print(page.map(row));
      await withService(options, (ask) => printPages<ProxyReply>(ask, { verb: "proxies.list", filter, options, show }));
    });

  addExport(proxies, withService);

  poolCommand(proxies, "get", "show one proxy")
    .argument("<id>")
    .action(async (id: string, options: Asked) => {
      printReply(options, await withService(options, (ask) => ask<ProxyReply>("proxies.get", { id })));
    });

  poolCommand(proxies, "retire", "take proxies out; their open leases stay valid, and add brings them back")
    .argument("<id...>")
    .option("--reason <text>", "why, for the ledger")
    .action((ids: string[], options: Asked & { reason?: string }) =>
      change("proxies.retire", { ids, ...given({ reason: options.reason }) }, options),
    );

  poolCommand(proxies, "rest", "let proxies rest")
    .argument("<id...>")
    .requiredOption("--for <duration>", `how long, ${durationForm}`, readDuration)
    .option("--reason <text>", "why, for the ledger")
    .action((ids: string[], options: Asked & { for: number; reason?: string }) =>
      change("proxies.rest", { ids, forMs: options.for, ...given({ reason: options.reason }) }, options),
    );

  poolCommand(proxies, "revive", "end the rest of proxies")
    .argument("<id...>")
    .action((ids: string[], options: Asked) => change("proxies.revive", { ids }, options));

  /** An unknown id is a separate refusal. The other proxies are changed all the same. */
  async function change(verb: Verb, body: { ids: string[]; forMs?: number }, options: Asked): Promise<void> {
    const reply = await withService(options, (ask) => ask<ChangedReply>(verb, body));
    const { changed, unknown } = reply;
    if (options.json) printJson(reply);
    else
      print(`${changed} changed, ${body.ids.length - changed - unknown.length} unchanged, ${unknown.length} unknown`);
    if (unknown.length === 0) return;
    throw new Refused(refuse("unknown-proxy", `The pool ${options.pool} has no proxy ${unknown.join(", ")}.`));
  }
}

/**
 * `proxies.txt:17: "1.2.3.4" has no port (expected host:port)`. For a JSON document `proxies.json[16]: …`, from 0 as in
 * jq.
 */
function sentence(told: Told): string {
  const { file, input, outcome, why } = told;
  const at = printable(file) + ("line" in told ? `:${told.line}:` : `[${told.index}]:`);
  return why === undefined ? `${at} ${input} ${outcome}` : `${at} "${input}" ${why}`;
}

function row(proxy: ProxyReply): (string | number)[] {
  const { id, state, score, openLeases, labels } = proxy;
  const until = proxy.until ?? proxy.leasableAt;
  const why = proxy.reasons === undefined ? "" : ` (${proxy.reasons.join(", ")})`;
  const rest = until === undefined ? "" : showInstant(until) + why;
  return [id, state, score, openLeases, rest, proxyUrl(proxy), labelled(labels)];
}
