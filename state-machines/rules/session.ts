// Sessions: a name that requests share, so that all of them get the same proxy. The first grant binds the session. It
// lives until `ttlMs` after the end of its last lease. Both follow from `LeaseGranted` and time, so neither needs an
// event.
//
// A bound request waits while its proxy is busy or at a limit. The session is bound anew if waiting would not help: the
// proxy is retired, rests longer than `patienceMs`, or does not match this request (labels, schemes, exclude, minUses).
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { CandidateIndex, Chosen } from "../candidates/candidate-index.ts";
import { strategyOf } from "../candidates/strategies.ts";
import type { Lease, PoolState, Proxy, Session } from "../fold/state.ts";
import { canEverServe, restEnd, roomOf } from "./exit.ts";

/** A lease was granted under this name. */
export function bind(state: PoolState, name: string, lease: Lease): void {
  let session = state.sessions.get(name);
  if (session === undefined) {
    session = { name, proxyId: lease.proxy.id, leases: new Set(), usedAt: state.at };
    state.sessions.set(name, session);
  }
  session.proxyId = lease.proxy.id;
  session.usedAt = state.at;
  session.leases.add(lease);
  state.idleSessions.delete(session);
  forgetSurplus(state);
  state.queue?.sessionChanged(name);
}

/** A lease of the session has ended. If it was the last one, the session is idle from now on. */
export function endLease(state: PoolState, name: string, lease: Lease): void {
  const session = state.sessions.get(name);
  if (session === undefined) return;
  session.leases.delete(lease);
  session.usedAt = state.at;
  if (session.leases.size === 0) state.idleSessions.add(session);
}

export function forgetSessions(state: PoolState): void {
  const { ttlMs } = state.rules.policy.session;
  for (const session of state.idleSessions) {
    if (session.usedAt + ttlMs > state.at) return;
    forget(state, session);
  }
}

/** If a new session exceeds the pool's maximum, the sessions that were idle longest are forgotten. */
function forgetSurplus(state: PoolState): void {
  const { max } = state.rules.policy.session;
  for (const session of state.idleSessions) {
    if (state.sessions.size <= max) return;
    forget(state, session);
  }
}

/** Whether there is room for a session of this name. A session with an open lease is never forgotten to make room. */
export function canBind(state: PoolState, name: string | undefined): boolean {
  if (name === undefined || state.sessions.has(name)) return true;
  return state.sessions.size < state.rules.policy.session.max || state.idleSessions.size > 0;
}

/** The terms that a session's proxy must meet to serve a lease request. */
export interface Bounds {
  matches(proxy: Proxy): boolean;
  minUses: number;
  excluded: ReadonlySet<string>;
}

export function boundsOf(index: CandidateIndex, request: LeaseRequest, excluded: ReadonlySet<string>): Bounds {
  return { matches: (proxy) => index.matches(proxy), minUses: request.minUses, excluded };
}

/** The proxy that the session is bound to, resting or not. Undefined: any matching proxy will do. */
export function proxyOfSession(state: PoolState, name: string | undefined, bounds: Bounds): Proxy | undefined {
  const session = name === undefined ? undefined : state.sessions.get(name);
  if (session === undefined) return undefined;
  const proxy = state.proxies.get(session.proxyId);
  if (proxy === undefined || bounds.excluded.has(proxy.id) || !bounds.matches(proxy)) return undefined;
  return canEverServe(proxy.account, bounds.minUses) ? proxy : undefined;
}

/** The same, but undefined if its rest exceeds the session's patience. */
export function boundProxy(state: PoolState, name: string | undefined, bounds: Bounds): Proxy | undefined {
  const proxy = proxyOfSession(state, name, bounds);
  return proxy === undefined || restEnd(state, proxy) - state.at > state.rules.policy.session.patienceMs
    ? undefined
    : proxy;
}

/** The bound proxy if it can be leased now, or its exit if its usage rest is due. */
export function chooseBound(state: PoolState, proxy: Proxy, minUses: number): Chosen | undefined {
  if (proxy.until > 0) return undefined; // It rests, or the end of its rest is not recorded yet.
  const room = roomOf(state, proxy.account, minUses);
  if (room.restIsDue) return { restIsDue: proxy.account };
  return room.held === 0 ? { proxy, ranked: strategyOf(state).figures(state, proxy) } : undefined;
}

/** When the session will be forgotten, if its leases expire and no other is granted. */
export function sessionEndsAt(state: PoolState, name: LeaseRequest["session"]): number {
  const session = name === undefined ? undefined : state.sessions.get(name);
  if (session === undefined) return state.at;
  const ends = [...session.leases].map((lease) => lease.expiresAt);
  return Math.max(session.usedAt, ...ends) + state.rules.policy.session.ttlMs;
}

/** When there is room for the session, `at` or later. If the maximum was lowered, there may be too many sessions. */
export function canBindFrom(state: PoolState, name: LeaseRequest["session"], at: number): number {
  const { max } = state.rules.policy.session;
  if (name === undefined || (state.sessions.has(name) && at < sessionEndsAt(state, name))) return at;
  if (state.sessions.size - (state.sessions.has(name) ? 1 : 0) < max) return at;
  let busy = 0;
  let nextIdleAt = Infinity;
  for (const session of state.sessions.values()) {
    if (session.name === name || sessionEndsAt(state, session.name) <= at) continue;
    const idleAt = Math.max(0, ...[...session.leases].map((lease) => lease.expiresAt));
    if (idleAt <= at) return at; // Its end makes room.
    busy++;
    nextIdleAt = Math.min(nextIdleAt, idleAt);
  }
  return busy < max ? at : nextIdleAt;
}

function forget(state: PoolState, session: Session): void {
  state.idleSessions.delete(session);
  state.sessions.delete(session.name);
  state.queue?.sessionChanged(session.name);
}
