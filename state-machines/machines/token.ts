// The law of a token's lifecycle: the chart says what may follow what. Whether a refresh may begin now is decided with
// rules/token.ts. As with proxies an event's symbol is its type and the state it leads to, so that the next state
// follows from (state, symbol) alone.
//
// `fresh` says that a token was minted and has not been rejected since. That it has run out follows from its `expiresAt`
// and the time, with no event. An earlier token may be good while the next one is being fetched (`refreshing`, ahead of
// its end).
import { setup } from "xstate";
import { type TokenEvent, type TokenStateName, tokenStates } from "../../events/token.ts";
import { deriveSteps } from "./steps.ts";

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
    // A rejection is a reason to fetch it once more. (Older ledgers leave it as it was.)
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

/** Whether the chart accepts an event of this type, leading to this state, here. */
export const takes = deriveSteps(tokenMachine, { states: tokenStates, types: tokenTypes });
