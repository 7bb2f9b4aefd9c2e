// Waiting wishes: first come, first served. Nobody is granted a proxy for which an earlier waiting wish is eligible at
// that moment. They live in the leader's memory: with the leader they are gone, and nothing was granted.
import type { LeaseRequest } from "../events/lease.ts";
import type { Choice } from "./choice.ts";
import type { Demand } from "./demand.ts";
import { Heap } from "./heap.ts";
import { Lanes, type Waiter } from "./lanes.ts";
import { type Granted, grant, recordOf, sameWish } from "./lease.ts";
import type { PoolState } from "./state.ts";
import type { Turn } from "./turn.ts";

export class Waiting {
  readonly #lanes: Lanes;
  readonly #all = new Set<Waiter>();
  readonly #byRequest = new Map<string, Waiter>();
  readonly #deadlines = new Heap<"deadlinePlace", Waiter>("deadlinePlace", (a, b) =>
    a.deadline !== b.deadline ? a.deadline < b.deadline : a.order < b.order,
  );
  #order = 0;

  constructor(state: PoolState) {
    this.#lanes = new Lanes(state);
  }

  get size(): number {
    return this.#all.size;
  }

  add(choice: Choice, demand: Demand, given: { wish: LeaseRequest; leaseId: string; deadline: number }): Waiter {
    const waiter: Waiter = { ...given, order: this.#order++, demand, deadlinePlace: -1 };
    this.#all.add(waiter);
    this.#deadlines.set(waiter);
    this.#lanes.add(waiter);
    if (given.wish.requestId !== undefined) this.#byRequest.set(given.wish.requestId, waiter);
    choice.keep(demand);
    return waiter;
  }

  remove(choice: Choice, waiter: Waiter): void {
    if (!this.#all.delete(waiter)) return;
    this.#lanes.remove(waiter);
    if (waiter.wish.requestId !== undefined) this.#byRequest.delete(waiter.wish.requestId);
    this.#deadlines.delete(waiter);
    choice.letGo(waiter.demand);
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
  next(choice: Choice): Waiter | undefined {
    choice.settle();
    return this.#lanes.first();
  }

  /** Serves whom it can, in order, until the turn is full. */
  serve(turn: Turn, choice: Choice, room: () => boolean, answer: (waiter: Waiter, granted: Granted) => void): void {
    if (this.#all.size === 0) return;
    let refused: Waiter | undefined;
    for (let waiter = this.next(choice); waiter !== undefined && room(); waiter = this.next(choice)) {
      const before = turn.events.length;
      const granted = grant(turn, choice, waiter.wish, waiter.leaseId);
      if ("again" in granted || ("refusal" in granted && granted.refusal.code === "pool-exhausted")) {
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
      this.remove(choice, waiter);
      answer(waiter, granted);
    }
  }

  /** When a waiting wish may be served, or has waited long enough, by the passing of time alone. */
  wakeAt(choice: Choice): number {
    choice.settle();
    return Math.min(this.#deadlines.top?.deadline ?? Infinity, this.#lanes.wakeAt());
  }
}
