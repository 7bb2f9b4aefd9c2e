// Notices that this process has not run for a while: it was stopped, its machine slept, or a turn took too long. What it
// knew before may no longer be so. A timer alone cannot tell, because input that has come meanwhile is read before it.
import type { Clock } from "./clock.ts";

const beatMs = 250;
/** A process that has not run for longer than this must not trust what it knew. */
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
