// Requests that wait for tokens, in the leader's memory, and the refreshes that they cause. A refresh goes ahead of
// waiting requests: it takes the first proxy that can be leased. No refresh begins while no request waits and no token
// was rejected. With per-proxy tokens, each waiting request may cause one refresh.
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { CandidateIndex } from "../candidates/candidate-index.ts";
import type { CandidateIndexes, Candidates } from "../candidates/candidates.ts";
import type { PoolState, Proxy } from "../fold/state.ts";
import { poolKey } from "../machines/token.ts";
import { leasableAt } from "../rules/exit.ts";
import { chooseBound } from "../rules/session.ts";
import { isDue, isGood, mayRefresh, tokenFor } from "../rules/token.ts";
import { restWhenShort } from "./rest.ts";
import { beginRefresh, grantsLeases } from "./token.ts";
import type { Turn } from "./turn.ts";

/** One look passes over this many exits whose usage rest is due. */
const restsPerLook = 50;
const noProxies: ReadonlySet<string> = new Set();
const anyProxy = { minUses: 1 };

/** The requests that wait for a token of one candidate index, by the proxies that they exclude. */
interface Group {
  size: number;
  /** Proxies with a token. Requests that these can serve at once need no refresh. */
  able: CandidateIndex;
  readonly kinds: Map<string, { excluded: ReadonlySet<string>; count: number }>;
  /** The index's `changes` at the last look that could begin no refresh. */
  lookedAt: number;
}

export class Refreshes {
  readonly #state: PoolState;
  readonly #candidates: Candidates;
  readonly #groups = new Map<CandidateIndex, Group>();
  /** How many requests wait for the pool's token. */
  #waitForPool = 0;

  constructor(state: PoolState, candidates: Candidates) {
    this.#state = state;
    this.#candidates = candidates;
  }

  /** A request begins or stops to wait for a token. @param indexes without `wanting`: for the pool's token. */
  waits(change: 1 | -1, indexes: Pick<CandidateIndexes, "able" | "wanting">, exclude: readonly string[] = []): void {
    const { able, wanting } = indexes;
    if (wanting === undefined) {
      this.#waitForPool += change;
      return;
    }
    const group = this.#groups.get(wanting) ?? { size: 0, able, kinds: new Map(), lookedAt: -1 };
    this.#groups.set(wanting, group);
    const key = exclude.toSorted().join(" ");
    const kind = group.kinds.get(key) ?? { excluded: new Set(exclude), count: 0 };
    group.kinds.set(key, kind);
    kind.count += change;
    group.size += change;
    group.lookedAt = -1;
    if (kind.count === 0) group.kinds.delete(key);
    if (group.size === 0) this.#groups.delete(wanting);
  }

  /** Begins all refreshes that can begin, until the turn is full. */
  serve(turn: Turn, room: () => boolean): void {
    const state = this.#state;
    const candidates = this.#candidates;
    const { token: policy } = state.rules.policy;
    if (policy === null || !grantsLeases(state)) return;
    if (policy.scope === "pool") {
      if (this.#poolIsDue() && room()) begin(turn, () => candidates.indexFor(anyProxy));
      return;
    }
    const due = (): CandidateIndex | undefined => (hasDue(state) ? candidates.indexFor(anyProxy, "due") : undefined);
    while (room() && begin(turn, due));
    for (const [wanting, group] of this.#groups) {
      const current = (): CandidateIndex => upToDate(candidates, wanting);
      if (current().ready.size === 0 || group.lookedAt === wanting.changes) continue;
      for (const { excluded, count } of group.kinds.values()) {
        const most = excluded.size === 0 ? group.size : count;
        const ableNow = (): number => upToDate(candidates, group.able).leasable - group.able.excludedMatches(excluded);
        while (room() && current().fetchingWithout(excluded) + Math.max(0, ableNow()) < most) {
          if (begin(turn, current, excluded)) continue;
          if (room()) group.lookedAt = current().changes;
          break;
        }
      }
    }
  }

  /** When time alone may let a refresh begin. The state itself tracks the times of tokens. */
  wakeAt(): number {
    const state = this.#state;
    const { token: policy } = state.rules.policy;
    if (policy === null || !grantsLeases(state)) return Infinity;
    let at = state.tokenTimes.top?.changesAt ?? Infinity;
    // Indexes of the other scope are not looked at, so an instant that has passed for them would stay due for ever.
    const indexes = policy.scope === "proxy" ? [...this.#groups.keys()] : [];
    const isDue = policy.scope === "pool" ? this.#poolIsDue() : hasDue(state);
    const due = isDue ? this.#candidates.indexFor(anyProxy, policy.scope === "pool" ? undefined : "due") : undefined;
    for (const index of due === undefined ? indexes : [...indexes, due]) at = Math.min(at, index.timed.least);
    return at;
  }

  /** Whether a refresh of the pool's token can begin as soon as a proxy is free. */
  #poolIsDue(): boolean {
    const state = this.#state;
    const token = state.tokens.get(poolKey);
    const isWanted = isDue(state, token) || (this.#waitForPool > 0 && !isGood(state, token));
    return isWanted && mayRefresh(state, token);
  }
}

/** A lease request lacks only a token: begins a refresh, unless one that may serve it is under way. */
export function askForToken(
  turn: Turn,
  asked: { indexes: CandidateIndexes; excluded: ReadonlySet<string>; bound: Proxy | undefined },
): void {
  const { state, candidates } = turn;
  const { indexes, excluded, bound } = asked;
  if (!grantsLeases(state)) return;
  const { wanting } = indexes;
  if (wanting === undefined) {
    if (mayRefresh(state, state.tokens.get(poolKey))) begin(turn, () => candidates.indexFor(anyProxy));
  } else if (bound !== undefined) {
    askForTokenOf(turn, bound);
  } else if (wanting.fetchingWithout(excluded) === 0) {
    begin(turn, () => upToDate(candidates, wanting), excluded);
  }
  // The caller computes the next answer from the indexes, so they must know of the refresh, or the due rest, that has
  // begun.
  candidates.settle();
}

/** The same for one proxy's own token. */
export function askForTokenOf(turn: Turn, proxy: Proxy): void {
  const { state } = turn;
  if (!grantsLeases(state) || proxy.state === "retired" || !mayRefresh(state, tokenFor(state, proxy))) return;
  let chosen = chooseBound(state, proxy, 1);
  if (chosen !== undefined && "restIsDue" in chosen) {
    restWhenShort(turn, chosen.restIsDue);
    chosen = chooseBound(state, proxy, 1);
  }
  if (chosen !== undefined && "proxy" in chosen) beginRefresh(turn, chosen);
}

/** When a refresh under way is over at the latest, or when the next may begin. Infinity: unknown. */
export function tokenDueAt(state: PoolState, candidates: Candidates, key: string): number {
  const token = state.tokens.get(key);
  if (token !== undefined && token.refresh !== null) return token.deadlineAt;
  const proxy = state.proxies.get(key);
  const freeAt =
    key === poolKey
      ? candidates.indexFor(anyProxy)?.leasableAt(noProxies)
      : proxy && proxy.state !== "retired"
        ? leasableAt(state, proxy, 1)
        : undefined;
  return Math.max(token?.retryAt ?? 0, freeAt ?? Infinity);
}

/** The same for a token of any proxy. While one is fetched for these requests, no other is. */
export function anyTokenDueAt(
  { wanting }: Required<CandidateIndexes>,
  excluded: ReadonlySet<string> = noProxies,
): number {
  const pausedUntil = wanting.pausedUntil(excluded);
  return wanting.fetchingWithout(excluded) > 0 ? pausedUntil : Math.min(pausedUntil, wanting.leasableAt(excluded));
}

/** @param at when to ask again. @param token the missing one, if the request named it. */
export function tokenUnavailable(state: PoolState, at: number, token = state.tokens.get(poolKey)): Refusal {
  const failing = token?.state === "unavailable" ? ` Fetching it has failed ${token.failures} times in a row.` : "";
  const message = `No token is available now.${failing}`;
  return refuse("token-unavailable", message, { retryAfterMs: Math.max(1, at - state.at) });
}

export function noTokenSource(): Refusal {
  return refuse("no-token-source", "This pool has no token source: its policy says token: null.");
}

/** Whether looking for proxies with due tokens can find any. */
function hasDue(state: PoolState): boolean {
  return state.askedFor.size > 0 || state.tokens.size > 0;
}

function upToDate(candidates: Candidates, index: CandidateIndex): CandidateIndex {
  candidates.settle();
  index.advance();
  return index;
}

/** Begins a refresh through the best proxy that can be leased. False: none can be leased now. */
function begin(
  turn: Turn,
  indexNow: () => CandidateIndex | undefined,
  excluded: ReadonlySet<string> = noProxies,
): boolean {
  for (let rests = 0; rests < restsPerLook; rests++) {
    const chosen = indexNow()?.choose(excluded, { draw: () => turn.draw(), target: undefined });
    if (chosen === undefined) return false;
    if ("proxy" in chosen) return beginRefresh(turn, chosen);
    restWhenShort(turn, chosen.restIsDue);
  }
  return false;
}
