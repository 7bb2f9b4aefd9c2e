// Questions about tokens: may a token be given, may a refresh begin, and when does time alone change the answer? The
// chart (machines/token.ts) defines the allowed transitions. This file answers for the present state.
import type { PoolState, Proxy } from "../fold/state.ts";
import { poolKey, type Token } from "../machines/token.ts";

/** The token that requests through this proxy carry. */
export function tokenFor(state: PoolState, proxy: Proxy): Token | undefined {
  const { token: policy } = state.rules.policy;
  return policy === null ? undefined : state.tokens.get(policy.scope === "pool" ? poolKey : proxy.id);
}

/** Whether it may be given out. */
export function isGood(state: PoolState, token: Token | undefined): boolean {
  if (token === undefined || token.tokenId === "" || token.rejected) return false;
  return token.expiresAt === 0 || token.expiresAt > state.at;
}

/** Whether all requests for it are refused until `retryAt`. */
export function isUnavailable(state: PoolState, token: Token | undefined): boolean {
  return token !== undefined && token.state === "unavailable" && token.retryAt > state.at;
}

/** Whether a refresh may begin now, if there is a reason for one. */
export function mayRefresh(state: PoolState, token: Token | undefined): boolean {
  return token === undefined || (token.refresh === null && token.retryAt <= state.at);
}

/** Whether it needs a refresh on its own, even if no request waits for it. */
export function isDue(state: PoolState, token: Token | undefined): boolean {
  if (token === undefined) return false;
  return (
    (token.state === "stale" && token.rejected) ||
    (token.state === "fresh" && isGood(state, token) && aheadFrom(state, token) <= state.at)
  );
}

/** The instant from which it is refreshed ahead of its end. Infinity: never. */
function aheadFrom(state: PoolState, token: Token): number {
  const aheadMs = state.rules.policy.token?.refreshAheadMs ?? 0;
  if (aheadMs === 0 || token.expiresAt === 0) return Infinity;
  // A token with a shorter life than `aheadMs` would be fetched again and again.
  return Math.max(token.expiresAt - aheadMs, token.mintedAt + 1000);
}

/** The next instant at which time alone changes its permitted uses. Infinity: none. */
export function tokenChangesAt(state: PoolState, token: Token): number {
  const times = [token.retryAt, token.expiresAt, aheadFrom(state, token)];
  return Math.min(...times.filter((time) => time > state.at));
}

/** Where each proxy has its own token: the kinds of proxies that requests with a token look for. */
export const needs = ["good", "wanting", "due"] as const;
export type Need = (typeof needs)[number];

/** `good`: its token may be given. `wanting`: it has no good token and may be given one. `due`: it needs a refresh. */
export function meets(state: PoolState, proxy: Proxy, need: Need): boolean {
  const token = state.tokens.get(proxy.id);
  if (need === "good") return isGood(state, token);
  if (!mayRefresh(state, token)) return false;
  if (need === "wanting") return !isGood(state, token);
  return isDue(state, token) || (state.askedFor.has(proxy.id) && !isGood(state, token));
}
