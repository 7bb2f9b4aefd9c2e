// The law of a token's lifecycle, as an XState chart with symbols like those of the proxies' chart. rules/token.ts
// decides whether a refresh may begin now.
//
// `fresh`: the token was minted and has not been rejected since. It may have run out: that follows from `expiresAt` and
// the time, without an event. `refreshing`: the next one is being fetched, and the earlier one may still be good.
import { setup } from "xstate";
import { type TokenEvent, type TokenStateName, tokenStates } from "../../events/token.ts";
import { by, deriveSteps } from "./steps.ts";

/** A token of the pool or of one proxy, as the ledger knows it: without its value. */
export interface Token {
  /** The proxy's id, or "pool". */
  readonly key: string;
  state: TokenStateName;
  /** The current one; "": none yet. */
  tokenId: string;
  mintedAt: number;
  /** 0: no end is known. */
  expiresAt: number;
  /** The current one is not given any more. */
  rejected: boolean;
  refresh: { tokenId: string; leaseId: string } | null;
  /** Of the refresh; 0: none is under way. */
  deadlineAt: number;
  /** Failed refreshes in a row. */
  failures: number;
  /** No refresh begins before this instant. */
  retryAt: number;
  /** When time alone changes its permitted uses. */
  changesAt: number;
  /** Places in heaps. */
  deadlinePlace: number;
  timePlace: number;
}

export const poolKey = "pool";

export type TokenSymbol = `${TokenEvent["type"]}.${TokenStateName}`;

const begins = "TokenRequested.refreshing";

export const tokenMachine = setup({
  types: { events: {} as { type: TokenSymbol } },
}).createMachine({
  id: "token",
  initial: "missing",
  states: {
    missing: { on: by(begins, "TokenRejected.missing") },
    refreshing: {
      on: by(
        "TokenMinted.fresh",
        "TokenRefused.missing",
        "TokenRefused.fresh",
        "TokenRefused.stale",
        "TokenRefused.unavailable",
        "TokenRejected.refreshing",
      ),
    },
    fresh: { on: by(begins, "TokenRejected.fresh", "TokenRejected.stale") },
    stale: { on: by(begins, "TokenRejected.stale") },
    // A rejection calls for another refresh. (In older ledgers it does not.)
    unavailable: { on: by(begins, "TokenRejected.stale", "TokenRejected.unavailable") },
  },
});

export const tokenTypes: readonly TokenEvent["type"][] = [
  "TokenRequested",
  "TokenMinted",
  "TokenRefused",
  "TokenRejected",
];

export const takes = deriveSteps(tokenMachine, { states: tokenStates, types: tokenTypes });
