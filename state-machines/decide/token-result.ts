// What an executor brings of a refresh: how the use of its lease went, and whether there is a token.
import type { WhyRefused } from "../../events/token.ts";
import type { Outcome } from "../../protocol/outcome.ts";
import { isGood } from "../rules/token.ts";
import { release } from "./lease.ts";
import { takeUp } from "./report.ts";
import { lose, mint, refreshOf, refuseRefresh } from "./token.ts";
import type { Turn } from "./turn.ts";

export interface TokenResult {
  tokenId: string;
  leaseId: string;
  /** Absent: no request was sent. */
  outcome: Omit<Outcome, "leaseId"> | undefined;
  /** Absent: there is no value. */
  stored: StoredToken | undefined;
  why: WhyRefused | undefined;
}

/** What the state must know of a value that its driver has stored. `expiresAt` absent: no end is known. */
export interface StoredToken {
  expiresAt?: number | undefined;
}

/** Returns whether the refresh was still waited for, and what it brought is of use. */
export function finishRefresh(turn: Turn, { tokenId, leaseId, outcome, stored, why }: TokenResult): boolean {
  if (outcome === undefined) release(turn, { leaseId, used: 0 });
  else takeUp(turn, { ...outcome, leaseId, n: 1 }, turn.at);
  const token = refreshOf(turn.state, tokenId);
  if (token === undefined) return false;
  if (stored !== undefined) return mint(turn, { tokenId, expiresAt: stored.expiresAt });
  refuseRefresh(turn, token, { why: why ?? "no-value", status: outcome?.status });
  return true;
}

/**
 * A new leader sets right what it has found: values that were stored, and tokens that are known and have no value.
 * @param stored by token id: all values that are kept of tokens and refreshes. Returns whether there was room for all.
 */
export function recoverTokens(turn: Turn, stored: ReadonlyMap<string, StoredToken>, hasRoom: () => boolean): boolean {
  const { state } = turn;
  for (const token of [...state.tokens.values()]) {
    if (!hasRoom()) return false;
    const { refresh } = token;
    const fetched = refresh === null ? undefined : stored.get(refresh.tokenId);
    if (refresh !== null && fetched !== undefined)
      mint(turn, { tokenId: refresh.tokenId, expiresAt: fetched.expiresAt });
    // Also where what was stored has run out by now.
    if (isGood(state, token) && !stored.has(token.tokenId)) lose(turn, token);
  }
  return true;
}
