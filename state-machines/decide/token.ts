// Decisions about tokens: when one is fetched, through which proxy, with what result, and the effect of a rejection. At
// most one refresh of a token is under way: from `TokenRequested` until its result or its deadline. The lease that it
// uses is granted in the same commit, and counts like any other.
import {
  type RejectAction,
  type TokenEvent,
  type TokenRejected,
  tokenIdPattern,
  type WhyRefused,
  type WhyRequested,
} from "../../events/token.ts";
import type { RejectReply } from "../../protocol/token.ts";
import type { PoolState } from "../fold/state.ts";
import { poolKey, type Token } from "../machines/token.ts";
import { isGood, mayRefresh } from "../rules/token.ts";
import { type ChosenProxy, grantProxy } from "./grant.ts";
import type { Turn } from "./turn.ts";

const skippedMax = 100;

/** Begins a refresh through this proxy, which can be leased now. False: none may begin. */
export function beginRefresh(turn: Turn, chosen: ChosenProxy): boolean {
  const { state } = turn;
  const { proxy } = chosen;
  const { token: policy } = state.rules.policy;
  if (policy === null || !grantsLeases(state)) return false;
  const key = policy.scope === "pool" ? poolKey : proxy.id;
  const token = state.tokens.get(key);
  if (!mayRefresh(state, token)) return false;
  const why = whyNow(state, token);
  const request = { uses: 1, minUses: 1, waitMs: 0, ttlMs: policy.deadlineMs };
  const lease = grantProxy(turn, chosen, { request, leaseId: `l_${turn.newId()}` });
  turn.emit({
    type: "TokenRequested",
    tokenId: `t_${turn.newId()}`,
    scope: policy.scope,
    ...ownerOf(key),
    token: "refreshing",
    leaseId: lease.id,
    deadlineAt: lease.expiresAt,
    why,
  });
  return true;
}

/**
 * False while the pool drains, and for a while after it was restored. Also false in the remainder of the turn that closes
 * it.
 */
export function grantsLeases(state: PoolState): boolean {
  return state.opened && !state.draining && state.at >= state.restored.until;
}

/** The refresh that fetches this token. Undefined: its deadline has passed, or there never was one. */
export function refreshOf(state: PoolState, tokenId: string): Token | undefined {
  const token = state.tokenIds.get(tokenId);
  return token?.refresh?.tokenId === tokenId ? token : undefined;
}

/** Records a token whose value is stored. @returns false if it comes too late. */
export function mint(turn: Turn, given: { tokenId: string; expiresAt?: number | undefined }): boolean {
  const token = refreshOf(turn.state, given.tokenId);
  if (token === undefined) return false;
  if ((given.expiresAt ?? Infinity) <= turn.at) {
    refuseRefresh(turn, token, { why: "no-life" });
    return false;
  }
  turn.emit({
    type: "TokenMinted",
    tokenId: given.tokenId,
    ...ownerOf(token.key),
    token: "fresh",
    mintedAt: turn.at,
    ...(given.expiresAt === undefined ? {} : { expiresAt: given.expiresAt }),
  });
  return true;
}

/**
 * Records a failed refresh. The next one begins after a pause, longer each time. An earlier token that is good is still
 * given.
 */
export function refuseRefresh(turn: Turn, token: Token, given: { why: WhyRefused; status?: number | undefined }): void {
  const { state } = turn;
  if (token.refresh === null) return;
  const failures = token.failures + 1;
  const most = state.rules.policy.token?.unavailableAfter ?? 1;
  const bad = token.tokenId === "" ? "missing" : "stale";
  turn.emit({
    type: "TokenRefused",
    tokenId: token.refresh.tokenId,
    ...ownerOf(token.key),
    token: isGood(state, token) ? "fresh" : failures >= most ? "unavailable" : bad,
    why: given.why,
    ...(given.status === undefined ? {} : { status: given.status }),
    failures,
    retryAt: turn.at + pauseMs(turn, failures),
  });
}

/**
 * A target did not accept this token. A refresh follows only if it is the current one and at least `minAgeMs` old.
 * @param given.proxyId needed if the id alone does not identify the owner.
 */
export function reject(turn: Turn, given: { tokenId: string; proxyId?: string | undefined }): RejectReply {
  const { state } = turn;
  const { token: policy } = state.rules.policy;
  if (policy === null) return { action: "ignored", tokenId: given.tokenId };
  const key = state.tokenIds.get(given.tokenId)?.key ?? poolKey;
  // A token of the other scope may still exist because its refresh is under way. It no longer belongs to anything.
  const token = state.tokens.get(policy.scope === "pool" ? poolKey : key === poolKey ? (given.proxyId ?? "") : key);
  if (token === undefined || token.tokenId !== given.tokenId) {
    skip(turn, token, { action: "ignored", tokenId: given.tokenId });
    return { action: "ignored", tokenId: token === undefined || token.tokenId === "" ? given.tokenId : token.tokenId };
  }
  const { tokenId } = token;
  const keptUntil = token.mintedAt + policy.minAgeMs;
  if (!token.rejected && turn.at < keptUntil) {
    skip(turn, token, { action: "kept", tokenId, keptUntil });
    return { action: "kept", tokenId, retryAfterMs: keptUntil - turn.at };
  }
  // An unavailable token is fetched only on request. A rejection counts as a request.
  if (token.rejected && token.state !== "unavailable") skip(turn, token, { action: "refreshing", tokenId });
  else giveUp(turn, token);
  return { action: "refreshing", tokenId };
}

/** The token is not given any more, and the next one is fetched. */
export function giveUp(turn: Turn, token: Token, because: Pick<TokenRejected, "why"> = {}): void {
  const { key, tokenId, state } = token;
  const to = state === "fresh" || state === "unavailable" ? "stale" : state;
  turn.emit({ type: "TokenRejected", tokenId, ...ownerOf(key), token: to, action: "refreshing", ...because });
}

/** Records rejections without effect, as they were counted. */
export function recordSkipped(turn: Turn, skipped: readonly TokenRejected[]): void {
  for (const event of skipped) {
    // The token may have changed meanwhile.
    const state = turn.state.tokens.get(event.proxyId ?? poolKey)?.state ?? "missing";
    turn.emit({ ...event, token: state });
  }
}

/** Adds a rejection to those counted. If there are too many different ones, their ids are dropped. */
export function addSkipped(counted: TokenRejected[], event: TokenRejected): void {
  const sameAs = (one: TokenRejected): TokenRejected | undefined =>
    counted.find((each) => each.action === one.action && each.proxyId === one.proxyId && each.tokenId === one.tokenId);
  const { type, token, action, count = 1 } = event;
  const isOneTooMany = counted.length >= skippedMax && sameAs(event) === undefined;
  const added: TokenRejected = isOneTooMany ? { type, token, action } : event;
  const known = sameAs(added);
  if (known !== undefined) known.count = (known.count ?? 0) + count;
  else counted.push({ ...added, count });
}

export function ownerOf(key: string): { proxyId?: string } {
  return key === poolKey ? {} : { proxyId: key };
}

function skip(
  turn: Turn,
  token: Token | undefined,
  given: { action: RejectAction; tokenId: string; keptUntil?: number },
): void {
  const { tokenId, ...rest } = given;
  addSkipped(turn.skipped, {
    type: "TokenRejected",
    // The given id may be any text, even a token's value.
    ...(tokenIdPattern.test(tokenId) ? { tokenId } : {}),
    ...(token === undefined ? {} : ownerOf(token.key)),
    token: token?.state ?? "missing",
    ...rest,
    ...(token === undefined || token.mintedAt === 0 ? {} : { mintedAt: token.mintedAt }),
  } satisfies TokenEvent);
}

function whyNow(state: PoolState, token: Token | undefined): WhyRequested {
  if (token === undefined || token.tokenId === "") return "asked";
  if (token.rejected) return "rejected";
  return isGood(state, token) ? "ahead" : "expired";
}

function pauseMs(turn: Turn, failures: number): number {
  const { retry } = turn.state.rules.policy.token ?? { retry: { baseMs: 1000, maxMs: 1000, jitterShare: 0 } };
  // After 30 doublings any base exceeds any maximum.
  const ms = Math.min(retry.baseMs * 2 ** Math.min(failures - 1, 30), retry.maxMs);
  const jitterMs = Math.floor(ms * retry.jitterShare);
  return ms + (jitterMs > 0 ? turn.draw().upTo(jitterMs) : 0);
}
