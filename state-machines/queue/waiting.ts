// Waiting wishes: first come, first served. Nobody is granted a proxy for which an earlier waiting wish is eligible at
// that moment. They live in the leader's memory: with the leader they are gone, and nothing was granted.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import type { CandidateIndexes, Candidates } from "../candidates/candidates.ts";
import { recordOf, sameWish } from "../decide/grant.ts";
import { type Granted, grant, judgeWish } from "../decide/lease.ts";
import { Refreshes } from "../decide/refreshes.ts";
import type { Turn } from "../decide/turn.ts";
import type { PoolState } from "../fold/state.ts";
import { poolKey } from "../machines/token.ts";
import { isUnavailable } from "../rules/token.ts";
import { Heap } from "../structures/heap.ts";
import { Lanes, type Waiter } from "./wait-groups.ts";

export class Waiting {
  /** What waiting wishes, and others, need tokens for. */
  readonly refreshes: Refreshes;
  readonly #state: PoolState;
  readonly #lanes: Lanes;
  readonly #all = new Set<Waiter>();
  readonly #byRequest = new Map<string, Waiter>();
  readonly #deadlines = new Heap<"deadlinePlace", Waiter>("deadlinePlace", (a, b) =>
    a.deadline !== b.deadline ? a.deadline < b.deadline : a.order < b.order,
  );
  /** Those that need a token, and whose it was when they were put here. */
  readonly #forTokens = new Set<Waiter>();
  #scope: string | undefined;
  /** There may be something to serve or to begin already: the last turn was full, or one more waits for a token since. */
  #isDue = false;
  /** What their wishes were judged by. */
  #judgedBy: { policyVersion: number; draining: boolean };
  #order = 0;

  constructor(state: PoolState) {
    this.#state = state;
    this.refreshes = new Refreshes(state);
    this.#lanes = new Lanes(state, (waiter, isOpen) => {
      // For the pool's token it asks, whichever proxy it will have.
      const { wish, indexes } = waiter;
      this.#setAsks(waiter, wish.token === true && (indexes.wanting === undefined || isOpen));
    });
    this.#judgedBy = { policyVersion: state.policyVersion, draining: state.draining };
  }

  get size(): number {
    return this.#all.size;
  }

  /** Is there something to do for them in a turn that follows at once? */
  get isDue(): boolean {
    return this.#isDue;
  }

  add(
    candidates: Candidates,
    indexes: CandidateIndexes,
    given: { wish: LeaseRequest; leaseId: string; deadline: number },
  ): Waiter {
    const waiter: Waiter = { ...given, order: this.#order++, indexes, asks: false, deadlinePlace: -1 };
    this.#all.add(waiter);
    this.#deadlines.set(waiter);
    if (given.wish.requestId !== undefined) this.#byRequest.set(given.wish.requestId, waiter);
    if (given.wish.token === true) {
      this.#scope = this.#state.rules.policy.token?.scope;
      this.#forTokens.add(waiter);
      this.#isDue = true;
    }
    this.#stand(candidates, waiter);
    return waiter;
  }

  remove(candidates: Candidates, waiter: Waiter): void {
    if (!this.#all.delete(waiter)) return;
    this.#leave(candidates, waiter);
    this.#forTokens.delete(waiter);
    if (waiter.wish.requestId !== undefined) this.#byRequest.delete(waiter.wish.requestId);
    this.#deadlines.delete(waiter);
  }

  /** The wish that has waited as long as it wanted to, if there is one. */
  overdue(at: number): Waiter | undefined {
    const first = this.#deadlines.top;
    return first !== undefined && first.deadline <= at ? first : undefined;
  }

  /** The wish that waits under this requestId: a copy of it joins it, another wish may not have its name. */
  ofRequest(wish: LeaseRequest): { waiter: Waiter; same: boolean } | undefined {
    const waiter = wish.requestId === undefined ? undefined : this.#byRequest.get(wish.requestId);
    return waiter === undefined ? undefined : { waiter, same: sameWish(recordOf(waiter.wish), recordOf(wish)) };
  }

  /** The wish that waits under this requestId. */
  under(requestId: string): Waiter | undefined {
    return this.#byRequest.get(requestId);
  }

  /** The earliest wish that can be served now. */
  next(candidates: Candidates): Waiter | undefined {
    candidates.settle();
    return this.#lanes.first();
  }

  /** Serves whom it can, in order, until the turn is full. */
  serve(
    turn: Turn,
    candidates: Candidates,
    room: () => boolean,
    answer: (waiter: Waiter, granted: Granted) => void,
  ): void {
    this.#serve(turn, candidates, room, answer);
    this.#isDue = !room();
  }

  #serve(
    turn: Turn,
    candidates: Candidates,
    room: () => boolean,
    answer: (waiter: Waiter, granted: Granted) => void,
  ): void {
    this.#judge(candidates, answer);
    if (this.#forTokens.size > 0) this.#settleTokens(turn, candidates, answer);
    this.refreshes.serve(turn, candidates, room);
    if (this.#all.size === 0) return;
    let refused: Waiter | undefined;
    for (let waiter = this.next(candidates); waiter !== undefined && room(); waiter = this.next(candidates)) {
      const before = turn.events.length;
      const granted = grant(turn, candidates, waiter.wish, waiter.leaseId);
      if ("again" in granted || ("refusal" in granted && isPassing(granted.refusal))) {
        // Its choice may have been a rest that was due, or its session's proxy is known again: then it waits on. If
        // another look finds the same, this would go on for ever.
        if (turn.events.length > before) refused = undefined;
        else if (refused === waiter) throw new Error("a waiting wish can be served and is refused");
        else refused = waiter;
        this.#lanes.lookAgain(waiter);
        continue;
      }
      // Between two looks nothing has happened, so what could be chosen is granted; a refusal here is a wish that a new
      // policy has made impossible.
      this.remove(candidates, waiter);
      answer(waiter, granted);
    }
    // Those with a token have been given away by now: whom they could not serve needs another.
    if (this.#forTokens.size > 0) this.refreshes.serve(turn, candidates, room);
  }

  /** When a waiting wish may be served, or has waited long enough, by the passing of time alone. */
  wakeAt(candidates: Candidates): number {
    if (this.#isDue) return this.#state.at;
    candidates.settle();
    return Math.min(this.#deadlines.top?.deadline ?? Infinity, this.#lanes.wakeAt(), this.refreshes.wakeAt(candidates));
  }

  #stand(candidates: Candidates, waiter: Waiter): void {
    for (const index of new Set(Object.values(waiter.indexes))) candidates.keep(index);
    this.#lanes.add(waiter);
  }

  #leave(candidates: Candidates, waiter: Waiter): void {
    this.#lanes.remove(waiter);
    this.#setAsks(waiter, false);
    for (const index of new Set(Object.values(waiter.indexes))) candidates.letGo(index);
  }

  #setAsks(waiter: Waiter, asks: boolean): void {
    if (waiter.asks === asks) return;
    waiter.asks = asks;
    this.refreshes.waits(asks ? 1 : -1, waiter.indexes, waiter.wish.exclude);
  }

  /** No worker waits for what cannot come: by another policy it cannot be granted any more, or the pool is closing. */
  #judge(candidates: Candidates, answer: (waiter: Waiter, granted: Granted) => void): void {
    const { policyVersion, draining, opened } = this.#state;
    const by = this.#judgedBy;
    // Who waits when a pool is closed at once is told of that.
    if (!opened || (policyVersion === by.policyVersion && draining === by.draining)) return;
    this.#judgedBy = { policyVersion, draining };
    for (const waiter of [...this.#all]) {
      const refusal = judgeWish(this.#state, waiter.wish);
      if (refusal === undefined) continue;
      this.remove(candidates, waiter);
      answer(waiter, { refusal });
    }
  }

  /** Nor while the pool's token is given up for now; where proxies' own ones are meant, it waits for another. */
  #settleTokens(turn: Turn, candidates: Candidates, answer: (waiter: Waiter, granted: Granted) => void): void {
    const state = this.#state;
    const scope = state.rules.policy.token?.scope;
    const token = state.tokens.get(poolKey);
    const gone = scope === "pool" && isUnavailable(state, token);
    if (scope === this.#scope && !gone) return;
    const waiters = [...this.#forTokens];
    const isOther = scope !== this.#scope;
    this.#scope = scope;
    for (const waiter of waiters) {
      if (gone) {
        // It is told what any other would be: the token may be fetched again before there is a proxy for that.
        const granted = grant(turn, candidates, waiter.wish, waiter.leaseId);
        this.remove(candidates, waiter);
        answer(waiter, granted);
      } else if (isOther) {
        this.#leave(candidates, waiter);
        waiter.indexes = candidates.indexesFor(waiter.wish) ?? waiter.indexes;
        this.#stand(candidates, waiter);
      }
    }
  }
}

/** Refused for now: a wish that may wait goes on waiting. */
export function isPassing({ code }: Refusal): boolean {
  return code === "pool-exhausted" || code === "token-unavailable";
}
