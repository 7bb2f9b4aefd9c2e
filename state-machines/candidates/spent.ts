// `drain`: exactly n uses of a proxy, then the next proxy. A window that was filled is spent until it is empty again,
// so its proxy is not chosen again for each use that runs out. Only a filled window counts.
import type { RateWindow } from "../../events/policy.ts";
import type { Exit, PoolState } from "../fold/state.ts";
import { occupied } from "../rules/rate.ts";

/** The widest of its windows that are full now. */
export function fullWindow(state: PoolState, exit: Exit): RateWindow | null {
  const full = exit.limits.rates.filter((rate) => occupied(state, exit, rate.windowMs) >= rate.limit);
  return full.reduce<RateWindow | null>(wider, null);
}

/** The window that was filled and has not been empty since, unless its limit was raised meanwhile. */
export function spentWindow(state: PoolState, exit: Exit): RateWindow | null {
  const { spent, limits } = exit;
  if (spent === null || occupied(state, exit, spent.windowMs) === 0) return null;
  const holds = limits.rates.some(({ limit, windowMs }) => windowMs === spent.windowMs && limit <= spent.limit);
  return holds ? spent : null;
}

/** Uses were returned. If they had filled the window, it is not spent until it is full again. */
export function giveBack(state: PoolState, exit: Exit, fullBefore: RateWindow | null): void {
  if (fullBefore !== null && fullBefore.windowMs === exit.spent?.windowMs) exit.spent = fullWindow(state, exit);
}

export function wider(a: RateWindow | null, b: RateWindow | null): RateWindow | null {
  return (b?.windowMs ?? 0) > (a?.windowMs ?? 0) ? b : a;
}
