// `remuda audit events`: the events of a ledger, filtered, and live if requested.
import { type Command, InvalidArgumentError } from "commander";
import { type CommitEnvelope, decodeCommit } from "../events/commit.ts";
import type { Event } from "../events/event.ts";
import { Fault } from "../runtime/fault.ts";
import { Findings } from "../services/audit/checker/finding.ts";
import { isWhole, knownTypes } from "../services/audit/checker/shape.ts";
import { placeOf } from "../services/audit/history.ts";
import { isAfter, isBefore, type Moment } from "../services/audit/moment.ts";
import type { Entry, LedgerSource } from "../services/audit/source.ts";
import { type AuditOptions, type AuditPorts, ledgerCommand, readMomentOption } from "./audit-options.ts";
import { eventLine } from "./event-line.ts";
import { print, printable, showInstant } from "./output.ts";

type EventOptions = AuditOptions & {
  type?: string[];
  proxy?: string[];
  lease?: string[];
  from?: Moment;
  to?: Moment;
  follow?: true;
};

export function addAuditEvents(audit: Command, { withLedger }: AuditPorts): void {
  ledgerCommand(audit, "events", "print events; with --json one object per line")
    .option("--type <type...>", "only of these types, such as LeaseGranted", readType)
    .option("--proxy <id...>", "only about these proxies")
    .option("--lease <id...>", "only about these leases")
    .option("--from <moment>", "from here on", readMomentOption)
    .option("--to <moment>", "up to here", readMomentOption)
    .option("--follow", "and those to come, until interrupted")
    .action((options: EventOptions) =>
      withLedger(options, async (source) => {
        if (options.follow && source.follow === undefined)
          throw new Fault("fix-setup", "a file does not grow: leave --follow out.");
        const wanted = filterOf(options);
        let seen = 0;
        for await (const batch of source.read(startOf(options))) {
          for (const entry of batch) {
            seen = entry.seq;
            if (!(await tell(entry, options, wanted))) return;
          }
        }
        if (!options.follow) return;
        await followOn(source, seen, (entry) => tell(entry, options, wanted));
      }),
    );
}

export function readType(text: string, earlier: string[] = []): string[] {
  if (knownTypes.includes(text)) return [...earlier, text];
  throw new InvalidArgumentError(`It must be an event's type: ${knownTypes.join(", ")}.`);
}

/** Sequences before the first requested one need not be read. */
function startOf({ from }: EventOptions): { seq: number } {
  return { seq: from !== undefined && "sequence" in from ? Math.max(0, from.sequence - 1) : 0 };
}

async function followOn(source: LedgerSource, seq: number, tellIt: (entry: Entry) => Promise<boolean>): Promise<void> {
  const stopping = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopping.abort());
  for await (const batch of source.follow?.({ seq }, stopping.signal) ?? []) {
    for (const entry of batch) {
      if (await tellIt(entry)) continue;
      stopping.abort();
      return;
    }
  }
}

/** False: the entry is after the range. */
async function tell(entry: Entry, options: EventOptions, wanted: (event: Event) => boolean): Promise<boolean> {
  let commit: ReturnType<typeof decodeCommit>;
  try {
    commit = decodeCommit(entry.bytes.toString("utf8"));
  } catch (cause) {
    const where = entry.line > 0 ? `line ${entry.line}` : `sequence ${entry.seq}`;
    throw new Fault("stop-damaged", `${where} is no commit. "remuda audit verify" says more.`, { cause });
  }
  const { n, at } = commit;
  const place = { at, sequence: placeOf(entry, commit) };
  if (options.to !== undefined && isAfter(options.to, place)) return false;
  if (options.from !== undefined && isBefore(options.from, place)) return true;
  const lines: string[] = [];
  for (const event of commit.events as Event[]) {
    if (!wanted(event)) continue;
    if (options.json) lines.push(JSON.stringify({ sequence: entry.seq, commit: n, at, ...event }));
    else lines.push(lineOf(commit, event));
  }
  if (lines.length === 0) return true;
  print(lines.join("\n"));
  // If the reader is slower than the ledger, output must not pile up in memory.
  if (process.stdout.writableNeedDrain)
    await new Promise<void>((resolve) => process.stdout.once("drain", () => resolve()));
  return true;
}

/** An invalid event is shown as it is. */
export function lineOf(commit: CommitEnvelope, event: Event): string {
  if (isWhole(event, new Findings(), { place: 0, strangers: new Set() })) return eventLine(commit, event, (id) => id);
  return printable(`${showInstant(commit.at)}  ${JSON.stringify(event)}`);
}

function filterOf({ type, proxy, lease }: EventOptions): (event: Event) => boolean {
  const types = type === undefined ? undefined : new Set(type);
  const proxies = proxy === undefined ? undefined : new Set(proxy);
  const leases = lease === undefined ? undefined : new Set(lease);
  return (event) =>
    (types === undefined || types.has(event.type)) &&
    (proxies === undefined || ("proxyId" in event && event.proxyId !== undefined && proxies.has(event.proxyId))) &&
    (leases === undefined || ("leaseId" in event && leases.has(event.leaseId)));
}
