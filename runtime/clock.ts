// Time as a value passed in: tests and the simulator bring their own. Wall-clock instants are integer epoch
// milliseconds. The monotonic clock counts milliseconds from an arbitrary start and never goes back.

export interface Clock {
  wall(): number;
  monotonic(): number;
  /** Calls back after `ms` of monotonic time, at the earliest. Returns a function that cancels the call. */
  after(ms: number, callback: () => void): () => void;
  /** Calls back as soon as all input that has already arrived is read. */
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

/** The time of one leader's term. It follows the monotonic clock alone, so that setting the clock moves no window. */
export function termTime(clock: Clock, start: { at: number; on: number }): () => number {
  return () => start.at + Math.floor(clock.monotonic() - start.on);
}
