// An observer's verdict on a run. It knows the requests that the target saw, the answers to the workers and the ledger.
// It knows nothing of how the service decides.

import { createHash } from "node:crypto";
import type { CommitEnvelope } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import type { RawNats } from "../kit/raw-nats.ts";
import { type Arrival, maxInAnyWindow } from "../kit/target.ts";
import type { Held, Seen } from "./exactness-worker.ts";

export interface Rules {
  limit: number;
  windowMs: number;
  concurrency: number;
  graceMs: number;
  exits: number;
}

/** `bytes` as stored; `events` as read. */
export interface Stored {
  seq: number;
  bytes: Buffer;
  commit: Omit<CommitEnvelope, "events"> & { events: Event[] };
}

export interface Evidence {
  rules: Rules;
  /** Instants by CLOCK_MONOTONIC. */
  arrivals: readonly Arrival[];
  seen: Seen;
  ledger: readonly Stored[];
  /** Wall clock minus monotonic clock, for telling instants. */
  wallMs: number;
}

export interface Verdict {
  /** Sentences, each with its evidence. If empty, the promise was kept. */
  faults: string[];
  granted: number;
  /** The most arrivals in any window: at the exit with the most, and at the exit with the fewest. */
  most: number;
  least: number;
  /** Acknowledged by the stream, but missing from the ledger. */
  outcomesLost: number;
  /** The latest arrival after its lease's end by its worker's clock, ms. */
  latestMs: number;
}

const readAtOnce = 64;
const faultsOfAKindMax = 5;

/** All commits of a pool, as stored. */
export async function readLedger(nats: RawNats, pool: string): Promise<Stored[]> {
  const subject = `remuda.ledger.${pool}`;
  const call = async <T>(name: string, body: object): Promise<T> => {
    const answer = await nats.request(`$JS.API.${name}`, JSON.stringify(body));
    return answer.json<T>();
  };
  const { streams } = await call<{ streams: string[] }>("STREAM.NAMES", { subject });
  const stream = streams[0];
  const { state } = await call<{ state: { last_seq: number } }>(`STREAM.INFO.${stream}`, {});
  const stored: Stored[] = [];
  for (let from = 1; from <= state.last_seq; from += readAtOnce) {
    const seqs = Array.from({ length: Math.min(readAtOnce, state.last_seq - from + 1) }, (_, i) => from + i);
    const answers = await Promise.all(
      seqs.map((seq) =>
        call<{ message: { subject: string; seq: number; data: string } }>(`STREAM.MSG.GET.${stream}`, { seq }),
      ),
    );
    for (const { message } of answers) {
      if (message.subject !== subject) continue;
      const bytes = Buffer.from(message.data, "base64");
      stored.push({ seq: message.seq, bytes, commit: JSON.parse(bytes.toString()) });
    }
  }
  return stored;
}

export function verdictOf(evidence: Evidence): Verdict {
  const { rules, arrivals, seen, ledger } = evidence;
  const book = readBook(ledger);
  const byExit = groupByExit(arrivals);
  const maxima = [...byExit.values()].map((some) =>
    maxInAnyWindow(
      some.map(({ at }) => at),
      rules.windowMs,
    ),
  );
  const reported = seen.held.filter(({ acked }) => acked.includes("report"));
  const published = seen.held.filter(({ acked }) => acked.includes("stream"));
  const latestMs = Math.max(...seen.held.map(({ answeredAt, deadline }) => (answeredAt ?? 0) - deadline));
  return {
    faults: [
      ...atMost(chainFaults(ledger)),
      ...atMost([...byExit].flatMap(([exit, some]) => rateFaults(exit, some, evidence, book))),
      ...[...byExit].flatMap(([exit, some]) => idleFaults(exit, some, evidence)),
      ...(byExit.size === rules.exits ? [] : [`${byExit.size} exits were used, there are ${rules.exits}`]),
      ...atMost(openFaults(ledger, rules)),
      ...atMost(heldFaults(seen.held, rules)),
      ...atMost(seen.held.flatMap((held) => leaseFaults(held, book))),
      ...atMost(requestFaults(ledger)),
      ...atMost(
        reported
          .filter(({ lease }) => !book.reported.has(lease.leaseId))
          .map(({ lease }) => `the report of ${lease.leaseId} was acknowledged and is not in the ledger`),
      ),
    ],
    granted: book.granted.size,
    most: Math.max(0, ...maxima),
    least: Math.min(...maxima, rules.limit),
    outcomesLost: published.filter(({ lease }) => !book.reported.has(lease.leaseId)).length,
    latestMs,
  };
}

type Granted = Extract<Event, { type: "LeaseGranted" }> & { at: number; seq: number };
interface Book {
  granted: Map<string, Granted>;
  reported: Set<string>;
  /** The ledger's account of each lease, in words. */
  told: Map<string, string[]>;
}

function readBook(ledger: readonly Stored[]): Book {
  const book: Book = { granted: new Map(), reported: new Set(), told: new Map() };
  for (const { seq, commit } of ledger) {
    const { at, term } = commit;
    for (const event of commit.events) {
      if (!("leaseId" in event)) continue;
      if (event.type === "LeaseGranted") book.granted.set(event.leaseId, { ...event, at, seq });
      if (event.type === "UseReported") book.reported.add(event.leaseId);
      const told = book.told.get(event.leaseId) ?? [];
      const more = "slotAt" in event ? ` slotAt ${event.slotAt}` : "";
      told.push(`${event.type} at ${at} (seq ${seq}, term ${term})${more}`);
      book.told.set(event.leaseId, told);
    }
  }
  return book;
}

/** Numbers from 1 without a gap, each commit naming the previous one by its hash, and time that never goes back. */
function chainFaults(ledger: readonly Stored[]): string[] {
  const faults: string[] = [];
  let prev = "";
  let last = { n: 0, at: 0, term: 0 };
  for (const { seq, bytes, commit } of ledger) {
    if (commit.n !== last.n + 1) faults.push(`sequence ${seq}: commit ${commit.n} follows commit ${last.n}`);
    if (commit.prev !== prev) faults.push(`sequence ${seq}: prev is not the hash of the commit before it`);
    if (commit.at < last.at || commit.term < last.term) {
      faults.push(`sequence ${seq}: goes back from ${JSON.stringify(last)} to ${commit.at}, term ${commit.term}`);
    }
    prev = createHash("sha256").update(bytes).digest("base64url");
    last = commit;
  }
  return faults;
}

/** The first window with too many arrivals, with the whole story of each request in it. */
function rateFaults(exit: string, arrivals: readonly Arrival[], evidence: Evidence, book: Book): string[] {
  const { rules, seen, wallMs } = evidence;
  const instants = arrivals.map(({ at }) => at).sort((a, b) => a - b);
  const end = instants.findIndex((at, i) => i >= rules.limit && at - instants[i - rules.limit]! < rules.windowMs);
  if (end === -1) return [];
  const over = instants.slice(end - rules.limit, end + 1);
  const stories = over.map((at) => {
    const leases = seen.held.filter(
      (held) => held.exit === exit && (held.wroteAt ?? Infinity) <= at && at <= (held.answeredAt ?? 0),
    );
    const told = leases.map(({ lease, conduct, deadline }) => {
      const overMs = Math.round(at - deadline);
      const whose =
        overMs > rules.graceMs ? "; later than the grace: not the service's fault, this machine stalled" : "";
      return `${lease.leaseId} (${conduct}; ${overMs} ms after its end${whose}): ${book.told.get(lease.leaseId)?.join(", ")}`;
    });
    return `\n    ${Math.round(at + wallMs)} ${told.join(" or ")}`;
  });
  const span = (over.at(-1)! - over[0]!).toFixed(1);
  return [`exit ${exit}: ${over.length} requests reached the target within ${span} ms:${stories.join("")}`];
}

/** A limit that is never reached proves nothing. */
function idleFaults(exit: string, arrivals: readonly Arrival[], { rules, seen }: Evidence): string[] {
  const instants = arrivals.map(({ at }) => at).sort((a, b) => a - b);
  const most = maxInAnyWindow(instants, rules.windowMs);
  if (most >= rules.limit) return [];
  const unused = seen.held.filter((held) => held.exit === exit && held.answeredAt === undefined);
  const first = instants[0] ?? 0;
  const told = unused.map(({ conduct, gotAt }) => `${conduct} at ${Math.round(gotAt - first)}`);
  return [
    `exit ${exit} never reached ${rules.limit}: at most ${most} in a window; requests at ` +
      `${instants.map((at) => Math.round(at - first)).join(" ")}; leases without one: ${told.join(", ") || "none"}`,
  ];
}

/** By the ledger, a lease is open between its LeaseGranted and its LeaseClosed. */
function openFaults(ledger: readonly Stored[], rules: Rules): string[] {
  const faults: string[] = [];
  const exits = new Map<string, string>();
  const open = new Map<string, Set<string>>();
  for (const { seq, commit } of ledger) {
    for (const event of commit.events) {
      if (event.type === "ProxyAdded") exits.set(event.proxyId, event.labels["exit"] ?? event.host);
      if (event.type !== "LeaseGranted" && event.type !== "LeaseClosed") continue;
      const exit = exits.get(event.proxyId) ?? "unknown";
      const there = open.get(exit) ?? new Set();
      open.set(exit, there);
      if (event.type === "LeaseClosed") {
        if (!there.delete(event.leaseId)) faults.push(`sequence ${seq}: ${event.leaseId} is closed and was not open`);
        continue;
      }
      there.add(event.leaseId);
      if (there.size > rules.concurrency) {
        faults.push(`sequence ${seq}: exit ${exit} has ${there.size} open leases: ${[...there].join(", ")}`);
      }
    }
  }
  return faults;
}

/** By the workers, a lease is held from its answer until it reports, or until the lease ends by the worker's clock. */
function heldFaults(held: readonly Held[], rules: Rules): string[] {
  return [...groupByExit(held)].flatMap(([exit, leases]) => {
    const ends = (one: Held) => Math.min(one.deadline, one.endedAt ?? Infinity);
    return leases.flatMap(({ gotAt, lease }) => {
      const together = leases.filter((other) => other.gotAt <= gotAt && gotAt < ends(other));
      if (together.length <= rules.concurrency) return [];
      const names = together.map((other) => `${other.lease.leaseId} until ${ends(other)}`);
      return [`exit ${exit}: when ${lease.leaseId} came at ${gotAt}, workers held ${names.join(", ")}`];
    });
  });
}

/** Each answer is in the ledger, word for word. */
function leaseFaults({ lease, requestId }: Held, book: Book): string[] {
  const { leaseId, proxyId, uses, epoch, expiresAt, grantedAt } = lease;
  const granted = book.granted.get(leaseId);
  if (granted === undefined) return [`${leaseId} was answered and is not in the ledger`];
  const answered = { proxyId, uses, epoch, expiresAt, at: grantedAt, requestId };
  const stored = {
    proxyId: granted.proxyId,
    uses: granted.uses,
    epoch: granted.epoch,
    expiresAt: granted.expiresAt,
    at: granted.at,
    requestId: granted.request.requestId,
  };
  if (JSON.stringify(answered) === JSON.stringify(stored)) return [];
  return [`${leaseId} was answered as ${JSON.stringify(answered)} and stored as ${JSON.stringify(stored)}`];
}

/** A lease request that is repeated while its lease is open gets no second lease. */
function requestFaults(ledger: readonly Stored[]): string[] {
  const faults: string[] = [];
  const open = new Map<string, string>();
  const requests = new Map<string, string>();
  for (const { seq, commit } of ledger) {
    for (const event of commit.events) {
      if (event.type === "LeaseClosed") open.delete(requests.get(event.leaseId) ?? "");
      if (event.type !== "LeaseGranted" || event.request.requestId === undefined) continue;
      const first = open.get(event.request.requestId);
      if (first !== undefined)
        faults.push(`sequence ${seq}: ${first} and ${event.leaseId} were granted to one request`);
      open.set(event.request.requestId, event.leaseId);
      requests.set(event.leaseId, event.request.requestId);
    }
  }
  return faults;
}

function groupByExit<T extends { readonly exit: string }>(all: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const one of all) {
    const group = groups.get(one.exit);
    if (group === undefined) groups.set(one.exit, [one]);
    else group.push(one);
  }
  return groups;
}

function atMost(faults: readonly string[]): string[] {
  const more = faults.length - faultsOfAKindMax;
  return more <= 0 ? [...faults] : [...faults.slice(0, faultsOfAKindMax), `… and ${more} more like these`];
}
