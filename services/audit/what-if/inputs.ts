// What was asked of a pool, read back from what was decided: each input is a command as somebody gave it (a wish, an outcome,
// a release) or something that time brought about. What only followed from an input is none itself: who decides again finds
// it again. Refused wishes are recorded by number alone and cannot be read back.
import type { Event } from "../../../events/event.ts";
import type { LeaseGranted } from "../../../events/lease.ts";
import type { UseReported } from "../../../events/outcome.ts";
import type { Policy } from "../../../events/policy.ts";
import type { ProxyAdded, ProxyChanged, RestBegan } from "../../../events/proxy.ts";
import type { TokenRequested } from "../../../events/token.ts";
import type { LeaseRequest } from "../../../protocol/lease.ts";
import type { Outcome } from "../../../protocol/outcome.ts";
import { strategies } from "../../../state-machines/candidates/strategies.ts";
import type { Drawn } from "../../../state-machines/decide/lease.ts";
import type { Newcomer } from "../../../state-machines/decide/proxy.ts";
import { usesSinceRestOf } from "../../../state-machines/fold/past.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";

export type Input =
  /** Recorded as it is: nothing is decided in it. */
  | { kind: "fact"; event: Event }
  | { kind: "wish"; leaseId: string; wish: LeaseRequest; drawn: DrawnBy | undefined }
  /** Its lease, and that it was begun: nothing is decided in it. Its lease is a wish like any other. */
  | { kind: "refresh"; granted: LeaseGranted; requested: TokenRequested; strategy: Policy["strategy"] }
  | { kind: "outcome"; leaseId: string; outcome: Outcome; storedAt: number; usesGranted: number; closes: boolean }
  /** Closed by a second copy of an outcome, or by one without a result. */
  | { kind: "final"; leaseId: string; made: number }
  | { kind: "release"; leaseId: string; used: number }
  | { kind: "renew"; leaseId: string; ttlMs: number }
  | { kind: "tick" }
  | { kind: "rest"; proxyId: string; forMs: number; note: string | undefined }
  | { kind: "revive"; proxyId: string }
  /** The usage rest of an exit that nothing recorded called for: a wish that was refused found it too short. */
  | { kind: "usage-rest"; proxyId: string; isSpent: boolean; usesLeft: number }
  | { kind: "add"; newcomer: Newcomer }
  | { kind: "retire"; proxyId: string; reason: string | undefined };

/** What was drawn, and by which strategy: another one would have drawn, or ranked, otherwise. */
export type DrawnBy = Drawn & { strategy: Policy["strategy"] };

/** @param state as it was when the event was decided. @param next the event after it in the same commit. */
export function inputOf(event: Event, state: PoolState, next?: Event): Input {
  switch (event.type) {
    case "LeaseGranted":
      if (next?.type === "TokenRequested" && next.leaseId === event.leaseId)
        return { kind: "refresh", granted: event, requested: next, strategy: state.rules.policy.strategy };
      return { kind: "wish", leaseId: event.leaseId, wish: wishOf(event), drawn: drawnIn(event, state) };
    case "UseReported": {
      const { leaseId, storedAt } = event;
      const usesGranted = (state.leases.get(leaseId) ?? state.closedLeases.get(leaseId))?.uses ?? 0;
      return { kind: "outcome", leaseId, outcome: outcomeOf(event), storedAt, usesGranted, closes: false };
    }
    case "LeaseClosed":
      if (event.how === "expired") return { kind: "tick" };
      if (event.how === "released") return { kind: "release", leaseId: event.leaseId, used: event.used };
      return { kind: "final", leaseId: event.leaseId, made: event.used };
    case "LeaseRenewed":
      return { kind: "renew", leaseId: event.leaseId, ttlMs: event.expiresAt - state.at };
    case "RestEnded":
      return event.how === "over" ? { kind: "tick" } : { kind: "revive", proxyId: event.proxyId };
    case "RestBegan":
      return restOf(event, state);
    case "ProxyAdded":
      return { kind: "add", newcomer: newcomerOf(event, event) };
    case "ProxyChanged": {
      const known = state.proxies.get(event.proxyId);
      return known === undefined ? { kind: "fact", event } : { kind: "add", newcomer: newcomerOf(event, known) };
    }
    case "TokenRefused":
      return event.why === "deadline" ? { kind: "tick" } : { kind: "fact", event };
    case "ProxyRetired":
      return { kind: "retire", proxyId: event.proxyId, reason: event.reason };
    default:
      return { kind: "fact", event };
  }
}

export function wishOf({ wish }: LeaseGranted): LeaseRequest {
  return { ...wish, uses: wish.uses ?? 1, minUses: wish.minUses ?? 1, waitMs: 0 };
}

/** Where each proxy has a token of its own, which of them were good is no more known where it was otherwise. */
function drawnIn({ proxyId, ranked, wish }: LeaseGranted, state: PoolState): DrawnBy | undefined {
  const { strategy, token } = state.rules.policy;
  const isByToken = wish.token === true && token?.scope === "proxy";
  return isByToken || strategies[strategy.kind].draws !== undefined ? { proxyId, ranked, strategy } : undefined;
}

function outcomeOf(event: UseReported): Outcome {
  const { leaseId, n, status, error, latencyMs, bytes, target, retryAfterMs, tokenRejected, tokenId, final } = event;
  return {
    leaseId,
    n,
    ...(event.class === "success" ? { result: "success" } : { result: "failure", reason: event.class }),
    ...(status === undefined ? {} : { status }),
    ...(error === undefined ? {} : { error }),
    ...(latencyMs === undefined ? {} : { latencyMs }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(target === undefined ? {} : { target }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(tokenRejected === undefined ? {} : { tokenRejected }),
    ...(tokenId === undefined ? {} : { tokenId }),
    ...(final === undefined ? {} : { final }),
  };
}

function restOf(event: RestBegan, state: PoolState): Input {
  const { proxyId, until, note } = event;
  const exit = state.proxies.get(proxyId)?.account;
  if (exit === undefined) return { kind: "fact", event };
  const joins = event.reasons.includes("usage") && state.spreading.has(exit) && until === exit.restUntil;
  if (event.exitUntil === undefined)
    return joins ? { kind: "tick" } : { kind: "rest", proxyId, forMs: until - state.at, note };
  const { usage } = exit.limits;
  const limit = usage?.limit ?? 0;
  const isSpent = usesSinceRestOf(exit) >= limit && event.exitUntil === state.at + (usage?.restMs ?? 0);
  return { kind: "usage-rest", proxyId, isSpent, usesLeft: limit - usesSinceRestOf(exit) };
}

function newcomerOf(
  event: ProxyAdded | ProxyChanged,
  { scheme, host, port, username }: Pick<ProxyAdded, "scheme" | "host" | "port" | "username">,
): Newcomer {
  const { proxyId: id, labels, limits } = event;
  return {
    id,
    address: { scheme, host, port, ...(username === undefined ? {} : { username }) },
    labels,
    allLabels: true,
    limits,
  };
}
