// `drain`: which window of an exit was filled and has not been empty since. It is kept only while the policy says
// `drain`, and only as far as all slots are known. null: no window; undefined: not known.
import type { RateWindow } from "../../../events/policy.ts";
import type { ExitModel } from "./entities.ts";
import type { Model } from "./model.ts";

type Filled = RateWindow | null | undefined;

export function spentWindow(model: Model, exit: ExitModel): Filled {
  const { filled } = exit;
  const { rates } = exit.limits;
  const isEmpty = ({ windowMs }: RateWindow): boolean =>
    model.knowsAll(exit, windowMs) && model.occupied(exit, windowMs) === 0;
  if (filled === undefined) return rates.every(isEmpty) ? null : undefined;
  if (filled === null || isEmpty(filled)) return null;
  if (!model.knowsAll(exit, filled.windowMs)) return undefined;
  return rates.some(({ limit, windowMs }) => windowMs === filled.windowMs && limit <= filled.limit) ? filled : null;
}

/** Counts a grant. */
export function fill(model: Model, exit: ExitModel, count: () => void): void {
  if (model.policy?.strategy.kind !== "drain") {
    exit.filled = undefined;
    return count();
  }
  const before = spentWindow(model, exit);
  count();
  exit.filled = joined(before, fullWindow(model, exit));
}

/** Uses were returned. If they had filled the window, it may have room again. */
export function giveBack(model: Model, exit: ExitModel, before: Filled): void {
  if (before === undefined || before?.windowMs === exit.filled?.windowMs)
    exit.filled = before && fullWindow(model, exit);
}

/** The widest of its windows that is full now. */
export function fullWindow(model: Model, exit: ExitModel): Filled {
  let widest: Filled = null;
  for (const window of exit.limits.rates) {
    if (!model.knowsAll(exit, window.windowMs)) return undefined;
    if (model.occupied(exit, window.windowMs) >= window.limit) widest = joined(widest, window);
  }
  return widest;
}

/** The wider one. */
export function joined(a: Filled, b: Filled): Filled {
  if (a === undefined || b === undefined) return undefined;
  return (b?.windowMs ?? 0) > (a?.windowMs ?? 0) ? b : a;
}
