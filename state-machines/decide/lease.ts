// Decisions about leases: grant, renew, release, and their end. Every limit is checked here, at the grant.
import type { LimitedBy } from "../../events/refusal.ts";
import type { LeaseRequest, ReleaseReply } from "../../protocol/lease.ts";
import { invalid, overloaded, type Refusal, refuse } from "../../protocol/refusal.ts";
import { hostOf } from "../../protocol/target.ts";
import type { CandidateIndex, Chosen } from "../candidates/candidate-index.ts";
import type { CandidateIndexes } from "../candidates/candidates.ts";
import { isResting } from "../candidates/group.ts";
import { retryAt } from "../candidates/retry.ts";
import type { LeaseCommand } from "../command.ts";
import type { Lease, PoolState, Proxy } from "../fold/state.ts";
import { graceOf, highestReported } from "../fold/uses.ts";
import { poolKey } from "../machines/token.ts";
import { bitOf, heldBack, leasableAt, roomOf } from "../rules/exit.ts";
import { holderFreeAt, isFull } from "../rules/holder.ts";
import { refusalAfterRestore } from "../rules/restored.ts";
import { type Bounds, boundProxy, boundsOf, canBind, chooseBound } from "../rules/session.ts";
import { isGood, tokenFor } from "../rules/token.ts";
import { grantProxy, recordOf, sameRequest } from "./grant.ts";
import { askForToken, noTokenSource, tokenUnavailable } from "./refreshes.ts";
import { restWhenShort, restWhenSpent } from "./rest.ts";
import type { Turn } from "./turn.ts";

/** One request begins at most this many due usage rests. Then it is decided in the next turn. */
const restsPerRequest = 50;

/** `retryAfterMs` if no known event will free a matching proxy. */
const retryUnknownMs = 60_000;

/** Characters of the copies of one request in a commit: the event of each of its leases has one. */
const recordedMax = 200_000;

export type Granted = { lease: Lease; more?: readonly Lease[] } | { refusal: Refusal } | "later";

/** A lease request that can never be granted is refused here, whatever its `waitMs`. */
export function checkRequest(state: PoolState, request: LeaseRequest): Refusal | undefined {
  const { rules } = state;
  const { ttlMsMax } = rules.policy.lease;
  // The pool was closed earlier in this very turn. Later commands must not be granted.
  if (!state.opened) return refuse("unknown-pool", "The pool has been closed.");
  if (request.uses > rules.usesMax) return invalid("uses", `at most ${rules.usesMax} can ever be granted in this pool`);
  if (request.minUses > request.uses) return invalid("minUses", `must not be above uses (${request.uses})`);
  if ((request.ttlMs ?? 0) > ttlMsMax) return invalid("ttlMs", `must be at most ${ttlMsMax}`);
  const { count = 1 } = request;
  if (count > 1 && count * JSON.stringify(recordOf(request)).length > recordedMax)
    return invalid("count", `times the size of the request must be at most ${recordedMax} characters`);
  if (request.proxyId !== undefined && request.session !== undefined)
    return invalid("proxyId", "must not be given with session, which has its own proxy");
  if (request.proxyId !== undefined && request.waitMs > 0)
    return invalid("proxyId", "a lease request for one proxy cannot wait");
  if (request.token === true && rules.policy.token === null) return noTokenSource();
  if (state.draining)
    return refuse("unavailable", "The pool is closing: no more leases are granted.", { retryAfterMs: 1000 });
  return refusalAfterRestore(state);
}

/** The open leases that this very request already has, or the reason why the request cannot be repeated. */
export function leaseOfRequest(
  state: PoolState,
  { request, user }: Pick<LeaseCommand, "request" | "user">,
): Exclude<Granted, "later"> | undefined {
  const first = request.requestId === undefined ? undefined : state.requests.get(request.requestId);
  if (first === undefined) return undefined;
  const [lease, ...more] = (first.siblings ?? [first]).filter(({ expiresAt }) => expiresAt > state.at);
  if (lease === undefined) return undefined;
  if (lease.user === user && sameRequest(lease.request, recordOf(request)))
    return { lease, ...(more.length > 0 && { more }) };
  return {
    refusal: invalid("requestId", "an open lease has this requestId and was granted for other fields. Use a new one"),
  };
}

/** A lease request, with the indexes and bounds by which it is decided. */
interface Asked {
  request: LeaseRequest;
  indexes: CandidateIndexes;
  bounds: Bounds;
  /** The proxy that the request names. */
  named: Proxy | undefined;
  /** That proxy, or the one of the session. */
  bound: Proxy | undefined;
}

type Given = Pick<LeaseCommand, "request" | "leaseId" | "more" | "with" | "drawn" | "user" | "quota">;

/** "later": a usage rest was decided first. */
export function grant(turn: Turn, command: Given): Granted {
  const { state, candidates } = turn;
  const { request, more: ids = [], with: first } = command;
  const known = first === undefined ? leaseOfRequest(state, command) : undefined;
  if (known !== undefined) return known;
  if (first !== undefined) {
    const lease = state.leases.get(first);
    const siblings = lease === undefined ? [] : (lease.siblings ?? [lease]);
    return withoutExitsOf(siblings, candidates.indexesFor(request)?.able, () => grantOne(turn, command));
  }
  const granted = grantOne(turn, command);
  // A session, and a request for one proxy, have one exit.
  if (ids.length === 0 || granted === "later" || "refusal" in granted) return granted;
  if (request.session !== undefined || request.proxyId !== undefined) return granted;
  const able = candidates.indexesFor(request)?.able;
  return withoutExitsOf([granted.lease], able, () => {
    const more: Lease[] = [];
    for (const leaseId of ids) {
      const another = grantOne(turn, { ...command, leaseId, with: granted.lease.id }, { isFurther: true });
      if (another === "later" || "refusal" in another) break;
      more.push(another.lease);
      able?.bar(another.lease.exit);
    }
    return { ...granted, more };
  });
}

/** @param able the index that `decide` chooses from. */
function withoutExitsOf<T>(leases: readonly Lease[], able: CandidateIndex | undefined, decide: () => T): T {
  for (const { exit } of leases) able?.bar(exit);
  const result = decide();
  able?.unbar();
  return result;
}

/** @param given.isFurther one of several leases: no answer says why it cannot be had. */
function grantOne(
  turn: Turn,
  command: Given,
  { isFurther = false } = {},
): { lease: Lease } | { refusal: Refusal } | "later" {
  const { state } = turn;
  const { request } = command;
  const refusal = checkRequest(state, request) ?? turn.quotas?.leaseRefused(command, turn.at);
  if (refusal !== undefined) return { refusal };
  const excluded = new Set(request.exclude);
  const refused = (why: () => Refusal): { refusal: Refusal } | "later" => (isFurther ? "later" : { refusal: why() });
  for (let rests = 0; rests < restsPerRequest; rests++) {
    const indexes = turn.candidates.indexesFor(request);
    if (indexes === undefined) return { refusal: overloaded("Too many different requests are waiting.") };
    const { plain, able } = indexes;
    const named = request.proxyId === undefined ? undefined : state.proxies.get(request.proxyId);
    if (plain.size === 0 || (request.proxyId !== undefined && (named === undefined || !plain.matches(named))))
      return { refusal: noMatch(request) };
    if (!canBind(state, request.session)) return { refusal: tooManySessions(state) };
    const bounds = boundsOf(plain, request, excluded);
    const bound = named ?? boundProxy(state, request.session, bounds);
    const asked: Asked = { request, indexes, bounds, named, bound };
    if (isFull(state, request.holder) || (named !== undefined && excluded.has(named.id)))
      return refused(() => exhausted(state, asked));
    if (request.token === true && !hasToken(state, asked)) return refused(() => withoutToken(turn, asked));
    const chosen =
      bound === undefined
        ? (chosenAgain(state, asked, command.drawn) ??
          able.choose(excluded, { draw: () => turn.draw(), target: hostOf(request.target) }))
        : chooseBound(state, bound, request.minUses);
    if (chosen === undefined) {
      const lacksToken = indexes.wanting !== undefined && bound === undefined;
      return refused(() => (lacksToken ? withoutToken(turn, asked) : exhausted(state, asked)));
    }
    if ("proxy" in chosen) return { lease: grantProxy(turn, chosen, command) };
    restWhenShort(turn, chosen.restIsDue);
    // That rest may release sessions that wait for the exit. Their requests came first.
    if (state.queue?.waitsFor(chosen.restIsDue) === true) break;
  }
  return "later";
}

/** False: only a token is missing. With per-proxy tokens the choice itself finds out. */
function hasToken(state: PoolState, { indexes: { wanting }, bound }: Asked): boolean {
  if (bound !== undefined) return isGood(state, tokenFor(state, bound));
  return wanting !== undefined || isGood(state, state.tokens.get(poolKey));
}

/** There is no good token, or no proxy through which to fetch one. Asks for the token, and refuses with that reason. */
function withoutToken(turn: Turn, asked: Asked): Refusal {
  const { indexes, bounds, bound } = asked;
  const { state } = turn;
  const { excluded } = bounds;
  askForToken(turn, { indexes, excluded, bound });
  const { able, wanting } = indexes;
  if (wanting !== undefined && bound === undefined) {
    // Another proxy with a token may become free, or a proxy through which a token can be fetched.
    const tokenAt = wanting.pausedUntil(excluded);
    const freeAt = wanting.fetchingWithout(excluded) > 0 ? Infinity : wanting.leasableAt(excluded);
    const proxyAt = Math.min(able.leasableAt(excluded), freeAt);
    const isTokenFirst = tokenAt < Infinity && tokenAt <= proxyAt;
    return isTokenFirst ? tokenUnavailable(state, tokenAt) : exhausted(state, asked, proxyAt);
  }
  // The request needs this very token and a proxy, so it waits for the later of the two.
  const token = bound === undefined ? state.tokens.get(poolKey) : tokenFor(state, bound);
  const tokenAt = token?.refresh ? token.deadlineAt : (token?.retryAt ?? 0);
  const proxyAt = grantableAt(state, asked);
  if (tokenAt > state.at && tokenAt >= proxyAt) return tokenUnavailable(state, tokenAt, token);
  return exhausted(state, asked, proxyAt);
}

function chosenAgain(state: PoolState, { indexes, bounds }: Asked, drawn: LeaseCommand["drawn"]): Chosen | undefined {
  const proxy = drawn === undefined ? undefined : state.proxies.get(drawn.proxyId);
  if (drawn === undefined || proxy === undefined) return undefined;
  const { able } = indexes;
  if (bounds.excluded.has(proxy.id) || able.barred.has(proxy.account) || !able.matches(proxy)) return undefined;
  const chosen = chooseBound(state, proxy, bounds.minUses);
  return chosen === undefined || !("proxy" in chosen) ? undefined : { proxy, ranked: drawn.ranked };
}

/**
 * Only the user that took a lease may use it. The lease of a token's refresh belongs to no user.
 * @param owner the user that asks. Absent: it may use every lease.
 */
export function belongsTo({ user }: Lease, owner: string | undefined): boolean {
  return owner === undefined || user === owner;
}

export function renew(
  turn: Turn,
  request: { leaseId: string; ttlMs?: number | undefined; owner?: string | undefined },
): Exclude<Granted, "later"> {
  const lease = turn.state.leases.get(request.leaseId);
  if (lease === undefined || lease.expiresAt <= turn.at || !belongsTo(lease, request.owner))
    return { refusal: unknownLease(request.leaseId) };
  const { ttlMs, ttlMsMax } = turn.state.rules.policy.lease;
  const wanted = request.ttlMs ?? ttlMs;
  if (wanted > ttlMsMax) return { refusal: invalid("ttlMs", `must be at most ${ttlMsMax}`) };
  // Never earlier than before: a worker may already rely on the end that it was given.
  const expiresAt = Math.max(lease.expiresAt, turn.at + wanted);
  if (expiresAt > lease.expiresAt) turn.emit({ type: "LeaseRenewed", leaseId: lease.id, expiresAt });
  return { lease };
}

export function release(
  turn: Turn,
  request: { leaseId: string; used?: number | undefined; owner?: string | undefined },
): { released: ReleaseReply } | { refusal: Refusal } {
  const { state } = turn;
  const lease = state.leases.get(request.leaseId) ?? state.closedLeases.get(request.leaseId);
  if (lease === undefined || !belongsTo(lease, request.owner)) return { refusal: unknownLease(request.leaseId) };
  if (lease.closed === null && lease.expiresAt <= turn.at) expire(turn, lease);
  if (lease.closed === null) {
    const used = request.used ?? lease.uses;
    if (used > lease.uses) return { refusal: invalid("used", `the lease has ${lease.uses} uses`) };
    const reported = Math.min(highestReported(lease), lease.uses);
    if (used < reported) return { refusal: invalid("used", `use ${reported} has been reported already`) };
    close(turn, lease, { how: "released", used, endedAt: turn.at });
    restWhenSpent(turn, lease.exit);
  }
  const { used } = lease.closed!; // It was closed before, or just now.
  return { released: { leaseId: lease.id, used, returned: lease.uses - used } };
}

/** Ends an expired lease. Unreported uses count as made, at the last moment at which the worker may have made them. */
export function expire(turn: Turn, lease: Lease): void {
  close(turn, lease, { how: "expired", used: lease.uses, endedAt: lease.expiresAt });
  restWhenSpent(turn, lease.exit);
}

/** After a report: closes the lease if it is complete. The caller handles the consequences for the exit. */
export function closeWhenDone(turn: Turn, lease: Lease, done: { final: boolean; made?: number }): void {
  if (lease.closed !== null) return;
  const all = lease.reportedTo >= lease.uses;
  const used = all ? lease.uses : Math.min(Math.max(highestReported(lease), done.made ?? 0), lease.uses);
  if (all || done.final) close(turn, lease, { how: "completed", used, endedAt: turn.at });
}

/** The worker said that this was its last use, without a result. */
export function completeLease(turn: Turn, { leaseId, made }: { leaseId: string; made: number }): void {
  const lease = turn.state.leases.get(leaseId);
  if (lease === undefined) return;
  closeWhenDone(turn, lease, { final: true, made: Math.min(made, lease.uses) });
  restWhenSpent(turn, lease.exit);
}

function close(
  turn: Turn,
  lease: Lease,
  end: { how: "completed" | "released" | "expired"; used: number; endedAt: number },
): void {
  const { proxy } = lease;
  const state = proxy.state === "in-use" ? (proxy.openLeases > 1 ? "in-use" : "available") : proxy.state;
  turn.emit({
    type: "LeaseClosed",
    leaseId: lease.id,
    proxyId: proxy.id,
    state,
    how: end.how,
    used: end.used,
    slotAt: end.endedAt + graceOf(turn.state, lease),
  });
}

/** `limitedBy` counts a named proxy alone. @param at when the request could be granted, if known. */
function exhausted(state: PoolState, asked: Asked, at = grantableAt(state, asked)): Refusal {
  const { request, bounds, named } = asked;
  const { plain } = asked.indexes;
  const isHolderFull = isFull(state, request.holder);
  const isBound = named === undefined && boundProxy(state, request.session, bounds) !== undefined;
  const limitedBy: LimitedBy = {
    ...(named === undefined ? plain.held : heldBackAlone(state, named, request.minUses)),
    exclude: named === undefined ? plain.excludedMatches(bounds.excluded) : Number(bounds.excluded.has(named.id)),
    session: isBound ? plain.size - 1 : 0,
    ...(isHolderFull ? { holder: named === undefined ? plain.size : 1 } : {}),
  };
  const why =
    named !== undefined
      ? "This proxy cannot be leased now: it is at a limit, at rest or excluded."
      : isHolderFull
        ? `No further lease for this holder: it has the ${state.rules.policy.holder.leasesMax} open leases that the policy's holder.leasesMax allows.`
        : isBound
          ? "The proxy that this session is bound to cannot be leased now: it is at a limit, or rests for a moment."
          : `No proxy can be leased now: every one that matches is at a limit, at rest or excluded.${shared(plain)}`;
  return refuse("pool-exhausted", why, {
    retryAfterMs: at === Infinity ? retryUnknownMs : Math.max(1, at - state.at),
    limitedBy,
  });
}

function shared({ sharing, size }: CandidateIndex): string {
  return sharing === 0
    ? ""
    : ` ${sharing} of the ${size} that match share an exit with another one, and so its limits.`;
}

function heldBackAlone(state: PoolState, proxy: Proxy, minUses: number): ReturnType<typeof heldBack> {
  const { held } = roomOf(state, proxy.account, minUses);
  const all = isResting(proxy) ? held | bitOf("rest") : held;
  return heldBack(state, (i) => (all >> i) & 1);
}

function grantableAt(state: PoolState, { request, indexes, bounds, named }: Asked): number {
  if (named === undefined) return retryAt(state, indexes.plain, request, bounds);
  if (bounds.excluded.has(named.id)) return Infinity;
  return Math.max(holderFreeAt(state, request.holder), leasableAt(state, named, request.minUses));
}

function tooManySessions(state: PoolState): Refusal {
  const { max } = state.rules.policy.session;
  return overloaded(`${max} sessions have open leases, as many as the policy's session.max allows.`);
}

function noMatch({ proxyId }: LeaseRequest): Refusal {
  const terms = proxyId === undefined ? "these labels and schemes" : "this id and these labels and schemes";
  return refuse("no-match", `No proxy of this pool has ${terms}.`);
}

function unknownLease(leaseId: string): Refusal {
  return refuse("unknown-lease", `The lease ${leaseId} is not known, or has ended.`);
}
