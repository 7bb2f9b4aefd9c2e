// Time as a value passed in: tests and the simulator bring their own. Wall-clock instants are integer epoch
// milliseconds; the monotonic clock counts milliseconds from an arbitrary beginning and never goes back.

export interface Clock {
  wall(): number;
  monotonic(): number;
  /** Calls back after `ms` of monotonic time, at the earliest. Returns what takes it back. */
  after(ms: number, callback: () => void): () => void;
  /** Calls back as soon as what has arrived already has been read. */
  soon(callback: () => void): void;
}

/** Longer timers overflow in Node and would fire at once. */
const timerMsMax = 2_000_000_000;

export const systemClock: Clock = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, Math.min(Math.ceil(ms), timerMsMax));
    return () => clearTimeout(timer);
  },
  soon: (callback) => void setImmediate(callback),
};

/** The time of one leader's term: follows the monotonic clock alone, so that a clock that is set moves no window. */
export function termTime(clock: Clock, start: { at: number; on: number }): () => number {
  return () => start.at + Math.floor(clock.monotonic() - start.on);
}
