// `remuda proxies …`: a pool's proxies, and manual changes to them.
import { type Command, Option } from "commander";
import { listSchemes, proxyStates } from "../events/words.ts";
import { maskedUrl } from "../lists/address.ts";
import { given } from "../protocol/given.ts";
import type { ChangedReply, ListScheme, ProxyReply } from "../protocol/proxy.ts";
import { refuse } from "../protocol/refusal.ts";
import type { Verb } from "../protocol/verbs.ts";
import { printable } from "../runtime/text.ts";
import { type Asked, durationForm, poolCommand, readDuration, readLabel } from "./arguments.ts";
import { stateColour } from "./colour.ts";
import type { WithService } from "./connection.ts";
import { labelled } from "./event-line.ts";
import { addExport } from "./export.ts";
import { Refused } from "./failure.ts";
import { type Column, type Order, printer, sorted, sortOption } from "./list.ts";
import type { Tell, Told } from "./lists.ts";
import { print, printJson, printReply, relativeTo } from "./output.ts";
import { printPages, type Range, rangeOptions } from "./pages.ts";

interface ListOptions extends Asked, Range {
  state?: string;
  label?: Record<string, string>;
  text?: string;
  bad?: true;
  sort?: Order;
}

/** A file that is not a list may have a million rejected entries. */
const rejectedListedMax = 1000;

export function addProxies(program: Command, withService: WithService): void {
  const proxies = program.command("proxies").description("add, list and change proxies");

  poolCommand(
    proxies,
    "add",
    "add proxies from lists of lines (host:port, host:port:user:pass, scheme://user:pass@host:port …), CSV or JSON",
  )
    .argument("[file...]", "the lists (default, and -: the standard input)")
    .addOption(
      new Option("--scheme <scheme>", "the scheme of entries without one (default: http)").choices(listSchemes),
    )
    .option("--verbose", "print the result of every entry, not only of rejected ones")
    .action(async (files: string[], options: Asked & { verbose?: true; scheme?: ListScheme }) => {
      const { addLists, openLists } = await import("./lists.ts"); // Of these commands, only this one reads lists.
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
      else if (unlisted > 0) print(`${unlisted} more rejected entries (--verbose lists all)`);
      if (total.read === 0 || total.rejected < total.read) return;
      throw new Refused(
        refuse("invalid-request", "No entry could be read as a proxy (expected lines like host:port)."),
      );
    });

  sortOption(rangeOptions(poolCommand(proxies, "list", "list the proxies, by id")), columns)
    .addOption(new Option("--state <state>", "only proxies in this state").choices(proxyStates))
    .option("--label <name=value...>", "only proxies with this label", readLabel)
    .option("--text <part>", "only proxies with this part in the address, the exit, the id or a label's value")
    .option("--bad", "only proxies that fail: a score below 0, failures in a row, or a rest after failures")
    .action(async (options: ListOptions) => {
      const { bad, sort } = options;
      const filter = given({ state: options.state, labels: options.label, text: options.text });
      const order = sort ?? (bad && worstFirst);
      const arrange = order && ((all: ProxyReply[]) => sorted(bad ? all.filter(isBad) : all, columns, order));
      const list = { verb: "proxies.list", filter, options, show: printer(columns), arrange } as const;
      await withService(options, (ask) => printPages<ProxyReply>(ask, list));
    });

  addExport(proxies, withService);

  poolCommand(proxies, "get", "show one proxy")
    .argument("<id>")
    .action(async (id: string, options: Asked) => {
      printReply(options, await withService(options, (ask) => ask<ProxyReply>("proxies.get", { id })));
    });

  poolCommand(proxies, "retire", "take proxies out of the pool until they are added again; open leases stay valid")
    .argument("<id...>")
    .option("--reason <text>", "a reason to record in the ledger")
    .action((ids: string[], options: Asked & { reason?: string }) =>
      change("proxies.retire", { ids, ...given({ reason: options.reason }) }, options),
    );

  poolCommand(proxies, "rest", "start a rest (cooldown) of proxies")
    .argument("<id...>")
    .requiredOption("--for <duration>", `the length of the rest, ${durationForm}`, readDuration)
    .option("--reason <text>", "a reason to record in the ledger")
    .action((ids: string[], options: Asked & { for: number; reason?: string }) =>
      change("proxies.rest", { ids, forMs: options.for, ...given({ reason: options.reason }) }, options),
    );

  poolCommand(proxies, "revive", "end the rest (cooldown) of proxies")
    .argument("<id...>")
    .action((ids: string[], options: Asked) => change("proxies.revive", { ids }, options));

  /** The known proxies are changed. The unknown ones are refused afterwards. */
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

const untilOf = ({ until, leasableAt }: ProxyReply): number | undefined => until ?? leasableAt;

const columns: readonly Column<ProxyReply>[] = [
  { name: "ID", cell: ({ id }) => id },
  { name: "STATE", cell: ({ state }) => state, colour: stateColour },
  { name: "SCORE", cell: ({ score }) => score },
  { name: "LEASES", cell: ({ openLeases }) => openLeases },
  { name: "UNTIL", cell: (proxy) => relativeTo(untilOf(proxy)), by: untilOf },
  { name: "PROXY", cell: maskedUrl },
  { name: "WHY", cell: ({ reasons }) => reasons?.join(", ") },
  { name: "LABELS", cell: ({ labels }) => labelled(labels) },
];

const worstFirst: Order = { column: "score", isReverse: false };
const afterFailures = ["backoff", "streak", "failures"];

function isBad({ state, score, streak, reasons = [] }: ProxyReply): boolean {
  if (state === "retired") return false;
  return score < 0 || streak > 0 || reasons.some((reason) => afterFailures.includes(reason));
}
