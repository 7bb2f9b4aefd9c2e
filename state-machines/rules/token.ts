// Questions about tokens: may one be given, may a refresh begin, and when does time alone change the answer. The chart
// (machines/token.ts) says what may follow what; these say what is the case now.
import type { PoolState, Proxy } from "../fold/state.ts";
import { poolKey, type Token } from "../machines/token.ts";

/** Whose token the proxy's requests carry. */
export function tokenFor(state: PoolState, proxy: Proxy): Token | undefined {
  const { token: policy } = state.rules.policy;
  return policy === null ? undefined : state.tokens.get(policy.scope === "pool" ? poolKey : proxy.id);
}

/** May it be given out? */
export function isGood(state: PoolState, token: Token | undefined): boolean {
  if (token === undefined || token.tokenId === "" || token.rejected) return false;
  return token.expiresAt === 0 || token.expiresAt > state.at;
}

/** Is it refused to all who ask, until `retryAt`? */
export function isUnavailable(state: PoolState, token: Token | undefined): boolean {
  return token !== undefined && token.state === "unavailable" && token.retryAt > state.at;
}

/** May a refresh begin now, if there is a reason to? */
export function mayRefresh(state: PoolState, token: Token | undefined): boolean {
  return token === undefined || (token.refresh === null && token.retryAt <= state.at);
}

/** Is there a reason by itself, whether or not anybody asks? */
export function isDue(state: PoolState, token: Token | undefined): boolean {
  if (token === undefined) return false;
  return (
    (token.state === "stale" && token.rejected) ||
    (token.state === "fresh" && isGood(state, token) && aheadFrom(state, token) <= state.at)
  );
}

/** From when on it is refreshed ahead of its end. Infinity: it is not. */
export function aheadFrom(state: PoolState, token: Token): number {
  const aheadMs = state.rules.policy.token?.refreshAheadMs ?? 0;
  if (aheadMs === 0 || token.expiresAt === 0) return Infinity;
  // One that lives no longer than that would be fetched again and again.
  return Math.max(token.expiresAt - aheadMs, token.mintedAt + 1000);
}

/** The next instant at which time alone changes what may be done with it. Infinity: none. */
export function tokenChangesAt(state: PoolState, token: Token): number {
  const times = [token.retryAt, token.expiresAt, aheadFrom(state, token)];
  return Math.min(...times.filter((time) => time > state.at));
}

/** What requests that need a token look for among proxies, where each proxy has its own. */
export const needs = ["good", "wanting", "due"] as const;
export type Need = (typeof needs)[number];

/** `good`: its token may be given. `wanting`: it has none, and may be given one. `due`: a refresh is called for. */
export function meets(state: PoolState, proxy: Proxy, need: Need): boolean {
  const token = state.tokens.get(proxy.id);
  if (need === "good") return isGood(state, token);
  if (!mayRefresh(state, token)) return false;
  if (need === "wanting") return !isGood(state, token);
  return isDue(state, token) || (state.askedFor.has(proxy.id) && !isGood(state, token));
}
