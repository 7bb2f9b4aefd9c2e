// The law of a token's lifecycle: the chart says what may follow what, whenever; whether there may be a refresh is judged
// where it is decided (refresh.ts). As with proxies an event's symbol is its type and the state it leads to, so that
// the next state follows from (state, symbol) alone.
//
// `fresh` says that a token was minted and nobody has been right to reject it; that it has run out since follows from its
// `expiresAt` and the time, with no event. An earlier token may be good while the next one is being fetched
// (`refreshing`, ahead of its end).
import { initialTransition, setup, transition } from "xstate";
import { type TokenEvent, type TokenStateName, tokenStates } from "../../events/token.ts";
import type { PoolState, Proxy } from "../fold/state.ts";

/** A token of the pool, or of one proxy: what the ledger says of it, never its value. */
export interface Token {
  /** The proxy's id, or "pool". */
  readonly key: string;
  state: TokenStateName;
  /** The current one; "": none yet. */
  tokenId: string;
  mintedAt: number;
  /** 0: no end is known. */
  expiresAt: number;
  /** The current one is no longer to be given. */
  rejected: boolean;
  refresh: { tokenId: string; leaseId: string } | null;
  /** Of the refresh; 0: none is under way. */
  deadlineAt: number;
  /** Of refreshes, in a row. */
  failures: number;
  /** No refresh before. 0: at once. */
  retryAt: number;
  /** Places in heaps, and when time alone changes what may be done with it. */
  deadlinePlace: number;
  timePlace: number;
  changesAt: number;
}

export const poolKey = "pool";

export type TokenSymbol = `${TokenEvent["type"]}.${TokenStateName}`;

const asks = { "TokenRequested.refreshing": "refreshing" } as const;

export const tokenMachine = setup({
  types: { events: {} as { type: TokenSymbol } },
}).createMachine({
  id: "token",
  initial: "missing",
  states: {
    missing: { on: { ...asks, "TokenRejected.missing": "missing" } },
    refreshing: {
      on: {
        "TokenMinted.fresh": "fresh",
        "TokenRefused.missing": "missing",
        "TokenRefused.fresh": "fresh",
        "TokenRefused.stale": "stale",
        "TokenRefused.unavailable": "unavailable",
        "TokenRejected.refreshing": "refreshing",
      },
    },
    fresh: { on: { ...asks, "TokenRejected.fresh": "fresh", "TokenRejected.stale": "stale" } },
    stale: { on: { ...asks, "TokenRejected.stale": "stale" } },
    // A rejection is a reason to fetch it once more. (Ledgers of before have it stay as it was.)
    unavailable: {
      on: { ...asks, "TokenRejected.stale": "stale", "TokenRejected.unavailable": "unavailable" },
    },
  },
});

export const tokenTypes: readonly TokenEvent["type"][] = [
  "TokenRequested",
  "TokenMinted",
  "TokenRefused",
  "TokenRejected",
];

/** Does the chart accept an event of this type, leading to this state, here? */
export function takes(from: TokenStateName, type: TokenEvent["type"], to: TokenStateName): boolean {
  return steps[from].has(`${type}.${to}`);
}

const steps = deriveSteps();

function deriveSteps(): Record<TokenStateName, ReadonlySet<TokenSymbol>> {
  const [initial] = initialTransition(tokenMachine);
  const symbols = tokenTypes.flatMap((type) => tokenStates.map((to) => ({ to, type: `${type}.${to}` as const })));
  const derived = {} as ReturnType<typeof deriveSteps>; // Filled for every state, below.
  for (const from of tokenStates) {
    const before = tokenMachine.resolveState({ ...initial, value: from });
    // XState ignores an event that it does not accept, without a word: so ask, and see that it leads where it says.
    const accepted = symbols.filter(({ type }) => before.can({ type }));
    for (const { to, type } of accepted) {
      const [after] = transition(tokenMachine, before, { type });
      if (after.value !== to) throw new Error(`the chart leads ${from} by ${type} to ${String(after.value)}`);
    }
    derived[from] = new Set(accepted.map(({ type }) => type));
  }
  return derived;
}

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

/** What wishes that need a token look for among proxies, where each proxy has its own. */
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
