// `drain`: exactly n of a proxy, then the next. A window that was filled is spent until it is empty again, so that its
// proxy is not returned to for each use that runs out. Of several windows only the one that was filled counts.
import type { RateWindow } from "../../events/policy.ts";
import type { Exit, PoolState } from "../fold/state.ts";
import { occupied } from "../rules/rate.ts";

/** Of its windows the widest that is full now. */
export function fullWindow(state: PoolState, exit: Exit): RateWindow | null {
  const full = exit.limits.rates.filter((rate) => occupied(state, exit, rate.windowMs) >= rate.limit);
  return full.reduce<RateWindow | null>(wider, null);
}

/** The one that was filled and has not been empty since, where it is still a limit. A higher limit has not been filled. */
export function spentWindow(state: PoolState, exit: Exit): RateWindow | null {
  const { spent, limits } = exit;
  if (spent === null || occupied(state, exit, spent.windowMs) === 0) return null;
  const holds = limits.rates.some(({ limit, windowMs }) => windowMs === spent.windowMs && limit <= spent.limit);
  return holds ? spent : null;
}

/** Uses were given back. Where they had filled the window, as many are to be made of it before the next proxy's turn. */
export function giveBack(state: PoolState, exit: Exit, fullBefore: RateWindow | null): void {
  if (fullBefore !== null && fullBefore.windowMs === exit.spent?.windowMs) exit.spent = fullWindow(state, exit);
}

export function wider(a: RateWindow | null, b: RateWindow | null): RateWindow | null {
  return (b?.windowMs ?? 0) > (a?.windowMs ?? 0) ? b : a;
}
