// Token waiters: requests that wait for a guest token, in the leader's memory only. Those for the same token form a
// group, so that one refresh serves all of them.
import type { Event } from "../../events/event.ts";
import type { LeaseRequest } from "../../protocol/lease.ts";
import { overloaded, type Refusal, refuse } from "../../protocol/refusal.ts";
import type { CandidateIndexes, Candidates } from "../candidates/candidates.ts";
import type { TokenGiven } from "../command.ts";
import {
  anyTokenDueAt,
  askForToken,
  askForTokenOf,
  noTokenSource,
  type Refreshes,
  tokenDueAt,
  tokenUnavailable,
} from "../decide/refreshes.ts";
import { grantsLeases, ownerOf } from "../decide/token.ts";
import type { Turn } from "../decide/turn.ts";
import type { PoolState } from "../fold/state.ts";
import { poolKey, type Token } from "../machines/token.ts";
import { refusalAfterRestore } from "../rules/restored.ts";
import { isGood, isUnavailable } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";
import type { Tell } from "./waiting.ts";

type TokenAnswer = { token: TokenGiven } | { refusal: Refusal };

export interface TokenRequest<To> {
  /** Absent: the pool's token or, with per-proxy tokens, any proxy's. */
  proxyId: string | undefined;
  /** In the pool's time. */
  deadline: number;
  to: To;
}

interface Waiter<To> extends TokenRequest<To> {
  readonly group: Group<To>;
  place: number;
}

interface Group<To> {
  readonly proxyId: string | undefined;
  readonly waiters: Set<Waiter<To>>;
  /** The owner of the token: a proxy or the pool. Undefined: any proxy. */
  key: string | undefined;
  /** Undefined: the request names a proxy, or there are too many indexes. */
  indexes: CandidateIndexes | undefined;
}

const anyWithToken: Pick<LeaseRequest, "minUses" | "token"> = { minUses: 1, token: true };
const everybody = "*";
const noProxies: ReadonlySet<string> = new Set();
const retryUnknownMs = 1000;

export class TokenWaiters<To> {
  readonly #state: PoolState;
  readonly #candidates: Candidates;
  readonly #refreshes: Refreshes;
  /** By the proxy that they name. "": none. */
  readonly #groups = new Map<string, Group<To>>();
  readonly #deadlines = new Heap<"place", Waiter<To>>("place", (a, b) => a.deadline < b.deadline);
  /** Groups that may have their answer by now. */
  readonly #concerned = new Set<Group<To>>();
  /** How many events of `#turn` were looked at. */
  #seen = 0;
  #turn: Turn | undefined;
  #scope: string | undefined;

  constructor(state: PoolState, candidates: Candidates, refreshes: Refreshes) {
    this.#state = state;
    this.#candidates = candidates;
    this.#refreshes = refreshes;
  }

  /** Answers at once, or lets it wait. "aside": its index is being built. */
  ask(turn: Turn, asked: TokenRequest<To>): TokenAnswer | "waits" | "aside" {
    const { state } = turn;
    const isNamed = asked.proxyId !== undefined && state.rules.policy.token?.scope === "proxy";
    if (!isNamed && !this.#candidates.isReady(anyWithToken)) return "aside";
    const group = this.#groups.get(asked.proxyId ?? "") ?? this.#newGroup(asked.proxyId);
    const known = this.#answerTo(group);
    if (known !== undefined) return known;
    const { key, indexes } = group;
    const proxy = key === undefined ? undefined : state.proxies.get(key);
    if (proxy !== undefined) askForTokenOf(turn, proxy);
    else if (indexes !== undefined) askForToken(turn, { indexes, excluded: noProxies, bound: undefined });
    if (asked.deadline <= turn.at || this.#isHopeless(group)) return { refusal: this.#refusalOf(group) };
    const { max } = state.rules.policy.waiting;
    if (this.#deadlines.size >= max)
      return { refusal: overloaded(`More than ${max} requests for a token are waiting.`) };
    const waiter: Waiter<To> = { ...asked, group, place: -1 };
    if (group.waiters.size === 0) this.#enter(group);
    group.waiters.add(waiter);
    this.#deadlines.set(waiter);
    return "waits";
  }

  /** After a change of policy, every group looks for another token or for none. Call it before any refresh begins. */
  regroup(): void {
    const scope = this.#state.rules.policy.token?.scope;
    if (scope === this.#scope) return;
    this.#scope = scope;
    for (const group of this.#groups.values()) {
      this.#leave(group);
      Object.assign(group, this.#aimOf(group.proxyId));
      this.#enter(group);
    }
  }

  /** Answers the waiters that can be answered after the turn's events, or have waited long enough. */
  serve(turn: Turn, tell: Tell<To>): void {
    this.#note(turn);
    if (this.#candidates.isRebuilding || this.#groups.size === 0) return;
    const any = this.#groups.get("");
    if (any !== undefined) this.#concerned.add(any);
    const concerned = [...this.#concerned];
    this.#concerned.clear();
    for (const group of concerned) {
      const isHopeless = (): boolean => this.#isHopeless(group);
      const answer = this.#answerTo(group) ?? (isHopeless() ? { refusal: this.#refusalOf(group) } : undefined);
      if (answer === undefined) continue;
      for (const waiter of [...group.waiters]) this.#settle(waiter, answer, tell);
    }
    let first = this.#deadlines.top;
    for (; first !== undefined && first.deadline <= turn.at; first = this.#deadlines.top)
      this.#settle(first, { refusal: this.#refusalOf(first.group) }, tell);
  }

  /** When the first of them has waited long enough. */
  wakeAt(): number {
    return this.#deadlines.top?.deadline ?? Infinity;
  }

  *all(): Iterable<TokenRequest<To>> {
    for (const { waiters } of this.#groups.values()) yield* waiters;
  }

  close(tell: Tell<To>, refusal: Refusal): void {
    for (const { waiters } of [...this.#groups.values()])
      for (const waiter of [...waiters]) this.#settle(waiter, { refusal }, tell);
  }

  /** Finds the groups that the new events concern. With thousands of groups no other is looked at. */
  #note(turn: Turn): void {
    const others = this.#turn === turn ? [] : (this.#turn?.events.slice(this.#seen) ?? []);
    const news = this.#groups.size === 0 ? [] : [...others, ...turn.events.slice(this.#turn === turn ? this.#seen : 0)];
    this.#turn = turn;
    this.#seen = turn.events.length;
    for (const event of news) {
      const whom = proxyConcerned(event);
      const group = whom === undefined || whom === everybody ? undefined : this.#groups.get(whom);
      if (group !== undefined) this.#concerned.add(group);
      else if (whom === everybody) for (const each of this.#groups.values()) this.#concerned.add(each);
    }
  }

  #settle(waiter: Waiter<To>, answer: TokenAnswer, tell: Tell<To>): void {
    const { group } = waiter;
    group.waiters.delete(waiter);
    this.#deadlines.delete(waiter);
    if (group.waiters.size === 0) {
      this.#leave(group);
      this.#groups.delete(group.proxyId ?? "");
      this.#concerned.delete(group);
    }
    tell(waiter.to, answer);
  }

  #newGroup(proxyId: string | undefined): Group<To> {
    return { proxyId, waiters: new Set(), ...this.#aimOf(proxyId) };
  }

  #aimOf(proxyId: string | undefined): Pick<Group<To>, "key" | "indexes"> {
    const scope = this.#state.rules.policy.token?.scope;
    if (scope === "proxy" && proxyId !== undefined) return { key: proxyId, indexes: undefined };
    const indexes = scope === undefined ? undefined : this.#candidates.indexesFor(anyWithToken);
    return { key: scope === "pool" ? poolKey : undefined, indexes };
  }

  /** From now on its token is fetched as soon as possible. */
  #enter(group: Group<To>): void {
    const { proxyId, indexes } = group;
    this.#groups.set(proxyId ?? "", group);
    if (indexes !== undefined) {
      this.#refreshes.waits(1, indexes);
      this.#candidates.pin(indexes, 1);
    } else if (group.key !== undefined) this.#state.askFor(group.key, 1);
  }

  #leave({ key, indexes }: Group<To>): void {
    if (indexes !== undefined) {
      this.#refreshes.waits(-1, indexes);
      this.#candidates.pin(indexes, -1);
    } else if (key !== undefined) this.#state.askFor(key, -1);
  }

  /** The answer, if it can be given now. */
  #answerTo(group: Group<To>): TokenAnswer | undefined {
    const state = this.#state;
    const { proxyId, key, indexes } = group;
    if (state.rules.policy.token === null) return { refusal: noTokenSource() };
    if (proxyId !== undefined && (state.proxies.get(proxyId)?.state ?? "retired") === "retired")
      return { refusal: refuse("unknown-proxy", "No proxy of this pool has this id.") };
    const isNamed = key !== undefined && key === proxyId;
    if (indexes === undefined && !isNamed) return { refusal: overloaded("Too many different requests are waiting.") };
    const token = key === undefined && indexes !== undefined ? this.#anyOf(indexes) : state.tokens.get(key ?? "");
    if (token !== undefined && isGood(state, token)) return { token: given(token) };
    if (grantsLeases(state) || this.#isFetched(group)) return undefined;
    const why = "The pool is closing: no more tokens are fetched.";
    return { refusal: refusalAfterRestore(state) ?? refuse("unavailable", why, { retryAfterMs: retryUnknownMs }) };
  }

  #anyOf({ able }: CandidateIndexes): Token | undefined {
    const state = this.#state;
    this.#candidates.settle();
    able.advance();
    const chosen = able.choose(noProxies);
    if (chosen !== undefined && "proxy" in chosen) return state.tokens.get(chosen.proxy.id);
    if (able.size === 0) return undefined;
    // Their proxies are busy, but a token can be given nevertheless.
    for (const token of state.tokens.values()) {
      if (isGood(state, token) && state.proxies.get(token.key)?.state !== "retired") return token;
    }
    return undefined;
  }

  #isFetched({ key, indexes }: Group<To>): boolean {
    if (key === undefined) return (indexes?.wanting?.fetchingWithout(noProxies) ?? 0) > 0;
    return (this.#state.tokens.get(key)?.refresh ?? null) !== null;
  }

  /** No refresh begins for now, however many wait. */
  #isHopeless({ key }: Group<To>): boolean {
    return key !== undefined && isUnavailable(this.#state, this.#state.tokens.get(key));
  }

  /** No token yet, and when to ask again. */
  #refusalOf({ key, indexes }: Group<To>): Refusal {
    const state = this.#state;
    const wanting = indexes?.wanting;
    const at =
      key !== undefined
        ? tokenDueAt(state, this.#candidates, key)
        : indexes !== undefined && wanting !== undefined
          ? anyTokenDueAt({ ...indexes, wanting })
          : Infinity;
    const token = key === undefined ? undefined : state.tokens.get(key);
    return tokenUnavailable(state, at === Infinity ? state.at + retryUnknownMs : at, token);
  }
}

function given({ tokenId, mintedAt, expiresAt, key }: Token): TokenGiven {
  return { tokenId, mintedAt, ...(expiresAt === 0 ? {} : { expiresAt }), ...ownerOf(key) };
}

/** The groups that an event may concern: those of this proxy, or all. The group for any proxy is always looked at. */
function proxyConcerned(event: Event): string | undefined {
  switch (event.type) {
    case "TokenMinted":
    case "TokenRefused":
    case "TokenRejected":
      return event.proxyId ?? everybody;
    case "ProxyRetired":
      return event.proxyId;
    case "PolicyChanged":
    case "PoolClosed":
      return everybody;
    default:
      return undefined;
  }
}
