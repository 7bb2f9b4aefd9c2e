// A clock that is moved manually: nothing becomes due until a test moves the time.
import type { Clock } from "../../runtime/clock.ts";

export class HandClock implements Clock {
  #now = 0;
  #timers = new Set<{ at: number; callback: () => void }>();

  readonly wall = (): number => 1_800_000_000_000 + this.#now;
  readonly monotonic = (): number => this.#now;

  readonly after = (ms: number, callback: () => void): (() => void) => {
    const timer = { at: this.#now + ms, callback };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  };

  readonly soon = (callback: () => void): void => void setImmediate(callback);

  /** Everything that becomes due on the way happens when it is due. Work that it starts may continue afterwards. */
  move(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.callback();
    }
    this.#now = end;
  }
}
