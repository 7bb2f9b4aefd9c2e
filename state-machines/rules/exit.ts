// An exit's room: may a lease of so many uses be granted through it now, what holds it back, and from when on could it be,
// if nothing more were reported, released or granted. The rules of an exit are listed here, once.
import type { UseReported } from "../../events/outcome.ts";
import { type ExitRuleName, exitRuleNames } from "../../events/refusal.ts";
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import { bytes, countBytes, forgetBytes } from "./bytes.ts";
import { concurrency } from "./concurrency.ts";
import { restOver } from "./failures.ts";
import { rate } from "./rate.ts";
import type { ExitRule } from "./rule.ts";
import { idleFrom, isRestDue, isSpent, quotaRoomAt, usage } from "./usage.ts";

const ruleOf: Readonly<Record<ExitRuleName, ExitRule>> = { rate, concurrency, usage, bytes };
/** In the order of their names. */
export const exitRules: readonly ExitRule[] = exitRuleNames.map((name) => ruleOf[name]);

/** What holds an exit back: its rules, and its usage rest. Each has a bit, by its place here. */
export const holdNames = [...exitRuleNames, "rest"] as const;
export type HoldName = (typeof holdNames)[number];
export const bitOf = (name: HoldName): number => 1 << holdNames.indexOf(name);
const bits = Object.fromEntries(holdNames.map((name) => [name, bitOf(name)])) as Record<HoldName, number>; // All names.

export interface Room {
  /** What holds it back, as bits; 0: it can be leased. */
  held: number;
  /** Nothing is open on it and its usage quota has too few uses left: who picks it begins its usage rest instead. */
  restIsDue: boolean;
}

/** On the path of every lease: each rule is called by its name, which costs nothing, where a loop would. */
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

/** How many proxies each of them holds back, as `limitedBy` has it. @param of a place among `holdNames`. */
export function heldBack(state: PoolState, of: (place: number) => number): Held {
  const told = holdNames.flatMap((name, i) =>
    name !== "rest" && ruleOf[name].isTold?.(state) === false ? [] : [[name, of(i)]],
  );
  return Object.fromEntries(told) as Held; // All other names.
}

/** How many uses may be granted at once now, at most `wanted`. */
export function usesLeft(state: PoolState, exit: Exit, wanted: number): number {
  return exitRules.reduce((left, rule) => Math.min(left, rule.usesLeft(state, exit)), wanted);
}

/**
 * The first instant from which the exit has room for `minUses`, if nothing more is reported, released or granted: open
 * leases then run to their ends, and their unreported uses count as made. Infinity: never.
 */
export function roomAt(state: PoolState, exit: Exit, minUses: number): number {
  let at = Math.max(state.at, exit.restUntil);
  for (const rule of exitRules) at = Math.max(at, rule.roomAt(state, exit, minUses));
  return at;
}

/** A use of the exit was reported: for rules that go by what reports say. */
export function countReport(state: PoolState, exit: Exit, event: UseReported): void {
  countBytes(state, exit, event);
}

/** Before another policy comes to hold: by a wider window nothing counts again. */
export function forgetWhatRanOut(state: PoolState): void {
  forgetBytes(state);
}

/** Is anything in any of its windows? */
export function isOccupied(state: PoolState, exit: Exit): boolean {
  return exitRules.some((rule) => rule.isOccupied?.(state, exit) === true);
}

/** May so many uses ever be granted at once, by its limits? */
export function canEverServe(exit: Exit, minUses: number): boolean {
  return exitRules.every((rule) => rule.canServe(exit.limits, minUses));
}

/** When what time alone holds back (a window, the exit's rest) will have changed next. Infinity: only events will. */
export function heldUntil(state: PoolState, exit: Exit, minUses: number): number {
  let at = exit.restUntil > state.at ? exit.restUntil : Infinity;
  for (const rule of exitRules) at = Math.min(at, rule.changesAt(state, exit, minUses));
  return at;
}

/** Until when the proxy rests, its exit's rest included. Not after now: it does not. */
export function restEnd(state: PoolState, proxy: Proxy): number {
  const until = Math.max(proxy.until, proxy.account.restUntil);
  return until > state.at ? restOver(state, proxy, until) : until;
}

/** Until when the proxy will rest where too few uses are left in the usage quota of its exit; -1: they are not. */
export function usageRestEnd(state: PoolState, proxy: Proxy, minUses: number): number {
  const exit = proxy.account;
  const until = quotaRoomAt(exit, minUses);
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
