// Who waits for a token at a pool's leader. Those who look for the same one stand together, so that one refresh does for all
// of them, and a look costs no more for many. They are in the leader's memory alone, like waiting wishes.
import type { Event } from "../../events/event.ts";
import type { LeaseRequest } from "../../protocol/lease.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { TokenReply } from "../../protocol/token.ts";
import type { CandidateIndexes } from "../../state-machines/candidates/candidates.ts";
import {
  anyTokenDueAt,
  askForToken,
  askForTokenOf,
  noTokenSource,
  tokenDueAt,
  tokenUnavailable,
} from "../../state-machines/decide/refreshes.ts";
import { grantsLeases } from "../../state-machines/decide/token.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { poolKey, type Token } from "../../state-machines/machines/token.ts";
import { isGood, isUnavailable } from "../../state-machines/rules/token.ts";
import { Heap } from "../../state-machines/structures/heap.ts";
import { closed } from "./job.ts";
import type { Leader } from "./leader.ts";

type Respond = (answer: object) => void;
type Answer = TokenReply | Refusal;

export interface Asked {
  /** Absent: the pool's token or, where each proxy has its own, any one's. */
  proxyId: string | undefined;
  respond: Respond;
  /** In the pool's time. */
  deadline: number;
}

interface Asker extends Asked {
  readonly group: Group;
  place: number;
}

interface Group {
  readonly proxyId: string | undefined;
  readonly askers: Set<Asker>;
  /** Whose token it looks for, a proxy's or the pool's; undefined: any proxy's. */
  key: string | undefined;
  /** Where the next proxy that can be leased is as good as any other; undefined as well where there are too many demands. */
  indexes: CandidateIndexes | undefined;
}

const anyWithToken: Pick<LeaseRequest, "minUses" | "token"> = { minUses: 1, token: true };
const everybody = "*";
const nobody: ReadonlySet<string> = new Set();
const retryUnknownMs = 1000;

export class Askers {
  readonly #leader: Leader;
  readonly #replyOf: (token: Token | undefined) => TokenReply | undefined;
  /** By the proxy that they name; "": none. */
  readonly #groups = new Map<string, Group>();
  readonly #deadlines = new Heap<"place", Asker>("place", (a, b) => a.deadline < b.deadline);
  /** Those whose answer may be there by now. */
  readonly #concerned = new Set<Group>();
  /** So many of its events have been looked at. */
  #seen = 0;
  #turn: Turn | undefined;
  #scope: string | undefined;

  /** @param given.replyOf a token that may be given, with its value; undefined: it may not, or is not to be had. */
  constructor(given: { leader: Leader; replyOf: (token: Token | undefined) => TokenReply | undefined }) {
    this.#leader = given.leader;
    this.#replyOf = given.replyOf;
  }

  get #state(): PoolState {
    return this.#leader.state;
  }

  /** Answers at once where that can be, or lets the asker wait. "aside": that cannot be said yet. */
  ask(turn: Turn, asked: Asked): Answer | "waits" | "aside" {
    const { state } = turn;
    const isNamed = asked.proxyId !== undefined && state.rules.policy.token?.scope === "proxy";
    if (!isNamed && !this.#leader.candidates.isReady(anyWithToken)) return "aside";
    const group = this.#groups.get(asked.proxyId ?? "") ?? this.#newGroup(asked.proxyId);
    const known = this.#answerTo(group);
    if (known !== undefined) return known;
    const { key, indexes } = group;
    const proxy = key === undefined ? undefined : state.proxies.get(key);
    if (proxy !== undefined) askForTokenOf(turn, proxy);
    else if (indexes !== undefined)
      askForToken(turn, this.#leader.candidates, { indexes, excluded: nobody, bound: undefined });
    if (asked.deadline <= turn.at || this.#isHopeless(group)) return this.#refusalOf(group);
    const { max } = state.rules.policy.waiting;
    if (this.#deadlines.size >= max) return overloaded(`More than ${max} wait already.`);
    const asker: Asker = { ...asked, group, place: -1 };
    if (group.askers.size === 0) this.#stand(group);
    group.askers.add(asker);
    this.#deadlines.set(asker);
    return "waits";
  }

  /** After a change of policy whoever waits looks for another token, or for none. Before any refresh begins in the turn. */
  regroup(): void {
    const scope = this.#state.rules.policy.token?.scope;
    if (scope === this.#scope) return;
    this.#scope = scope;
    for (const group of this.#groups.values()) {
      this.#stepBack(group);
      Object.assign(group, this.#aimOf(group.proxyId));
      this.#stand(group);
    }
  }

  /** After what the turn has decided: who can be answered, or has waited long enough. */
  serve(turn: Turn): void {
    this.#note(turn);
    if (this.#leader.candidates.isRebuilding) return;
    const any = this.#groups.get("");
    if (any !== undefined) this.#concerned.add(any);
    const concerned = [...this.#concerned];
    this.#concerned.clear();
    for (const group of concerned) {
      const answer = this.#answerTo(group) ?? (this.#isHopeless(group) ? this.#refusalOf(group) : undefined);
      if (answer === undefined) continue;
      for (const asker of [...group.askers]) this.#tell(asker, answer);
    }
    for (
      let asker = this.#deadlines.top;
      asker !== undefined && asker.deadline <= turn.at;
      asker = this.#deadlines.top
    ) {
      this.#tell(asker, this.#refusalOf(asker.group));
    }
  }

  /** Whom it concerns that has been decided since the last look. With thousands of them none else is looked at. */
  #note(turn: Turn): void {
    const rest = this.#turn === turn ? [] : (this.#turn?.events.slice(this.#seen) ?? []);
    const news = this.#groups.size === 0 ? [] : [...rest, ...turn.events.slice(this.#turn === turn ? this.#seen : 0)];
    this.#turn = turn;
    this.#seen = turn.events.length;
    for (const event of news) {
      const whom = proxyConcerned(event);
      const group = whom === undefined || whom === everybody ? undefined : this.#groups.get(whom);
      if (group !== undefined) this.#concerned.add(group);
      else if (whom === everybody) for (const each of this.#groups.values()) this.#concerned.add(each);
    }
  }

  wakeAt(): number {
    return this.#deadlines.top?.deadline ?? Infinity;
  }

  close(): void {
    for (const { askers } of this.#groups.values()) for (const { respond } of askers) respond(closed());
    this.#groups.clear();
    this.#concerned.clear();
    this.#deadlines.clear();
  }

  #tell(asker: Asker, answer: Answer): void {
    const { group } = asker;
    group.askers.delete(asker);
    this.#deadlines.delete(asker);
    if (group.askers.size === 0) {
      this.#stepBack(group);
      this.#groups.delete(group.proxyId ?? "");
      this.#concerned.delete(group);
    }
    this.#leader.afterwards(() => asker.respond(answer));
  }

  #newGroup(proxyId: string | undefined): Group {
    return { proxyId, askers: new Set(), ...this.#aimOf(proxyId) };
  }

  #aimOf(proxyId: string | undefined): Pick<Group, "key" | "indexes"> {
    const scope = this.#state.rules.policy.token?.scope;
    if (scope === "proxy" && proxyId !== undefined) return { key: proxyId, indexes: undefined };
    const indexes = scope === undefined ? undefined : this.#leader.candidates.indexesFor(anyWithToken);
    return { key: scope === "pool" ? poolKey : undefined, indexes };
  }

  /** From now on its token is fetched when it can be. */
  #stand(group: Group): void {
    const { proxyId, indexes } = group;
    const { candidates, waiting } = this.#leader;
    this.#groups.set(proxyId ?? "", group);
    if (indexes !== undefined) {
      waiting.refreshes.waits(1, indexes);
      for (const index of new Set(Object.values(indexes))) candidates.keep(index);
    } else if (group.key !== undefined) this.#state.askFor(group.key, 1);
  }

  #stepBack({ key, indexes }: Group): void {
    const { candidates, waiting } = this.#leader;
    if (indexes !== undefined) {
      waiting.refreshes.waits(-1, indexes);
      for (const index of new Set(Object.values(indexes))) candidates.letGo(index);
    } else if (key !== undefined) this.#state.askFor(key, -1);
  }

  /** What can be told now and is not "not yet". */
  #answerTo(group: Group): Answer | undefined {
    const state = this.#state;
    const { proxyId, key, indexes } = group;
    if (state.rules.policy.token === null) return noTokenSource();
    if (proxyId !== undefined && (state.proxies.get(proxyId)?.state ?? "retired") === "retired")
      return refuse("unknown-proxy", "No proxy of this pool has this id.");
    const isNamed = key !== undefined && key === proxyId;
    if (indexes === undefined && !isNamed) return overloaded("Too many different wishes are waiting.");
    const found =
      key === undefined && indexes !== undefined ? this.#anyOf(indexes) : this.#replyOf(state.tokens.get(key ?? ""));
    if (found !== undefined || grantsLeases(state) || this.#isFetched(group)) return found;
    return refuse("unavailable", "The pool is closing: no more tokens are fetched.", { retryAfterMs: retryUnknownMs });
  }

  #anyOf({ able }: CandidateIndexes): TokenReply | undefined {
    const state = this.#state;
    this.#leader.candidates.settle();
    able.advance();
    const chosen = able.choose(nobody);
    if (chosen !== undefined && "proxy" in chosen) return this.#replyOf(state.tokens.get(chosen.proxy.id));
    if (able.size === 0) return undefined;
    // Their proxies are busy; their tokens are good all the same.
    for (const token of state.tokens.values()) {
      if (isGood(state, token) && state.proxies.get(token.key)?.state !== "retired") return this.#replyOf(token);
    }
    return undefined;
  }

  #isFetched({ key, indexes }: Group): boolean {
    if (key === undefined) return (indexes?.wanting?.fetching ?? 0) > 0;
    return (this.#state.tokens.get(key)?.refresh ?? null) !== null;
  }

  /** Nothing is fetched for now, whoever waits. */
  #isHopeless({ key }: Group): boolean {
    return key !== undefined && isUnavailable(this.#state, this.#state.tokens.get(key));
  }

  /** There is none yet; when to ask again. */
  #refusalOf({ key, indexes }: Group): Refusal {
    const state = this.#state;
    const { candidates } = this.#leader;
    const wanting = indexes?.wanting;
    const at =
      key !== undefined
        ? tokenDueAt(state, candidates, key)
        : indexes !== undefined && wanting !== undefined
          ? anyTokenDueAt({ ...indexes, wanting })
          : Infinity;
    const token = key === undefined ? undefined : state.tokens.get(key);
    return tokenUnavailable(state, at === Infinity ? state.at + retryUnknownMs : at, token);
  }
}

/** Whom it may concern: who waits for this proxy's token, or everybody. Any proxy's token is looked for at every look. */
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

function overloaded(why: string): Refusal {
  return refuse("overloaded", why, { retryAfterMs: retryUnknownMs });
}
