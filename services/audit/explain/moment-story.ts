// Which proxies could be leased at a moment, and why others could not: the state of the pool, the limits that held each
// proxy back, the refused requests, the last lease before and the first one after.

import type { LeaseGranted, RecordedRequest, RequestsRefused } from "../../../events/lease.ts";
import type { LeaderClaimed, PoolClosed } from "../../../events/pool.ts";
import { counted, nameCounts, printable, showInstant } from "../../../runtime/text.ts";
import type { CandidateIndex } from "../../../state-machines/candidates/candidate-index.ts";
import { Candidates } from "../../../state-machines/candidates/candidates.ts";
import { isResting } from "../../../state-machines/candidates/group.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import { holding, isFree } from "./proxy-story.ts";
import { byWhom, listed, requested, span } from "./words.ts";

const proxiesTold = 20;
const refusalsTold = 10;

interface Found<Event> {
  at: number;
  n: number;
  event: Event;
}

export interface Around {
  from: number;
  /** Inclusive. */
  to: number;
  /** Leases granted from `from` to `to`. */
  granted: number;
  refused: Found<RequestsRefused>[];
  before: Found<LeaseGranted> | undefined;
  after: Found<LeaseGranted> | undefined;
  /** The last closing of the pool before `to`. */
  closed: Found<PoolClosed> | undefined;
  /** Leaders that took over at about that time, and when the commit before was. */
  claims: (Found<LeaderClaimed> & { quietSince: number })[];
}

/** @param state at the beginning, or at the first refusal. */
export function momentStory(state: PoolState, around: Around): string[] {
  const { refused, before, after } = around;
  const first = refused.find(({ event }) => event.code === "pool-exhausted") ?? refused[0];
  const lines = [...summary(around), ...pool(state, around, first?.at === state.at ? first.n : undefined)];
  if (state.opened && !state.draining) lines.push(...offered(state, first?.event.request));
  lines.push(...refusals(around));
  for (const { at, n, event, quietSince } of around.claims)
    lines.push(
      `${printable(event.leader)} took over as leader at ${showInstant(at)} (commit ${n}); the previous commit was ${span(Math.max(0, at - quietSince))} earlier. Without a leader no request is served, and nothing is recorded.`,
    );
  if (before !== undefined)
    lines.push(
      `The last lease before was ${before.event.leaseId} on ${before.event.proxyId}, at ${showInstant(before.at)} (commit ${before.n}).`,
    );
  // Grants within the time itself are counted above, and are neither before nor after.
  const since = around.granted > 0 ? `After ${showInstant(around.to)}` : undefined;
  if (after !== undefined)
    lines.push(
      `${since === undefined ? "The" : `${since} the`} next one was ${after.event.leaseId} on ${after.event.proxyId}, at ${showInstant(after.at)} (commit ${after.n}).`,
    );
  else lines.push(since === undefined ? "No lease was granted later." : `${since} no lease was granted.`);
  return lines;
}

function summary({ from, to, granted, refused }: Around): string[] {
  if (to - from < 1000) return [];
  const codes = new Map<string, number>();
  for (const { event } of refused) codes.set(event.code, (codes.get(event.code) ?? 0) + event.count);
  const all = [...codes.values()].reduce((sum, count) => sum + count, 0);
  const why = [...codes].map(([code, count]) => `${code} ${count}`).join(", ");
  return [
    `From ${showInstant(from)} to ${showInstant(to)}: ${counted(granted, "lease")} granted, ${counted(all, "request", "requests")} refused${why === "" ? "" : ` (${why})`}.`,
  ];
}

function pool(state: PoolState, { closed }: Around, refusedIn: number | undefined): string[] {
  const counts = Object.entries(state.byState).filter(([, count]) => count > 0);
  const proxies = counts.length === 0 ? "it had no proxies" : listed(counts.map(([name, count]) => `${count} ${name}`));
  const when = refusedIn === undefined ? `after commit ${state.commits}` : `when commit ${refusedIn} recorded refusals`;
  const open = `${counted(state.leases.size, "open lease")}`;
  const since =
    closed === undefined ? "" : ` since ${showInstant(closed.at)}${byWhom(closed.event)} (commit ${closed.n})`;
  if (!state.opened)
    return [`At ${showInstant(state.at)}, ${when}, the pool was closed${since}, so no request could be served.`];
  const closing = state.draining ? `closing${since}, so no more leases were granted` : "open";
  return [`At ${showInstant(state.at)}, ${when}, the pool was ${closing}: ${proxies}; ${open}.`];
}

/** For the refused request if it was recorded; otherwise for a request of one use. */
function offered(state: PoolState, request: RecordedRequest | undefined): string[] {
  const { labels, schemes, minUses = 1 } = request ?? {};
  const index = new Candidates(state).indexFor({ labels, schemes, minUses });
  if (index === undefined) return [];
  const excluded = new Set(request?.exclude);
  const whose =
    request === undefined ? "A lease request for one use, without other conditions," : "The refused request";
  const asked = request === undefined ? "" : ` (${requested(request, state.rules.policy)})`;
  if (index.size === 0) return [`${whose}${asked} matched no proxy of the pool, resting or not.`];
  const held = nameCounts({ ...index.held, exclude: index.excludedMatches(excluded) });
  const matching = [...state.proxies.values()].filter((proxy) => index.matches(proxy));
  const heldOnes = matching.filter((proxy) => excluded.has(proxy.id) || !isFree(state, proxy, minUses));
  const free = matching.length - heldOnes.length;
  const lines = [
    `${whose}${asked} matched ${counted(index.size, "proxy", "proxies")}, and ${free === 0 ? "none" : free} of them could be leased.${held === "" ? "" : ` Held back by: ${held}${reasonsOf(state, index)}. One proxy may be held back by several.`}`,
  ];
  const from = free > 0 ? Infinity : index.leasableAt(excluded);
  if (from !== Infinity)
    lines.push(
      `If nothing more had been reported, released or granted, the first could have been leased from ${showInstant(from)} on.`,
    );
  for (const proxy of heldOnes.slice(0, proxiesTold)) {
    const why = [...holding(state, proxy, minUses), ...(excluded.has(proxy.id) ? ["the request excluded it"] : [])];
    lines.push(`  ${proxy.id}: ${why.join("; ")}`);
  }
  if (heldOnes.length > proxiesTold)
    lines.push(`  … and ${heldOnes.length - proxiesTold} more (audit state --at … shows all)`);
  return lines;
}

function reasonsOf(state: PoolState, index: CandidateIndex): string {
  const reasons = new Map<string, number>();
  for (const proxy of state.proxies.values()) {
    if (!isResting(proxy) || !index.matches(proxy)) continue;
    for (const reason of proxy.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  const all = [...reasons].sort(([a], [b]) => (a < b ? -1 : 1)).map(([reason, count]) => `${reason} ${count}`);
  return all.length === 0 ? "" : ` (resting for: ${all.join(", ")})`;
}

/** Aggregated in the ledger, up to a second after the refusals. */
function refusals({ refused }: Around): string[] {
  if (refused.length === 0) return ["No refused request is recorded then."];
  const lines = refused.slice(0, refusalsTold).map(({ at, n, event }) => {
    const { code, count, limitedBy, request } = event;
    const held = nameCounts(limitedBy ?? {});
    const asked =
      request === undefined ? "" : `; the last one requested ${requested(request, { lease: { ttlMs: 0 } })}`;
    const by = held === "" ? "" : `; held back by: ${held}`;
    return printable(
      `Recorded at ${showInstant(at)} (commit ${n}): ${counted(count, "request", "requests")} refused as ${code}${asked}${by}.`,
    );
  });
  if (refused.length > refusalsTold) lines.push(`… and ${refused.length - refusalsTold} more such records.`);
  return lines;
}
