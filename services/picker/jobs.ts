// Requests that wait for their turn at a pool's leader, first come, first decided. One that is larger than a commit is
// decided in slices, over several turns; what its first slices have changed must not be denied to whoever asked.
import type { Turn } from "../../state-machines/turn.ts";
import type { Job } from "./job.ts";

/** The decided ones at the head are cleared away when they are so many. */
const decidedMax = 1000;

export class Jobs {
  #jobs: Job[] = [];
  #next = 0;
  /** The one of which some slices are decided. */
  #begun: Job | undefined;

  get size(): number {
    return this.#jobs.length - this.#next;
  }

  push(job: Job): void {
    this.#jobs.push(job);
  }

  /**
   * Decides as many as there is room for. @param told.done of each that is decided whole. @param told.moved something has
   * been decided, so that others may be served who came before.
   */
  run(turn: Turn, room: () => boolean, told: { done: (job: Job) => void; moved: () => void }): void {
    for (; this.#next < this.#jobs.length; this.#next++) {
      const job = this.#jobs[this.#next]!; // Below the length.
      const before = turn.events.length;
      const began = this.#begun;
      this.#begun = undefined;
      if (!job.run(turn, room)) {
        const moved = turn.events.length > before;
        if (moved || began === job) this.#begun = job;
        if (!moved || !room()) break;
        // What it has begun may let those be served who came before it; then it goes on.
        told.moved();
        this.#next--;
        continue;
      }
      told.done(job);
      if (turn.events.length > before) told.moved();
    }
    if (this.#next > decidedMax || this.size === 0) {
      this.#jobs = this.#jobs.slice(this.#next);
      this.#next = 0;
    }
  }

  /** Those of which nothing is decided; one that has been decided in part goes on when it can. */
  takeUnbegun(): Job[] {
    const first = this.#jobs[this.#next];
    return this.#jobs.splice(this.#next + (first !== undefined && first === this.#begun ? 1 : 0));
  }

  takeAll(): Job[] {
    return this.#jobs.splice(this.#next);
  }
}
