// Checks a ledger's events about guest tokens. Each token has one refresh at a time, and accepts a result only of the
// refresh under way. A token is given up only when that is allowed. Only good tokens are given with leases.
import type { LeaseGranted } from "../../../events/lease.ts";
import type { TokenMinted, TokenRefused, TokenRejected, TokenRequested } from "../../../events/token.ts";
import { drawn } from "./chance.ts";
import type { ProxyModel, TokenModel } from "./entities.ts";
import type { Model } from "./model.ts";

const undisturbed = { isRejected: false, refresh: undefined, failures: 0, retryAt: 0 };

type TokenEvent = TokenRequested | TokenMinted | TokenRefused | TokenRejected;

export function checkToken(model: Model, event: TokenEvent): void {
  const key = event.proxyId ?? "pool";
  const known = model.tokens.get(key);
  if (event.type === "TokenRejected") checkRejected(model, event, known);
  else if (event.type === "TokenRequested") checkRequested(model, event, known ?? newToken(model, key));
  else if (known?.refresh?.tokenId !== event.tokenId)
    model.findings.add("token", `${event.tokenId} is ${wordOf(event)}, and no refresh of that name is under way`);
  else if (event.type === "TokenMinted") checkMinted(model, event, known);
  else checkRefused(model, event, known);
}

function checkRequested(model: Model, event: TokenRequested, token: TokenModel): void {
  const { findings, at, policy } = model;
  const { tokenId, proxyId, leaseId, deadlineAt } = event;
  const rules = policy?.token ?? undefined;
  const find = (what: string): void => findings.add("token", `the refresh ${tokenId} ${what}`);
  if (rules === undefined) find("is begun, and the policy has no source of tokens");
  else if (event.scope !== rules.scope || (rules.scope === "pool") !== (proxyId === undefined))
    find(`is of ${proxyId ?? "the pool"}, and the policy's scope is ${rules.scope}`);
  if (!model.isOpen || model.isDraining) find("is begun while the pool is closed or closing");
  if (token.refresh !== undefined) find(`is begun while ${token.refresh.tokenId} is under way for the same token`);
  if (token.retryAt > at) find(`is begun before ${token.retryAt}, the end of the pause after the last failure`);
  const lease = model.openLease(leaseId);
  if (lease === undefined || lease.grantedAt !== at || lease.uses !== 1)
    find(`names ${leaseId}, which is not a lease of one use that was granted with it`);
  else {
    if (lease.expiresAt !== deadlineAt) find(`ends at ${deadlineAt}, and its lease at ${lease.expiresAt}`);
    if (rules !== undefined && deadlineAt !== at + rules.deadlineMs)
      find(`ends at ${deadlineAt}, not ${rules.deadlineMs} ms after its beginning`);
    if (proxyId !== undefined && lease.proxy.id !== proxyId) find(`of ${proxyId} goes through ${lease.proxy.id}`);
  }
  const why =
    token.tokenId === "" ? "asked" : token.isRejected ? "rejected" : isGood(model, token) ? "ahead" : "expired";
  if (event.why !== why) find(`says that it is begun because "${event.why}", and it is because "${why}"`);
  if (why === "ahead" && rules !== undefined) {
    const from = Math.max(token.expiresAt - rules.refreshAheadMs, token.mintedAt + 1000);
    if (rules.refreshAheadMs === 0 || at < from)
      find(`is begun ahead of the end of a token that is good, and nothing calls for that before ${from}`);
  }
  becomes(model, token, event, "refreshing");
  token.refresh = { tokenId, deadlineAt };
  model.refreshEnds.add(deadlineAt, { token, tokenId });
}

function checkMinted(model: Model, event: TokenMinted, token: TokenModel): void {
  const { findings, at } = model;
  const { tokenId, mintedAt, expiresAt = Infinity } = event;
  if (mintedAt !== at)
    findings.add("token", `${tokenId} has the minting time ${mintedAt}, which is not the time of the commit`);
  if (expiresAt <= at) findings.add("token", `${tokenId} is minted, and has ended at ${expiresAt}`);
  becomes(model, token, event, "fresh");
  Object.assign(token, { tokenId, mintedAt, expiresAt, ...undisturbed });
  forgetWhereOutOfScope(model, token);
}

function checkRefused(model: Model, event: TokenRefused, token: TokenModel): void {
  const { findings, at } = model;
  const { tokenId, failures, retryAt } = event;
  const rules = model.policy?.token ?? undefined;
  const find = (what: string): void => findings.add("token", `the refresh ${tokenId} ${what}`);
  const deadlineAt = token.refresh?.deadlineAt ?? 0;
  if (event.why === "deadline" && deadlineAt > at) find(`is ended for its deadline, which is at ${deadlineAt}`);
  if (failures !== token.failures + 1) find(`is failure ${failures} in a row, after ${token.failures}`);
  if (rules !== undefined) {
    const { baseMs, maxMs, jitterShare } = rules.retry;
    const pauseMs = Math.min(baseMs * 2 ** Math.min(failures - 1, 60), maxMs);
    const jitterMs = Math.floor(pauseMs * jitterShare);
    if (jitterMs > 0 && model.chance === undefined)
      findings.add("chance", `the pause after ${tokenId} is drawn by chance, and the commit records none`);
    const due = at + pauseMs + (model.chance === undefined ? 0 : drawn(model.chance, model.place, jitterMs));
    if (retryAt !== due) find(`may be followed by another from ${due} on, not from ${retryAt}`);
  }
  const isGivenUp = failures >= (rules?.unavailableAfter ?? 1);
  const bad = isGivenUp ? "unavailable" : token.tokenId === "" ? "missing" : "stale";
  becomes(model, token, event, isGood(model, token) ? "fresh" : bad);
  Object.assign(token, { failures, retryAt, refresh: undefined });
  forgetWhereOutOfScope(model, token);
}

/** A counted rejection changes nothing. Any other one gives up the current token. */
function checkRejected(model: Model, event: TokenRejected, token: TokenModel | undefined): void {
  const { findings, at } = model;
  if (event.count !== undefined || token === undefined) {
    const state = token?.state ?? "missing";
    if (event.token !== state)
      findings.add("chart", `a count of rejections moves a token from ${state} to ${event.token}`);
    if (event.count === undefined)
      findings.add("token", `a token of ${event.proxyId ?? "the pool"} that is not known is given up`);
    return;
  }
  const { tokenId } = token;
  if (event.action !== "refreshing")
    findings.add("token", `${tokenId} is given up, and the event says ${event.action}`);
  if (event.tokenId !== tokenId || tokenId === "")
    findings.add("token", `${event.tokenId ?? "a token"} is given up, and the current one is ${tokenId || "none"}`);
  else if (token.isRejected && token.state !== "unavailable")
    findings.add("token", `${tokenId} is given up a second time`);
  const keptUntil = token.mintedAt + (model.policy?.token?.minAgeMs ?? 0);
  // A new leader gives up a token whose value is gone, however young the token is.
  if (keptUntil > at && !token.isRejected && !model.takesOver)
    findings.add("token", `${tokenId} is given up, and must be kept until ${keptUntil}`);
  // An unavailable token is fetched once more. In older ledgers it stayed unavailable until a request asked for it.
  const isAsked = token.state === "unavailable" && event.token === "stale";
  becomes(model, token, event, token.state === "fresh" || isAsked ? "stale" : token.state);
  token.isRejected = true;
  forgetWhereOutOfScope(model, token);
}

/** A lease whose request asks for a token has the current one, which must be good. No other lease has one. */
export function checkTokenGiven(model: Model, event: LeaseGranted, proxy: ProxyModel): void {
  const { findings } = model;
  const { leaseId, tokenId } = event;
  if (event.request.token !== true) {
    if (tokenId !== undefined)
      findings.add("token", `${leaseId} is granted with ${tokenId}, but no token was requested`);
    return;
  }
  const token = tokenFor(model, proxy);
  if (token === undefined || tokenId !== token.tokenId || tokenId === "")
    findings.add(
      "token",
      `${leaseId} is granted with ${tokenId ?? "no token"}, and the current one is ${token?.tokenId || "none"}`,
    );
  else if (!isGood(model, token))
    findings.add(
      "token",
      `${leaseId} is granted with ${tokenId}, which ${token.isRejected ? "was rejected" : "has ended"}`,
    );
}

/** Forgets tokens of another scope than the policy's, if no refresh is under way. */
export function forgetWhereOutOfScope(model: Model, token: TokenModel): void {
  const scope = model.policy?.token?.scope;
  const isInScope = scope !== undefined && (scope === "pool") === (token.key === "pool");
  if (token.refresh === undefined && !isInScope) model.tokens.delete(token.key);
}

function becomes(model: Model, token: TokenModel, event: TokenEvent, state: string): void {
  if (event.token !== state)
    model.findings.add(
      "chart",
      `${event.type} leads the token of ${token.key} from ${token.state} to ${event.token}, not ${state}`,
    );
  token.state = state;
}

/** The token that leases of the proxy are given. */
export function tokenFor(model: Model, proxy: ProxyModel): TokenModel | undefined {
  return model.tokens.get(model.policy?.token?.scope === "pool" ? "pool" : proxy.id);
}

export function isGood({ at }: Model, token: TokenModel): boolean {
  return token.tokenId !== "" && !token.isRejected && token.expiresAt > at;
}

function newToken(model: Model, key: string): TokenModel {
  const token: TokenModel = { key, state: "missing", tokenId: "", mintedAt: 0, expiresAt: Infinity, ...undisturbed };
  model.tokens.set(key, token);
  return token;
}

function wordOf({ type }: TokenEvent): string {
  return type === "TokenMinted" ? "minted" : "refused";
}
