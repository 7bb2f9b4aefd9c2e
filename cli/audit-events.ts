// `remuda audit events`: the events of a ledger, filtered, and live if requested.
import { type Command, InvalidArgumentError } from "commander";
import type { CommitEnvelope } from "../events/commit.ts";
import type { Event } from "../events/event.ts";
import { printable, showInstant } from "../runtime/text.ts";
import { Findings } from "../services/audit/checker/finding.ts";
import { isWhole, knownTypes } from "../services/audit/checker/shape.ts";
import { documentOf, eventsIn } from "../services/audit/columns.ts";
import { type AuditOptions, type AuditPorts, rangeCommand } from "./audit-options.ts";
import { eventLine } from "./event-line.ts";
import { toStdout } from "./output.ts";

type EventOptions = AuditOptions & {
  type?: string[];
  proxy?: string[];
  lease?: string[];
  by?: string[];
  follow?: true;
};

export function addAuditEvents(audit: Command, { withLedger }: AuditPorts): void {
  rangeCommand(audit, "events", "print events; with --json, one object per line")
    .option("--type <type...>", "only events of these types, such as LeaseGranted", readType)
    .option("--proxy <id...>", "only events of these proxies")
    .option("--lease <id...>", "only events of these leases")
    .option("--by <user...>", "only events that these users caused, leases included")
    .option("--follow", "also print new events, until Ctrl-C")
    .action((options: EventOptions) =>
      withLedger(options, async (source) => {
        const stopping = new AbortController();
        const follow = options.follow ? stopping.signal : undefined;
        if (follow) for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopping.abort());
        const types = options.type && new Set(options.type);
        for await (const batch of eventsIn(source, { ...options, types }, { follow })) {
          const lines = batch
            .filter(({ event }) => isAbout(event, options))
            .map((found) => (options.json ? JSON.stringify(documentOf(found)) : lineOf(found.commit, found.event)));
          if (lines.length > 0) await toStdout(`${lines.join("\n")}\n`);
        }
      }),
    );
}

export function readType(text: string, earlier: string[] = []): string[] {
  if (knownTypes.includes(text)) return [...earlier, text];
  throw new InvalidArgumentError(`It must be an event's type: ${knownTypes.join(", ")}.`);
}

/** An event with missing or wrong fields is shown as it is. */
export function lineOf(commit: CommitEnvelope, event: object): string {
  if (isWhole(event, new Findings(), { place: 0, strangers: new Set() })) return eventLine(commit, event, (id) => id);
  return printable(`${showInstant(commit.at)}  ${JSON.stringify(event)}`);
}

function isAbout(
  { proxyId, leaseId, ...who }: Partial<Event & { proxyId: string; leaseId: string; by: string; user: string }>,
  options: EventOptions,
) {
  const { proxy, lease, by } = options;
  const user = who.by ?? who.user;
  return (
    (proxy === undefined || (proxyId !== undefined && proxy.includes(proxyId))) &&
    (lease === undefined || (leaseId !== undefined && lease.includes(leaseId))) &&
    (by === undefined || (user !== undefined && by.includes(user)))
  );
}
