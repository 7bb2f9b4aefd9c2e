// An exit's room: may a wish for at least so many uses be granted through it now, what holds it back, and from when on
// could it be, if nothing more were reported, released or granted.
import { type Exit, failuresInWindow, occupied, occupiedFrom, type PoolState, type Proxy } from "./state.ts";

/** What holds an exit back, as bits: several may at once. */
export const heldBy = { rate: 1, concurrency: 2, usage: 4, rest: 8 } as const;

export interface Room {
  /** 0: it can be leased. Bits of `heldBy` otherwise. */
  held: number;
  /** Nothing is open on it and its stint has too few uses left: who picks it begins its usage rest instead. */
  restIsDue: boolean;
}

export function roomOf(state: PoolState, exit: Exit, minUses: number): Room {
  const { limits } = exit;
  let held = 0;
  for (const rate of limits.rates) {
    if (occupied(state, exit, rate.windowMs) + minUses > rate.limit) held |= heldBy.rate;
  }
  if (exit.leases.length >= limits.concurrency) held |= heldBy.concurrency;
  if (exit.restUntil > state.at) held |= heldBy.rest;
  const stintIsShort = limits.usage !== null && exit.stint + minUses > limits.usage.limit;
  if (stintIsShort) held |= heldBy.usage;
  const restIsDue =
    stintIsShort &&
    exit.stint > 0 &&
    exit.leases.length === 0 &&
    (held & heldBy.rest) === 0 &&
    minUses <= (limits.usage?.limit ?? 0);
  return { held, restIsDue };
}

/** How many uses may be granted at once now, at most `wished`. */
export function usesLeft(state: PoolState, exit: Exit, wished: number): number {
  const { limits } = exit;
  let left = wished;
  for (const rate of limits.rates) left = Math.min(left, rate.limit - occupied(state, exit, rate.windowMs));
  if (limits.usage !== null) left = Math.min(left, limits.usage.limit - exit.stint);
  return left;
}

/**
 * The first instant from which the exit has room for `minUses`, if nothing more is reported, released or granted: open
 * leases then run to their ends, and their unreported uses count as made. Infinity: never.
 */
export function roomAt(state: PoolState, exit: Exit, minUses: number): number {
  const { limits } = exit;
  const ends = exit.leases.map((lease) => lease.expiresAt).sort((a, b) => a - b);
  let at = Math.max(state.at, exit.restUntil);
  for (const rate of limits.rates) at = Math.max(at, rateRoomAt(state, exit, rate, minUses));
  if (ends.length >= limits.concurrency) at = Math.max(at, ends[ends.length - limits.concurrency] ?? 0);
  if (limits.usage !== null && exit.stint + minUses > limits.usage.limit) {
    if (minUses > limits.usage.limit) return Infinity;
    at = Math.max(at, (ends.at(-1) ?? state.at) + limits.usage.restMs);
  }
  return at;
}

/** When what time alone holds back (the rate, the exit's rest) will have changed next. Infinity: only events will. */
export function heldUntil(state: PoolState, exit: Exit, minUses: number): number {
  const ends = exit.limits.rates.map((rate) => rateRoomAt(state, exit, rate, minUses));
  return Math.min(...[exit.restUntil, ...ends].filter((end) => end > state.at));
}

function rateRoomAt(state: PoolState, exit: Exit, rate: { limit: number; windowMs: number }, minUses: number): number {
  if (minUses > rate.limit) return Infinity;
  const { marginMs, lease } = state.rules.policy;
  const tooMany = occupied(state, exit, rate.windowMs) + minUses - rate.limit;
  if (tooMany <= 0) return state.at;
  const from = occupiedFrom(state, rate.windowMs);
  const known = exit.slots.countFrom(from);
  const base = exit.openUses === 0 ? exit.slots.nth(tooMany, from) : nthBase(known);
  return base + rate.windowMs + marginMs + 1;

  /** Slots of open leases will be based at the lease's end and grace; merged with the known ones. */
  function nthBase(count: number): number {
    const bases: number[] = [];
    for (let k = 1; k <= Math.min(count, tooMany); k++) bases.push(exit.slots.nth(k, from));
    for (const open of exit.leases) {
      const end = open.expiresAt + lease.graceMs;
      for (let k = 0; k < Math.min(open.slots, tooMany); k++) bases.push(end);
    }
    return bases.sort((a, b) => a - b)[tooMany - 1]!; // There are at least as many slots as are too many.
  }
}

/**
 * When the proxy's rest will be over, counting the rest for failures that will be judged at its end. What it holds for
 * itself only: its exit has a word in it too.
 */
export function restOver(state: PoolState, proxy: Proxy): number {
  const rule = state.rules.policy.failures;
  if (rule !== null && failuresInWindow(state, proxy, proxy.until) > rule.limit) return proxy.until + rule.restMs;
  return proxy.until;
}
