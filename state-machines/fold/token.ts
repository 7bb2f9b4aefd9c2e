// The fold of tokens: the effect of each token event on the state. It records and never decides. An event that the
// chart does not accept is a bug or a damaged ledger, so it throws.
import type { TokenEvent } from "../../events/token.ts";
import { poolKey, type Token, takes } from "../machines/token.ts";
import { tokenChangesAt } from "../rules/token.ts";
import type { Lease, PoolState } from "./state.ts";

export function foldToken(state: PoolState, event: TokenEvent): void {
  const token = stepped(state, event);
  if (token === undefined) return;
  switch (event.type) {
    case "TokenRequested":
      token.refresh = { tokenId: event.tokenId, leaseId: event.leaseId };
      token.deadlineAt = event.deadlineAt;
      state.deadlines.set(token);
      state.tokenIds.set(event.tokenId, token);
      break;
    case "TokenMinted":
      state.tokenIds.delete(token.tokenId);
      endRefresh(state, token);
      token.tokenId = event.tokenId;
      token.mintedAt = event.mintedAt;
      token.expiresAt = event.expiresAt ?? 0;
      token.rejected = false;
      token.failures = 0;
      token.retryAt = 0;
      break;
    case "TokenRefused":
      state.tokenIds.delete(event.tokenId);
      endRefresh(state, token);
      token.failures = event.failures;
      token.retryAt = event.retryAt;
      break;
    case "TokenRejected":
      if (event.count === undefined) token.rejected = true;
      break;
    default:
      event satisfies never;
  }
  if (token.refresh === null && !isInScope(state, token)) forgetToken(state, token.key);
  else watch(state, token);
  state.tokenChanged(token.key);
}

/** Tells indexes about tokens that have run out or may be fetched again. Nothing else changes. */
export function advanceTokens(state: PoolState): void {
  const { tokenTimes } = state;
  for (let token = tokenTimes.top; token !== undefined && token.changesAt <= state.at; token = tokenTimes.top) {
    watch(state, token);
    state.tokenChanged(token.key);
  }
}

/** The token that a lease was granted with. */
export function tokenGiven(state: PoolState, tokenId: string | undefined): Lease["token"] {
  const token = tokenId === undefined ? undefined : state.tokenIds.get(tokenId);
  return token === undefined ? null : { tokenId: token.tokenId, mintedAt: token.mintedAt, expiresAt: token.expiresAt };
}

/** After a change of policy: forgets tokens of the other scope without a refresh under way. */
export function regroupTokens(state: PoolState): void {
  for (const token of state.tokens.values()) {
    if (token.refresh === null && !isInScope(state, token)) forgetToken(state, token.key);
    else watch(state, token);
  }
}

/** Adds a token from a snapshot. */
export function restoreToken(state: PoolState, token: Omit<Token, "deadlinePlace" | "timePlace" | "changesAt">): void {
  const made: Token = { ...token, deadlinePlace: -1, timePlace: -1, changesAt: Infinity };
  state.tokens.set(made.key, made);
  if (made.refresh !== null) {
    state.deadlines.set(made);
    state.tokenIds.set(made.refresh.tokenId, made);
  }
  watch(state, made);
}

export function forgetToken(state: PoolState, key: string): void {
  const token = state.tokens.get(key);
  if (token === undefined) return;
  state.tokens.delete(key);
  state.tokenIds.delete(token.tokenId);
  state.tokenTimes.delete(token);
  state.deadlines.delete(token);
}

/** Steps the token through the chart. Undefined: an unknown token was rejected, and stays unknown. */
function stepped(state: PoolState, event: TokenEvent): Token | undefined {
  const key = event.proxyId ?? poolKey;
  const known = state.tokens.get(key);
  const from = known?.state ?? "missing";
  if (!takes(from, event.type, event.token)) {
    throw new Error(`the chart does not take ${event.type}.${event.token} where the token of ${key} is ${from}`);
  }
  if (known === undefined && event.type === "TokenRejected") return undefined;
  const token = known ?? newToken(key);
  if (known === undefined) state.tokens.set(key, token);
  token.state = event.token;
  return token;
}

function newToken(key: string): Token {
  return {
    key,
    state: "missing",
    tokenId: "",
    mintedAt: 0,
    expiresAt: 0,
    rejected: false,
    refresh: null,
    deadlineAt: 0,
    failures: 0,
    retryAt: 0,
    deadlinePlace: -1,
    timePlace: -1,
    changesAt: Infinity,
  };
}

function endRefresh(state: PoolState, token: Token): void {
  state.deadlines.delete(token);
  token.refresh = null;
  token.deadlineAt = 0;
}

function isInScope(state: PoolState, { key }: Token): boolean {
  const { token: policy } = state.rules.policy;
  return policy !== null && (policy.scope === "pool") === (key === poolKey);
}

function watch(state: PoolState, token: Token): void {
  token.changesAt = tokenChangesAt(state, token);
  if (token.changesAt === Infinity) state.tokenTimes.delete(token);
  else state.tokenTimes.set(token);
  if (token.tokenId !== "") state.tokenIds.set(token.tokenId, token);
}
