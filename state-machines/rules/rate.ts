// The rate: in any window, an exit has no more uses than the limit, as the target sees them. A use holds a slot from
// its grant until its report (or the end of its lease and the grace), and then for the window and the margin.
import type { Limits, Policy, RateWindow } from "../../events/policy.ts";
import { firstSlots, lastSlotOf, leasesOf, nthSlot, openUsesOf, slotsFrom } from "../fold/past.ts";
import type { Exit, PoolState } from "../fold/state.ts";
import { graceOf } from "../fold/uses.ts";
import type { ExitRule, Words } from "./rule.ts";

export const rate = {
  name: "rate",
  holdsBack: "proxies whose exit has too few free slots",
  holds(state, exit, minUses) {
    for (const window of exit.limits.rates) {
      if (occupied(state, exit, window.windowMs) + minUses > window.limit) return true;
    }
    return false;
  },
  roomAt(state, exit, minUses) {
    let at = state.at;
    for (const window of exit.limits.rates) at = Math.max(at, windowRoomAt(state, exit, window, minUses));
    return at;
  },
  changesAt(state, exit, minUses) {
    let at = Infinity;
    for (const window of exit.limits.rates) {
      const end = windowRoomAt(state, exit, window, minUses);
      if (end > state.at && end < at) at = end;
    }
    return at;
  },
  usesLeft(state, exit) {
    let left = Infinity;
    for (const { limit, windowMs } of exit.limits.rates) left = Math.min(left, limit - occupied(state, exit, windowMs));
    return left;
  },
  canServe: ({ rates }, minUses) => rates.every(({ limit }) => minUses <= limit),
  tracesEnd(state, exit) {
    const last = lastSlotOf(exit);
    return last >= 0 ? last + keepSlotsMs(state, exit) + 1 : 0;
  },
  pastEnd: (state, exit, { slots }) => (slots.size > 0 ? slots.last + keepSlotsMs(state, exit) + 1 : 0),
  isOccupied: (state, exit) => openUsesOf(exit) > 0 || lastSlotOf(exit) >= state.at - keepSlotsMs(state, exit),
  warnings(policy) {
    const windows = windowsOf(policy.rate);
    const warnings: string[] = [];
    for (const [i, narrow] of windows.entries()) {
      for (const [j, wide] of windows.entries()) {
        if (narrow.windowMs >= wide.windowMs) continue;
        if (narrow.limit >= wide.limit) {
          warnings.push(`rate: window ${i + 1} (${said(narrow)}) can never take effect, ${said(wide)} is stricter`);
        } else if (mostIn(narrow, wide.windowMs) <= wide.limit) {
          const most = `${said(narrow)} lets at most ${mostIn(narrow, wide.windowMs)} through`;
          warnings.push(`rate: window ${j + 1} (${said(wide)}) can never take effect, ${most}`);
        }
      }
    }
    return warnings;
  },
  taken: (state, exit, words) => exit.limits.rates.map((window) => takenOf(state, exit, window, words)),
  held(state, exit, minUses, words) {
    const unreported = openUsesOf(exit);
    const open = unreported > 0 ? `, ${unreported} of them not reported yet` : "";
    return exit.limits.rates
      .filter(({ limit, windowMs }) => occupied(state, exit, windowMs) + minUses > limit)
      .map((window) => takenOf(state, exit, window, words) + open);
  },
} satisfies ExitRule;

export function windowsOf(of: Policy["rate"]): readonly RateWindow[] {
  if (of === null) return [];
  return Array.isArray(of) ? of : [of];
}

/** The strictest limit for each window length that occurs. */
export function strictestRates(policy: Policy, own: readonly Limits[]): readonly RateWindow[] {
  const all = own.flatMap(({ rate: each = policy.rate }) => windowsOf(each));
  return [...new Map(all.map((window) => [`${window.limit} ${window.windowMs}`, window])).values()];
}

/** The largest number of uses that fits into any span of this length. */
export function mostIn({ limit, windowMs }: RateWindow, spanMs: number): number {
  return limit * (Math.ceil(spanMs / windowMs) + 1);
}

/** The lowest base whose slot is still occupied in a window. */
export function occupiedFrom(state: PoolState, windowMs: number): number {
  return state.at - windowMs - state.rules.policy.marginMs;
}

/** How many slots of the exit are occupied in a window. */
export function occupied(state: PoolState, exit: Exit, windowMs: number): number {
  return openUsesOf(exit) + slotsFrom(exit, occupiedFrom(state, windowMs));
}

/** How far back slots matter for this exit. */
export function keepSlotsMs(state: PoolState, exit: Exit): number {
  let widest = 0;
  for (const { windowMs } of exit.limits.rates) widest = Math.max(widest, windowMs);
  return widest === 0 ? 0 : widest + state.rules.policy.marginMs;
}

function windowRoomAt(state: PoolState, exit: Exit, window: RateWindow, minUses: number): number {
  const { limit, windowMs } = window;
  if (minUses > limit) return Infinity;
  const { marginMs } = state.rules.policy;
  const tooMany = occupied(state, exit, windowMs) + minUses - limit;
  if (tooMany <= 0) return state.at;
  const from = occupiedFrom(state, windowMs);
  const base = openUsesOf(exit) === 0 ? nthSlot(exit, tooMany, from) : nthBase();
  return base + windowMs + marginMs + 1;

  /** The k-th base, if open leases get their end plus the grace as the base of their slots. */
  function nthBase(): number {
    const bases = firstSlots(exit, from, tooMany);
    for (const open of leasesOf(exit)) {
      const end = open.expiresAt + graceOf(state, open);
      for (let k = 0; k < Math.min(open.slots, tooMany); k++) bases.push(end);
    }
    return bases.sort((a, b) => a - b)[tooMany - 1]!; // There are at least `tooMany` slots.
  }
}

function takenOf(state: PoolState, exit: Exit, { limit, windowMs }: RateWindow, words: Words): string {
  return `${occupied(state, exit, windowMs)} of ${limit} uses within ${words.span(windowMs)}`;
}

function said({ limit, windowMs }: RateWindow): string {
  return `${limit} in ${windowMs} ms`;
}
