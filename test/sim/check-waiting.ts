// Waiting and refusals. No request is granted a proxy for which an earlier waiting request is eligible. A waiting
// request is answered in the very commit in which that becomes possible. No request is refused that could be granted.
// `retryAfterMs` is exact.
import type { LeaseGranted } from "../../events/lease.ts";
import type { BookProxy } from "./account.ts";
import { type Court, short, type Wanted } from "./court.ts";
import { leasesAt } from "./fork.ts";
import type { Life } from "./life.ts";
import { type Ask, leasesIn, type SimService, type Turned } from "./service.ts";

const changing =
  /^(lease|cancel|renew|release|report|token\.(get|reject|result)|proxies\.(add|retire|rest|revive)|pool\.(policy|close))$/;
/** The answer if no instant is known. */
const retryUnknownMs = 60_000;
/** Each costs two foldings of the whole ledger. More are tried where a rest to come has failures to check. */
const forksMax = { any: 4, checkedLater: 12 };

export class WaitingChecker {
  readonly #court: Court;
  readonly #service: () => SimService;
  /** Requests that may wait, by life, in the order of their arrival. */
  readonly #pending = new Map<Life, Ask[]>();
  /** Of requests that have a lease by now, by the ids of all their leases. */
  readonly #orders = new Map<string, number>();
  readonly #turns = new Map<string, Turned>();
  readonly #lastTurn = new Map<Life, Turned>();
  #suspicions: { ask: Ask; checker: "fairness" | "waiting"; sentence: string; turn: Turned }[] = [];
  #forks = 0;
  /** Results of refreshes that are not decided yet: a later turn decides them. `#mixed` has the turns that may have. */
  #results: Ask[] = [];
  readonly #mixed = new WeakSet<Turned>();

  constructor(court: Court, service: () => SimService) {
    this.#court = court;
    this.#service = service;
  }

  asked(ask: Ask): void {
    if (ask.verb === "token.result") this.#results.push(ask);
    if (ask.verb !== "lease" || Number(ask.body["waitMs"] ?? 0) === 0) return;
    this.#pending.set(ask.life, [...(this.#pending.get(ask.life) ?? []), ask]);
  }

  turned(turn: Turned): void {
    this.#results = this.#results.filter((ask) => ask.answer === undefined && ask.life.alive);
    if (this.#results.some((ask) => ask.life === turn.life)) this.#mixed.add(turn);
    this.#lastTurn.set(turn.life, turn);
    this.#turns.set(`${turn.life.name} ${turn.number}`, turn);
  }

  turnOf(name: string, number: number): Turned | undefined {
    return this.#turns.get(`${name} ${number}`);
  }

  /** Asked just before the grant is written. */
  beforeGrant(event: LeaseGranted, turn: Turned): void {
    const { book } = this.#court;
    const proxy = book.proxy(event.proxyId);
    const pending = this.#pending.get(turn.life) ?? [];
    const mine = pending.find((ask) => ask.leaseIds.includes(event.leaseId));
    const newest = turn.asks.find((ask) => ask.leaseIds.includes(event.leaseId));
    if (mine !== undefined) {
      this.#settle(mine);
      for (const leaseId of mine.leaseIds) this.#orders.set(leaseId, mine.order);
      const waited = book.at - mine.arrivedAt > 0 && !turn.asks.includes(mine);
      if (waited) this.#court.saw("wait: served");
    }
    const before = this.#orders.get(event.leaseId) ?? newest?.order ?? Infinity;
    for (const ask of pending) {
      if (ask.order >= before || !this.#waits(ask, turn) || !this.#isEligible(proxy, ask)) continue;
      const earlier = `an earlier request (${describe(ask)}) waits since ${ask.arrivedAt} and could have had it`;
      const sentence = `${short(event.leaseId)} is granted ${short(proxy.id)} at ${book.at}; ${earlier}`;
      this.#suspicions.push({ ask, checker: "fairness", sentence, turn });
    }
  }

  /** At the end of a commit of a leader that serves: no request waits for a proxy that it could get. */
  end(turn: Turned): void {
    const { book } = this.#court;
    if (book.draining || !book.opened) return;
    for (const ask of this.#pending.get(turn.life) ?? []) {
      if (ask.order >= turn.lookedTo || !this.#waits(ask, turn)) continue;
      const proxy = [...book.proxies.values()].find((each) => this.#isEligible(each, ask));
      if (proxy === undefined) continue;
      const sentence = `the request (${describe(ask)}) waits on after commit ${turn.number} at ${book.at}, and ${short(proxy.id)} of ${proxy.exit} could be leased to it`;
      this.#suspicions.push({ ask, checker: "waiting", sentence, turn });
    }
  }

  answered(ask: Ask): void {
    const answer = ask.answer ?? {};
    const code = answer["code"];
    this.#settle(ask);
    const suspicions = this.#suspicions.filter((each) => each.ask === ask);
    this.#suspicions = this.#suspicions.filter((each) => each.ask !== ask);
    for (const { checker, sentence, turn } of suspicions) {
      // Refused in that very turn for another reason, it did not wait.
      if (turn === this.#lastTurn.get(ask.life) && code !== undefined) continue;
      this.#court.find(checker, sentence);
    }
    if (ask.verb === "lease" && code === "pool-exhausted") this.#refused(ask);
    if (ask.verb === "lease" && ask.body["count"] !== undefined && code === undefined) this.#granted(ask);
  }

  /** Requests of lives that are not over and that have no answer. */
  get unanswered(): Ask[] {
    return [...this.#pending.values()].flat().filter((ask) => ask.answer === undefined && ask.life.leads);
  }

  asksOf(life: Life): readonly Ask[] {
    return this.#pending.get(life) ?? [];
  }

  /** The requests of a dead life no longer wait. */
  died(life: Life): void {
    this.#pending.delete(life);
    this.#suspicions = this.#suspicions.filter(({ ask }) => ask.life !== life);
  }

  #waits(ask: Ask, turn: Turned): boolean {
    const { book } = this.#court;
    const deadline = ask.arrivedAt + Number(ask.body["waitMs"]);
    const requestId = ask.body["requestId"];
    const isHeld = [...book.open].some((lease) => requestId !== undefined && lease.request.requestId === requestId);
    return ask.answer === undefined && deadline > turn.at && !isHeld;
  }

  /** Have proxies that share their exit failures that will be checked when a rest of theirs is over? */
  #isCheckedLater(ask: Ask): boolean {
    const { book } = this.#court;
    const limit = book.rules.failures?.limit ?? Infinity;
    const isShared = ({ account }: BookProxy): boolean => account.members.size > 1;
    return [...book.proxies.values()].some(
      (proxy) => proxy.failures.length > limit && isShared(proxy) && this.#court.matches(proxy, wantedOf(ask)),
    );
  }

  #isEligible(proxy: BookProxy, ask: Ask): boolean {
    return this.#court.isEligible(proxy, wantedOf(ask), this.#court.book.at);
  }

  #settle(ask: Ask): void {
    const pending = this.#pending.get(ask.life);
    if (pending !== undefined)
      this.#pending.set(
        ask.life,
        pending.filter((each) => each !== ask),
      );
  }

  /** The last turn, if nothing else was decided in it: then the request was decided on the known state. */
  #turnAlone(ask: Ask): Turned | undefined {
    const turn = this.#lastTurn.get(ask.life);
    // A request of an earlier turn may be decided only now. The events then show the proxies that it added.
    const alone =
      turn?.asks.every((each) => each === ask || !changing.test(each.verb)) === true &&
      !turn.events.some((event) => /^{"type":"Proxy(Added|Changed)"/.test(event));
    const isKnown = alone && !this.#mixed.has(turn) && this.#court.book.leader === ask.life.name;
    return isKnown ? turn : undefined;
  }

  /** A request for several leases got as many as could be had. One that has waited gets the first. */
  #granted(ask: Ask): void {
    const { book } = this.#court;
    const turn = this.#turnAlone(ask);
    const leases = leasesIn(ask.answer ?? {}).map(({ leaseId }) => book.leases.get(leaseId));
    if (turn?.asks.includes(ask) !== true || leases.length >= Number(ask.body["count"])) return;
    if (ask.body["session"] !== undefined) return; // It has one exit.
    if (!leases.every((lease) => lease !== undefined && ask.leaseIds.includes(lease.id) && lease.grantedAt === turn.at))
      return;
    const taken = new Set(leases.map((lease) => lease?.account));
    const proxy = [...book.proxies.values()].find((each) => !taken.has(each.account) && this.#isEligible(each, ask));
    if (proxy === undefined) return this.#court.saw("lease: fewer than asked for");
    const sentence = `the request (${describe(ask)}) got ${leases.length} leases at ${turn.at}, and ${short(proxy.id)} of ${proxy.exit} could be leased to it`;
    this.#court.find("refusal", sentence);
  }

  #refused(ask: Ask): void {
    const { book } = this.#court;
    const turn = this.#turnAlone(ask);
    const answer = ask.answer ?? {};
    if (turn === undefined) return;
    const proxy = [...book.proxies.values()].find((each) => this.#court.isEligible(each, wantedOf(ask), turn.at));
    if (proxy !== undefined) {
      const sentence = `the request (${describe(ask)}) is refused at ${turn.at}, and ${short(proxy.id)} of ${proxy.exit} could be leased to it`;
      return this.#court.find("refusal", sentence);
    }
    const retryAfterMs = Number(answer["retryAfterMs"]);
    if (!(retryAfterMs >= 1))
      return this.#court.find("retry-after", `pool-exhausted with retryAfterMs ${retryAfterMs}`);
    // The arrival of a token cannot be predicted.
    if (ask.body["token"] === true) return;
    if (retryAfterMs === retryUnknownMs || this.#forks >= forksMax[this.#isCheckedLater(ask) ? "checkedLater" : "any"])
      return;
    this.#forks++;
    this.#court.saw("retryAfterMs tried");
    const commits = this.#service().broker.ledger.commits;
    const [before, then] = [retryAfterMs - 1, retryAfterMs].map((ms) =>
      leasesAt(commits, ask.body, { from: turn.at, ms }),
    );
    const told = `the request (${describe(ask)}) is told at ${turn.at} to come back after ${retryAfterMs} ms`;
    if (before === true) this.#court.find("retry-after", `${told}; it would be granted 1 ms earlier already`);
    if (then === false) this.#court.find("retry-after", `${told}; then it would not be granted`);
  }
}

function wantedOf(ask: Ask): Wanted {
  const { minUses = 1, labels, schemes, exclude, session, holder, token } = ask.body as Partial<Wanted>; // Sent by the simulator's workers.
  return { minUses, labels, schemes, exclude, session, holder, token };
}

function describe(ask: Ask): string {
  const { requestId: _id, ...request } = ask.body;
  return JSON.stringify(request);
}
