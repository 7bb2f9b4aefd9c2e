// Time as a value passed in: tests and the simulator bring their own. Wall-clock instants are integer epoch
// milliseconds. The monotonic clock counts milliseconds from an arbitrary start and never goes back.
import { readFileSync } from "node:fs";
import { resultOr } from "./fault.ts";

/** CLOCK_MONOTONIC, in ms. All processes of this machine can compare it until the next boot. */
export interface BootTime {
  id: string;
  ms: number;
}

export interface Clock {
  wall(): number;
  monotonic(): number;
  /** Calls back after `ms` of monotonic time, at the earliest. Returns a function that cancels the call. */
  after(ms: number, callback: () => void): () => void;
  /** Calls back as soon as all input that has already arrived is read. */
  soon(callback: () => void): void;
  /** Absent or undefined: the system does not tell one boot from another. */
  boot?(): BootTime | undefined;
}

const bootId = resultOr(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(), "");

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
  boot: () => (bootId === "" ? undefined : { id: bootId, ms: Number(process.hrtime.bigint() / 1_000_000n) }),
};

/** The time of one leader's term. It follows the monotonic clock alone, so that setting the clock moves no window. */
export function termTime(clock: Clock, start: { at: number; on: number }): () => number {
  return () => start.at + Math.floor(clock.monotonic() - start.on);
}
