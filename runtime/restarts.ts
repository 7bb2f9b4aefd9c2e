// When a part that failed is started again: soon at first, and after a longer pause each time it fails again. A part
// that has run well for a while begins anew.
import type { Clock } from "./clock.ts";

const firstMs = 100;
const longestMs = 30_000;
const calmMs = 120_000;

export class Restarts {
  readonly #clock: Pick<Clock, "monotonic">;
  #failures = 0;
  #failedOn = Number.NEGATIVE_INFINITY;

  constructor(clock: Pick<Clock, "monotonic">) {
    this.#clock = clock;
  }

  /** Called at each failure. Returns the pause before the next start. */
  pauseMs(): number {
    const now = this.#clock.monotonic();
    if (now - this.#failedOn > calmMs) this.#failures = 0;
    this.#failedOn = now;
    return Math.min(firstMs * 2 ** this.#failures++, longestMs);
  }
}
