// Requests that wait for their turn at a pool's leader, first come, first decided. One that is larger than a commit is
// decided in slices, over several turns; what its first slices have changed must not be denied to whoever asked. One that
// cannot be decided yet is put aside and keeps its place: each turn looks at those first, in their order.
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { Job } from "./job.ts";

/** The decided ones at the head are cleared away when they are so many. */
const decidedMax = 1000;

export class Jobs {
  #jobs: Job[] = [];
  #next = 0;
  /** Before all others. */
  #aside: Job[] = [];
  /** Those of which some slices are decided. */
  readonly #begun = new Set<Job>();

  get size(): number {
    return this.#aside.length + this.#jobs.length - this.#next;
  }

  push(job: Job): void {
    this.#jobs.push(job);
  }

  /**
   * Decides as many as there is room for. @param told.done of each that is decided whole. @param told.moved something has
   * been decided, so that others may be served who came before.
   */
  run(turn: Turn, room: () => boolean, told: { done: (job: Job) => void; moved: () => void }): void {
    if (this.#aside.length > 0) this.#jobs = this.takeAll();
    for (; this.#next < this.#jobs.length; this.#next++) {
      const job = this.#jobs[this.#next]!; // Below the length.
      const before = turn.events.length;
      const done = job.run(turn, room);
      const moved = turn.events.length > before;
      if (done === "aside") {
        this.#aside.push(job);
        continue;
      }
      if (!done) {
        if (moved) this.#begun.add(job);
        if (!moved || !room()) break;
        // What it has begun may let those be served who came before it; then it goes on.
        told.moved();
        this.#next--;
        continue;
      }
      this.#begun.delete(job);
      told.done(job);
      if (moved) told.moved();
    }
    if (this.#next > decidedMax || this.#next === this.#jobs.length) {
      this.#jobs = this.#jobs.slice(this.#next);
      this.#next = 0;
    }
  }

  /** Those of which nothing is decided; one that has been decided in part goes on when it can. */
  takeUnbegun(): Job[] {
    const all = this.takeAll();
    this.#jobs = all.filter((job) => this.#begun.has(job));
    return all.filter((job) => !this.#begun.has(job));
  }

  takeAll(): Job[] {
    const all = [...this.#aside, ...this.#jobs.slice(this.#next)];
    this.#aside = [];
    this.#jobs = [];
    this.#next = 0;
    return all;
  }
}
