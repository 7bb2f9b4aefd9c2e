// Virtual time: everything that happens in the simulator is an event in this queue, and its order follows from the
// seed.
import { Heap } from "../../state-machines/structures/heap.ts";

interface Happening {
  at: number;
  order: number;
  place: number;
  run: () => void;
}

/** More events within one millisecond count as an endless loop. */
const happeningsMax = 20_000;

export class World {
  /** True time, ms since the epoch: the target's clock, the broker's and each worker's. */
  now = 1_700_000_000_000;
  readonly #queue = new Heap<"place", Happening>("place", (a, b) => (a.at !== b.at ? a.at < b.at : a.order < b.order));
  #order = 0;

  /** Returns a function that cancels it. */
  after(ms: number, run: () => void): () => void {
    const happening = { at: this.now + Math.max(0, Math.ceil(ms)), order: this.#order++, place: -1, run };
    this.#queue.set(happening);
    return () => this.#queue.delete(happening);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Runs until `done`, or until no event is left. Everything that an event starts is settled before the next event. */
  async run(done: () => boolean): Promise<void> {
    let happenings = 0;
    await new Promise((resolve) => setImmediate(resolve));
    for (let next = this.#queue.top; next !== undefined && !done(); next = this.#queue.top) {
      this.#queue.delete(next);
      happenings = next.at === this.now ? happenings + 1 : 0;
      if (happenings > happeningsMax) throw new Error(`${happenings} things happen at ${this.now}: time stands still`);
      this.now = next.at;
      next.run();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
