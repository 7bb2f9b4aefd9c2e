// The result of a refresh as its executor reports it: the outcome of its lease's use, and the token if there is one.
import type { StoredToken, TokenResult } from "../command.ts";
import { isGood } from "../rules/token.ts";
import { release } from "./lease.ts";
import { ingest } from "./report.ts";
import { giveUp, mint, refreshOf, refuseRefresh } from "./token.ts";
import type { Turn } from "./turn.ts";

/** Returns whether the refresh was still waited for and its result is usable. */
export function finishRefresh(turn: Turn, { tokenId, leaseId, outcome, stored, why }: TokenResult): boolean {
  if (outcome === undefined) release(turn, { leaseId, used: 0 });
  else ingest(turn, { ...outcome, leaseId, n: 1 }, turn.at);
  const token = refreshOf(turn.state, tokenId);
  if (token === undefined) return false;
  if (stored !== undefined) return mint(turn, { tokenId, expiresAt: stored.expiresAt });
  refuseRefresh(turn, token, { why: why ?? "no-value", status: outcome?.status });
  return true;
}

/**
 * A new leader takes over stored values, and gives up tokens without one. Returns whether there was room for all.
 * @param stored by token id: all values kept for tokens and refreshes.
 */
export function recoverTokens(turn: Turn, stored: ReadonlyMap<string, StoredToken>, hasRoom: () => boolean): boolean {
  const { state } = turn;
  for (const token of [...state.tokens.values()]) {
    if (!hasRoom()) return false;
    const { refresh } = token;
    const fetched = refresh === null ? undefined : stored.get(refresh.tokenId);
    if (refresh !== null && fetched !== undefined)
      mint(turn, { tokenId: refresh.tokenId, expiresAt: fetched.expiresAt });
    // Also if the stored value has run out by now.
    if (isGood(state, token) && !stored.has(token.tokenId)) giveUp(turn, token, { why: "value-lost" });
  }
  return true;
}
