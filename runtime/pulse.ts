// Notices that this process has not run for a while: it was stopped, its machine slept, or a turn took too long. Its
// knowledge may then be outdated. A timer alone cannot notice this in time, because input that arrived meanwhile is
// read before the timer fires.
import type { Clock } from "./clock.ts";

const beatMs = 250;
/** A process that has not run for longer than this must not trust its earlier knowledge. */
const gapMs = 1000;

export class Pulse {
  readonly #clock: Clock;
  #beatOn: number;
  #gapOn = Number.NEGATIVE_INFINITY;
  #cancel = (): void => {};

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#beatOn = clock.monotonic();
    this.#beat();
  }

  /** When the last gap ended, by the monotonic clock. */
  readonly gapOn = (): number => {
    const on = this.#clock.monotonic();
    if (on - this.#beatOn > gapMs) this.#gapOn = on;
    this.#beatOn = on;
    return this.#gapOn;
  };

  stop(): void {
    this.#cancel();
  }

  #beat(): void {
    this.gapOn();
    this.#cancel = this.#clock.after(beatMs, () => this.#beat());
  }
}
