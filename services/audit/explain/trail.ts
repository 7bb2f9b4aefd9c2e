// The trail of one proxy or lease through a ledger: the commits that name it. They are found by their bytes, so that
// the other commits need not be decoded. It is bounded: only the last part of a long trail is kept.
import type { CommitEnvelope } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import type { LeaseGranted } from "../../../events/lease.ts";
import { defaultPolicy, type Policy } from "../../../events/policy.ts";
import { decoded, placeOf } from "../history.ts";
import { isAfter, type Moment } from "../moment.ts";
import type { LedgerSource } from "../source.ts";

export interface Step {
  n: number;
  sequence: number;
  at: number;
  /** Of the event in its commit. */
  place: number;
  event: Event;
  /** The commit that holds it, if it is the grant of the lease in question or a rest that began. All need much memory. */
  commit: CommitEnvelope | undefined;
  /** The policy in force then. */
  policy: Policy;
}

/** The grant of the lease in question. */
export type Granted = Step & { event: LeaseGranted; commit: CommitEnvelope };

export interface Trail {
  /** Up to the moment, oldest first; only the last part if there are too many. */
  before: Step[];
  /** The first few after it. */
  after: Step[];
  /** True if `before` had more steps than are kept. */
  isCut: boolean;
}

const keptBefore = 5000;
const keptAfter = 20;

/**
 * @param id of a proxy or lease.
 * @param to undefined: the end of the ledger.
 */
export async function trailOf(
  source: LedgerSource,
  id: string,
  given: { to: Moment | undefined; onProgress?: ((done: number) => void) | undefined },
): Promise<Trail> {
  const trail: Trail = { before: [], after: [], isCut: false };
  const wanted = Buffer.from(JSON.stringify(id));
  const ruled = Buffer.from('"policy":{');
  let policy: Policy = defaultPolicy;
  for await (const batch of source.read()) {
    for (const entry of batch) {
      const isRuled = entry.bytes.includes(ruled);
      if (!isRuled && !entry.bytes.includes(wanted)) continue;
      const commit = decoded(source, entry);
      const place = { at: commit.at, sequence: placeOf(entry, commit) };
      const isLater = given.to !== undefined && isAfter(given.to, place);
      for (const [i, event] of (commit.events as Event[]).entries()) {
        if (event.type === "PoolOpened" || event.type === "PolicyChanged") policy = event.policy;
        if (!concerns(event, id)) continue;
        const kept = isToldWithCommit(event, id) ? commit : undefined;
        const step = { n: commit.n, sequence: entry.seq, at: commit.at, place: i, event, commit: kept, policy };
        if (!isLater) trail.before.push(step);
        else if (trail.after.length < keptAfter) trail.after.push(step);
      }
      if (trail.before.length > 2 * keptBefore) {
        trail.before = trail.before.slice(-keptBefore);
        trail.isCut = true;
      }
      if (trail.after.length >= keptAfter) return trail;
    }
    given.onProgress?.(source.done);
  }
  return trail;
}

function isToldWithCommit(event: Event, id: string): boolean {
  return event.type === "RestBegan" || (event.type === "LeaseGranted" && event.leaseId === id);
}

function concerns(event: Event, id: string): boolean {
  return ("proxyId" in event && event.proxyId === id) || ("leaseId" in event && event.leaseId === id);
}
