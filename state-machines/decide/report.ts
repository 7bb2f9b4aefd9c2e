// The ingest of an outcome: once per use, in the order of the stream. It ends the use, and moves the use's slot to the
// instant at which the target must have seen the request. It changes score and streak, and may begin a rest.

import type { OutcomeClass, WhyIgnored } from "../../events/outcome.ts";
import { mayArriveLate } from "../../events/policy.ts";
import { tokenIdPattern } from "../../events/token.ts";
import type { Outcome } from "../../protocol/outcome.ts";
import { hostOf } from "../../protocol/target.ts";
import type { Lease } from "../fold/state.ts";
import { graceOf, isReported } from "../fold/uses.ts";
import { classify } from "../policy/classify.ts";
import { belongsTo, closeWhenDone } from "./lease.ts";
import { restAfterOutcome, restWhenSpent } from "./rest.ts";
import { reject } from "./token.ts";
import type { Turn } from "./turn.ts";

/** A worker that numbers uses far beyond those granted does not count uses at all. */
const overUsesMax = 1000;

type Ingested = { ignored: WhyIgnored; leaseId: string; n: number } | { lease: Lease };

/**
 * @param storedAt when the broker stored it. For an outcome that was sent as a request: the turn's time.
 * @param owner the user whose lease it must be. Absent: it may be any lease.
 */
export function ingest(turn: Turn, outcome: Outcome, storedAt: number, owner?: string): Ingested {
  const { state } = turn;
  const lease = state.leases.get(outcome.leaseId) ?? state.closedLeases.get(outcome.leaseId);
  const n = outcome.n ?? (lease?.uses === 1 ? 1 : 0);
  const ignored = (why: WhyIgnored): Ingested => ({ ignored: why, leaseId: outcome.leaseId, n });
  if (lease === undefined || !belongsTo(lease, owner)) return ignored("unknown-lease");
  if (n === 0) return ignored("n-missing");
  if (n > lease.uses + overUsesMax) return ignored("n-too-large");
  if (isReported(lease, n)) {
    // A duplicate outcome may be the one that marks the use as the last.
    if (outcome.final === true) closeWhenDone(turn, lease, { final: true });
    restWhenSpent(turn, lease.exit);
    return ignored("duplicate");
  }
  const { policy } = state.rules;
  const kind = classify(policy, outcome);
  if (kind === undefined) {
    // Such an outcome has no result. It says only that the use was made, and perhaps that it was the last.
    if (outcome.final === true) closeWhenDone(turn, lease, { final: true, made: n });
    restWhenSpent(turn, lease.exit);
    return ignored("no-result");
  }
  record(turn, lease, outcome, { n, kind, storedAt });
  const { proxy } = lease;
  // In the same commit, so that the next request is not given that token again.
  const tokenId = outcome.tokenRejected === true ? (outcome.tokenId ?? lease.token?.tokenId) : undefined;
  if (tokenId !== undefined) reject(turn, { tokenId, proxyId: proxy.id });
  closeWhenDone(turn, lease, { final: outcome.final === true });
  restAfterOutcome(turn, proxy, {
    class: kind,
    counts: policy.outcomes[kind].counts,
    retryAfterMs: outcome.retryAfterMs,
    isCurrent: lease.epoch === proxy.epoch,
  });
  restWhenSpent(turn, lease.exit);
  return { lease };
}

function record(
  turn: Turn,
  lease: Lease,
  outcome: Outcome,
  read: { n: number; kind: OutcomeClass; storedAt: number },
): void {
  const { proxy } = lease;
  const { policy } = turn.state.rules;
  const graceMs = graceOf(turn.state, lease);
  const rule = policy.outcomes[read.kind];
  const succeeded = read.kind === "success";
  const current = lease.epoch === proxy.epoch;
  const usesGranted = lease.closed?.used ?? lease.uses;
  const over = read.n > usesGranted;
  const late = read.storedAt > lease.expiresAt + graceMs;
  // By the time its outcome is ingested, the target has seen the request. A request that failed on its way may still
  // arrive.
  const arrivesBy = turn.at + (mayArriveLate.some((reason) => reason === read.kind) ? graceMs : 0);
  const target = hostOf(outcome.target) ?? lease.request?.target;
  const error =
    outcome.error !== undefined && /^[A-Za-z][A-Za-z0-9_]{0,63}$/.test(outcome.error) ? outcome.error : undefined;
  turn.emit({
    type: "UseReported",
    leaseId: lease.id,
    n: read.n,
    proxyId: proxy.id,
    class: read.kind,
    result: succeeded ? "success" : rule.counts || rule.score < 0 ? "failure" : "neutral",
    ...(rule.counts && { counts: true }),
    score: Math.min(policy.score.max, Math.max(policy.score.min, proxy.score + rule.score)),
    streak: !current ? proxy.streak : succeeded ? 0 : proxy.streak + (rule.counts ? 1 : 0),
    ...((lease.slots > 0 || over) && { slotAt: arrivesBy }),
    storedAt: read.storedAt,
    ...(outcome.status !== undefined && { status: outcome.status }),
    ...(error !== undefined && { error }),
    ...(outcome.latencyMs !== undefined && { latencyMs: Math.round(outcome.latencyMs) }),
    ...(outcome.bytes !== undefined && { bytes: Math.round(outcome.bytes) }),
    ...(target !== undefined && { target }),
    ...(outcome.retryAfterMs !== undefined && { retryAfterMs: outcome.retryAfterMs }),
    ...(outcome.tokenRejected === true && { tokenRejected: true }),
    ...(outcome.tokenId !== undefined && tokenIdPattern.test(outcome.tokenId) && { tokenId: outcome.tokenId }),
    ...(outcome.counted !== undefined && { counted: outcome.counted }),
    ...(outcome.final === true && { final: true }),
    ...(late && { late: true }),
    ...(over && { over: true }),
  });
}
