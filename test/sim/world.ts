// Virtual time: everything that happens in the simulator is an event in this queue, and its order follows from the seed.
import type { Clock } from "../../runtime/clock.ts";
import { Heap } from "../../state-machines/heap.ts";
import type { Seeded } from "../kit/seed.ts";

interface Happening {
  at: number;
  order: number;
  place: number;
  run: () => void;
}

export class World {
  /** ms since the epoch, and the monotonic clock as well. */
  now = 1_700_000_000_000;
  readonly random: Seeded;
  readonly #queue = new Heap<"place", Happening>("place", (a, b) => (a.at !== b.at ? a.at < b.at : a.order < b.order));
  #order = 0;

  constructor(random: Seeded) {
    this.random = random;
  }

  /** Returns what takes it back. */
  after(ms: number, run: () => void): () => void {
    const happening = { at: this.now + Math.max(0, Math.ceil(ms)), order: this.#order++, place: -1, run };
    this.#queue.set(happening);
    return () => this.#queue.delete(happening);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** A clock whose callbacks die with whoever holds it. */
  clock(alive: () => boolean): Clock {
    return {
      wall: () => this.now,
      monotonic: () => this.now,
      after: (ms, callback) => this.after(ms, () => alive() && callback()),
      soon: (callback) => void this.after(0, () => alive() && callback()),
    };
  }

  /** Runs until `done`, or until nothing is left to happen. All that an event sets going is settled before the next. */
  async run(done: () => boolean): Promise<void> {
    for (let next = this.#queue.top; next !== undefined && !done(); next = this.#queue.top) {
      this.#queue.delete(next);
      this.now = next.at;
      next.run();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
