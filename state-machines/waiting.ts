// Waiting wishes: first come, first served. Nobody is granted a proxy for which an earlier waiting wish is eligible at
// that moment. They live in the leader's memory: with the leader they are gone, and nothing was granted.
import type { LeaseRequest } from "../events/lease.ts";
import type { Choice } from "./choice.ts";
import type { Demand } from "./demand.ts";
import { Heap } from "./heap.ts";
import { type Granted, grant, recordOf, sameWish } from "./lease.ts";
import type { Turn } from "./turn.ts";

export interface Waiter {
  readonly wish: LeaseRequest;
  readonly leaseId: string;
  /** In the pool's time. */
  readonly deadline: number;
  readonly order: number;
  readonly demand: Demand;
  readonly excluded: ReadonlySet<string>;
  deadlinePlace: number;
}

export class Waiting {
  readonly #queues = new Map<Demand, Set<Waiter>>();
  readonly #byRequest = new Map<string, Waiter>();
  readonly #deadlines = new Heap<"deadlinePlace", Waiter>("deadlinePlace", (a, b) =>
    a.deadline !== b.deadline ? a.deadline < b.deadline : a.order < b.order,
  );
  #order = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(choice: Choice, demand: Demand, given: { wish: LeaseRequest; leaseId: string; deadline: number }): Waiter {
    const waiter: Waiter = {
      ...given,
      order: this.#order++,
      demand,
      excluded: new Set(given.wish.exclude),
      deadlinePlace: -1,
    };
    this.#deadlines.set(waiter);
    let queue = this.#queues.get(demand);
    if (queue === undefined) {
      queue = new Set();
      this.#queues.set(demand, queue);
    }
    queue.add(waiter);
    if (given.wish.requestId !== undefined) this.#byRequest.set(given.wish.requestId, waiter);
    choice.keep(demand);
    this.#size++;
    return waiter;
  }

  remove(choice: Choice, waiter: Waiter): void {
    const queue = this.#queues.get(waiter.demand);
    if (queue === undefined || !queue.delete(waiter)) return;
    if (queue.size === 0) this.#queues.delete(waiter.demand);
    if (waiter.wish.requestId !== undefined) this.#byRequest.delete(waiter.wish.requestId);
    this.#deadlines.delete(waiter);
    choice.letGo(waiter.demand);
    this.#size--;
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
    let next: Waiter | undefined;
    for (const [demand, queue] of this.#queues) {
      demand.advance();
      if (demand.ready.size === 0) continue;
      for (const waiter of queue) {
        if (next !== undefined && waiter.order > next.order) break;
        if (demand.choose(waiter.excluded) === undefined) continue;
        next = waiter;
        break;
      }
    }
    return next;
  }

  /** Serves whom it can, in order, until the turn is full. */
  serve(turn: Turn, choice: Choice, room: () => boolean, answer: (waiter: Waiter, granted: Granted) => void): void {
    if (this.#size === 0) return;
    for (let waiter = this.next(choice); waiter !== undefined && room(); waiter = this.next(choice)) {
      const granted = grant(turn, choice, waiter.wish, waiter.leaseId);
      // Its choice may have been a rest that was due: then it waits on.
      if ("again" in granted || ("refusal" in granted && granted.refusal.code === "pool-exhausted")) continue;
      // Between two looks nothing has happened, so what could be chosen is granted; a refusal here is a wish that a new
      // policy has made impossible.
      this.remove(choice, waiter);
      answer(waiter, granted);
    }
  }

  /** When a waiting wish may be served, or has waited long enough, by the passing of time alone. */
  wakeAt(choice: Choice): number {
    choice.settle();
    let at = this.#deadlines.top?.deadline ?? Infinity;
    for (const demand of this.#queues.keys()) at = Math.min(at, demand.timed.top?.changesAt ?? Infinity);
    return at;
  }
}
