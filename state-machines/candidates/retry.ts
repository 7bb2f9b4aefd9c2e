// When to retry: when a refused lease request could be granted if nothing more were reported, released or granted, and
// no other request waited. Only time acts then: slots run out, leases end, rests begin and end, sessions are forgotten.
// The result is exact. `Infinity`: no known event will help.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { PoolState, Proxy } from "../fold/state.ts";
import { leasableAt, restEnd, usageRestEnd } from "../rules/exit.ts";
import { holderFreeAt } from "../rules/holder.ts";
import { type Bounds, canBindFrom, proxyOfSession, sessionEndsAt } from "../rules/session.ts";
import { idleFrom, isSpent } from "../rules/usage.ts";
import type { CandidateIndex } from "./candidate-index.ts";

export function retryAt(state: PoolState, index: CandidateIndex, request: LeaseRequest, bounds: Bounds): number {
  const notBefore = holderFreeAt(state, request.holder);
  const proxy = proxyOfSession(state, request.session, bounds);
  const withRoom = (at: number): number => canBindFrom(state, request.session, Math.max(at, notBefore));
  if (proxy === undefined) return withRoom(index.leasableAt(bounds.excluded));
  let earliest = withRoom(leasableAt(state, proxy, bounds.minUses));
  // While the session would be bound to a new proxy, any other proxy will do.
  let anyAt: number | undefined;
  for (const span of unboundSpans(state, proxy, request, bounds.minUses)) {
    if (Math.max(span.from, notBefore) >= earliest) continue;
    anyAt ??= index.leasableAt(bounds.excluded);
    const at = withRoom(Math.max(span.from, anyAt));
    if (at < span.until) earliest = Math.min(earliest, at);
  }
  return earliest;
}

/** The spans in which the session does not keep to its proxy: `from` inclusive, `until` exclusive. */
function unboundSpans(
  state: PoolState,
  proxy: Proxy,
  request: LeaseRequest,
  minUses: number,
): { from: number; until: number }[] {
  const { patienceMs } = state.rules.policy.session;
  const presentEnd = restEnd(state, proxy);
  const usageEnd = usageRestEnd(state, proxy, minUses);
  const exit = proxy.account;
  // The rest of a used-up quota begins when its last lease ends. If too few uses are left for this request, the rest
  // begins when the request finds the proxy free.
  const idle = idleFrom(exit);
  const usageFrom = isSpent(exit) ? idle : Math.max(idle, presentEnd, state.at);
  const presentUntil = isSpent(exit) && idle <= proxy.until ? idle : Infinity;
  return [
    { from: state.at, until: Math.min(presentEnd - patienceMs, presentUntil) },
    { from: usageFrom, until: usageEnd - patienceMs },
    { from: sessionEndsAt(state, request.session), until: Infinity },
  ];
}
