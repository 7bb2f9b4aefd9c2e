// An exit's room: may a wish for at least so many uses be granted through it now, what holds it back, and from when on
// could it be, if nothing more were reported, released or granted.
import { firstSlots, lastClosedOf, leasesOf, nthSlot, openUsesOf, usesSinceRestOf } from "../fold/past.ts";
import {
  type Exit,
  failuresInWindow,
  graceOf,
  occupied,
  occupiedFrom,
  type PoolState,
  type Proxy,
} from "../fold/state.ts";

/** What holds an exit back, as bits: several may at once. */
export const heldBy = { rate: 1, concurrency: 2, usage: 4, rest: 8 } as const;

export interface Room {
  /** 0: it can be leased. Bits of `heldBy` otherwise. */
  held: number;
  /** Nothing is open on it and its usage quota has too few uses left: who picks it begins its usage rest instead. */
  restIsDue: boolean;
}

/** An exit with too few uses left in its usage quota: who picks it begins its usage rest. */
export interface RestIsDue {
  restIsDue: Exit;
}

export function roomOf(state: PoolState, exit: Exit, minUses: number): Room {
  const { limits } = exit;
  const open = leasesOf(exit).length;
  const uses = usesSinceRestOf(exit);
  let held = 0;
  for (const rate of limits.rates) {
    if (occupied(state, exit, rate.windowMs) + minUses > rate.limit) held |= heldBy.rate;
  }
  if (open >= limits.concurrency) held |= heldBy.concurrency;
  if (exit.restUntil > state.at) held |= heldBy.rest;
  const quotaIsShort = limits.usage !== null && uses + minUses > limits.usage.limit;
  if (quotaIsShort) held |= heldBy.usage;
  const restIsDue =
    quotaIsShort && uses > 0 && open === 0 && (held & heldBy.rest) === 0 && minUses <= (limits.usage?.limit ?? 0);
  return { held, restIsDue };
}

/** How many uses may be granted at once now, at most `wished`. */
export function usesLeft(state: PoolState, exit: Exit, wished: number): number {
  const { limits } = exit;
  let left = wished;
  for (const rate of limits.rates) left = Math.min(left, rate.limit - occupied(state, exit, rate.windowMs));
  if (limits.usage !== null) left = Math.min(left, limits.usage.limit - usesSinceRestOf(exit));
  return left;
}

/**
 * The first instant from which the exit has room for `minUses`, if nothing more is reported, released or granted: open
 * leases then run to their ends, and their unreported uses count as made. Infinity: never.
 */
export function roomAt(state: PoolState, exit: Exit, minUses: number): number {
  const { limits } = exit;
  const ends = leasesOf(exit)
    .map((lease) => lease.expiresAt)
    .sort((a, b) => a - b);
  let at = Math.max(state.at, exit.restUntil);
  for (const rate of limits.rates) at = Math.max(at, rateRoomAt(state, exit, rate, minUses));
  if (ends.length >= limits.concurrency) at = Math.max(at, ends[ends.length - limits.concurrency] ?? 0);
  return Math.max(at, usageRoomAt(exit, minUses));
}

/** May so many uses ever be granted at once, by its limits? */
export function canEverServe(exit: Exit, minUses: number): boolean {
  const { rates, usage } = exit.limits;
  return rates.every((rate) => minUses <= rate.limit) && (usage === null || minUses <= usage.limit);
}

/**
 * When the usage quota has room for `minUses`: at once (0), or when the exit has been idle for as long as its rest lasts. The
 * rest begins with the end of its last lease; if too few uses were left for a wish, it counts from there as well.
 */
function usageRoomAt(exit: Exit, minUses: number): number {
  const { usage } = exit.limits;
  if (usage === null || usesSinceRestOf(exit) + minUses <= usage.limit) return 0;
  return minUses > usage.limit ? Infinity : idleFrom(exit) + usage.restMs;
}

/** Since when no lease of the exit is open, or from when on none will be. */
export function idleFrom(exit: Exit): number {
  const open = leasesOf(exit);
  return open.length === 0 ? lastClosedOf(exit) : Math.max(...open.map((lease) => lease.expiresAt));
}

/** When what time alone holds back (the rate, the exit's rest) will have changed next. Infinity: only events will. */
export function heldUntil(state: PoolState, exit: Exit, minUses: number): number {
  const ends = exit.limits.rates.map((rate) => rateRoomAt(state, exit, rate, minUses));
  return Math.min(...[exit.restUntil, ...ends].filter((end) => end > state.at));
}

function rateRoomAt(state: PoolState, exit: Exit, rate: { limit: number; windowMs: number }, minUses: number): number {
  if (minUses > rate.limit) return Infinity;
  const { marginMs } = state.rules.policy;
  const tooMany = occupied(state, exit, rate.windowMs) + minUses - rate.limit;
  if (tooMany <= 0) return state.at;
  const from = occupiedFrom(state, rate.windowMs);
  const base = openUsesOf(exit) === 0 ? nthSlot(exit, tooMany, from) : nthBase();
  return base + rate.windowMs + marginMs + 1;

  /** Slots of open leases will be based at the lease's end and grace; merged with the known ones. */
  function nthBase(): number {
    const bases = firstSlots(exit, from, tooMany);
    for (const open of leasesOf(exit)) {
      const end = open.expiresAt + graceOf(state, open);
      for (let k = 0; k < Math.min(open.slots, tooMany); k++) bases.push(end);
    }
    return bases.sort((a, b) => a - b)[tooMany - 1]!; // There are at least as many slots as are too many.
  }
}

/**
 * When a rest of the proxy that lasts until then will be over, counting the rest for failures that will be judged at its
 * end. What it holds for itself only: its exit has a word in it too.
 */
export function restOver(state: PoolState, proxy: Proxy, until = proxy.until): number {
  const rule = state.rules.policy.failures;
  if (rule !== null && failuresInWindow(state, proxy, until) > rule.limit) return until + rule.restMs;
  return until;
}

/** Until when the proxy rests, its exit's rest included. Not after now: it does not. */
export function restEnd(state: PoolState, proxy: Proxy): number {
  const until = Math.max(proxy.until, proxy.account.restUntil);
  return until > state.at ? restOver(state, proxy, until) : until;
}

/** Is its usage quota used up, and only an open lease keeps the rest from beginning? */
export function isSpent(exit: Exit): boolean {
  const { usage } = exit.limits;
  return usage !== null && usesSinceRestOf(exit) >= usage.limit && leasesOf(exit).length > 0;
}

/** Until when the proxy will rest where too few uses are left in the usage quota of its exit; -1: they are not. */
export function usageRestEnd(state: PoolState, proxy: Proxy, minUses: number): number {
  const exit = proxy.account;
  const until = usageRoomAt(exit, minUses);
  if (until === 0) return -1;
  if (proxy.until === 0) return restOver(state, proxy, until);
  // It rests: a quota that is used up meanwhile makes that one rest, whose failures are judged at its end.
  if (isSpent(exit) && idleFrom(exit) <= proxy.until) return restOver(state, proxy, Math.max(proxy.until, until));
  // Its failures are judged at the end of its own rest; where they were too few then, again at the end of the exit's,
  // which counts from when the exit is idle, so that it may be the earlier one.
  const own = restOver(state, proxy);
  return Math.max(own, own > proxy.until ? until : restOver(state, proxy, until));
}

/** The first instant from which this proxy could be leased, if nothing more happened. Infinity: never. */
export function leasableAt(state: PoolState, proxy: Proxy, minUses: number): number {
  const usageEnd = usageRestEnd(state, proxy, minUses);
  const resting = usageEnd >= 0 || proxy.until === 0 ? usageEnd : restOver(state, proxy);
  return Math.max(roomAt(state, proxy.account, minUses), resting);
}
