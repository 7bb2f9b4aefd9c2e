// An exit's room: may a lease of this many uses be granted through it now? Which rules hold it back? From when on could
// it be granted, if nothing more were reported, released or granted? All exit rules are listed here, once.
import type { UseReported } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import { type ExitRuleName, exitRuleNames } from "../../events/refusal.ts";
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import { bytes, countBytes, forgetBytes } from "./bytes.ts";
import { concurrency } from "./concurrency.ts";
import { restOver } from "./failures.ts";
import { rate } from "./rate.ts";
import type { ExitRule } from "./rule.ts";
import { idleFrom, isRestDue, isSpent, quotaRoomAt, usage } from "./usage.ts";

const ruleOf: Readonly<Record<ExitRuleName, ExitRule>> = { rate, concurrency, usage, bytes };
export const exitRules: readonly ExitRule[] = exitRuleNames.map((name) => ruleOf[name]);

/** Everything that holds an exit back: its rules, and its usage rest. Each has a bit, by its place here. */
export const holdNames = [...exitRuleNames, "rest"] as const;
export type HoldName = (typeof holdNames)[number];
export const bitOf = (name: HoldName): number => 1 << holdNames.indexOf(name);
const bits = Object.fromEntries(holdNames.map((name) => [name, bitOf(name)])) as Record<HoldName, number>; // All names.

export interface Room {
  /** The rules that hold it back, as bits. 0: it can be leased. */
  held: number;
  /** No lease is open, and the quota has too few uses left. A choice begins the usage rest instead of a lease. */
  restIsDue: boolean;
}

/** Every lease calls this function, `roomAt` and `heldUntil`. They name each rule, because a loop would cost more. */
export function roomOf(state: PoolState, exit: Exit, minUses: number): Room {
  let held = 0;
  if (rate.holds(state, exit, minUses)) held |= bits.rate;
  if (concurrency.holds(state, exit)) held |= bits.concurrency;
  const isShort = usage.holds(state, exit, minUses);
  if (isShort) held |= bits.usage;
  if (bytes.holds(state, exit)) held |= bits.bytes;
  if (exit.restUntil > state.at) held |= bits.rest;
  return { held, restIsDue: isShort && isRestDue(state, exit, minUses) };
}

type Held = Record<Exclude<HoldName, "bytes">, number> & { bytes?: number };

/** How many proxies each rule holds back, for `limitedBy`. @param of the number for a place in `holdNames`. */
export function heldBack(state: PoolState, of: (place: number) => number): Held {
  const told = holdNames.flatMap((name, i) =>
    name !== "rest" && ruleOf[name].isTold?.(state) === false ? [] : [[name, of(i)]],
  );
  return Object.fromEntries(told) as Held; // All other names.
}

/** How many uses may be granted at once now, at most `wanted`. */
export function usesLeft(state: PoolState, exit: Exit, wanted: number): number {
  return exitRules.reduce((left, rule) => Math.min(left, rule.usesLeft?.(state, exit) ?? Infinity), wanted);
}

/** When the exit has room for `minUses`, if open leases expire and nothing else happens. Infinity: never. */
export function roomAt(state: PoolState, exit: Exit, minUses: number): number {
  const byRate = rate.roomAt(state, exit, minUses);
  const byOthers = Math.max(
    concurrency.roomAt(state, exit),
    usage.roomAt(state, exit, minUses),
    bytes.roomAt(state, exit),
  );
  return Math.max(state.at, exit.restUntil, byRate, byOthers);
}

/** A use of the exit was reported: updates the rules that count reports. */
export function countReport(state: PoolState, exit: Exit, event: UseReported): void {
  countBytes(state, exit, event);
}

/** Call it before another policy applies, or a wider window would count uses that have run out. */
export function forgetWhatRanOut(state: PoolState, next: Policy): void {
  forgetBytes(state, next);
}

/** Whether any of its windows counts anything. */
export function isOccupied(state: PoolState, exit: Exit): boolean {
  return exitRules.some((rule) => rule.isOccupied?.(state, exit) === true);
}

/** Whether its limits ever allow this many uses at once. */
export function canEverServe(exit: Exit, minUses: number): boolean {
  return exitRules.every((rule) => rule.canServe?.(exit.limits, minUses) !== false);
}

/** When time alone next changes whether a window or the exit's rest holds it back. Infinity: never. */
export function heldUntil(state: PoolState, exit: Exit, minUses: number): number {
  const restEnds = exit.restUntil > state.at ? exit.restUntil : Infinity;
  return Math.min(restEnds, rate.changesAt(state, exit, minUses), bytes.changesAt(state, exit));
}

/** The end of the proxy's rest, its exit's rest included. Not after now: it does not rest. */
export function restEnd(state: PoolState, proxy: Proxy): number {
  const until = Math.max(proxy.until, proxy.account.restUntil);
  return until > state.at ? restOver(state, proxy, until) : until;
}

/** The end of the proxy's rest if its exit's usage quota has too few uses left. -1: enough uses are left. */
export function usageRestEnd(state: PoolState, proxy: Proxy, minUses: number): number {
  const exit = proxy.account;
  const until = quotaRoomAt(exit, minUses);
  if (until === 0) return -1;
  if (proxy.until === 0) return restOver(state, proxy, until);
  // The proxy rests. A quota that is used up meanwhile begins a rest whose failures are checked at its end.
  if (isSpent(exit) && idleFrom(exit) <= proxy.until) return restOver(state, proxy, Math.max(proxy.until, until));
  // Its failures are checked at the end of its own rest. If they were too few then, they are checked again at the end
  // of the exit's rest. That rest counts from when the exit became idle, so it may end first.
  const own = restOver(state, proxy);
  return Math.max(own, own > proxy.until ? until : restOver(state, proxy, until));
}

/** The first instant from which this proxy could be leased, if nothing more happened. Infinity: never. */
export function leasableAt(state: PoolState, proxy: Proxy, minUses: number): number {
  const usageEnd = usageRestEnd(state, proxy, minUses);
  const resting = usageEnd >= 0 || proxy.until === 0 ? usageEnd : restOver(state, proxy);
  return Math.max(roomAt(state, proxy.account, minUses), resting);
}
