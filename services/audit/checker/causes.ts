// The causes of rests that more than one kind of event can produce.
import type { Cause, ExitModel, ProxyModel } from "./entities.ts";
import type { Model } from "./model.ts";
import { leasesOf, quotaOf } from "./past.ts";

export function exactly(reason: string, until: number): Cause {
  return { reason, from: until, to: until };
}

export function tooManyFailures(model: Model, proxy: ProxyModel, asOf = model.at): boolean {
  const rule = model.policy?.failures ?? null;
  if (rule === null) return false;
  let count = 0;
  for (const failedAt of proxy.failures) if (failedAt > asOf - rule.windowMs) count++;
  return count > rule.limit;
}

export function expectFailuresRest(model: Model, proxy: ProxyModel, asOf = model.at): void {
  const until = asOf + (model.policy?.failures?.restMs ?? 0);
  if (until > model.at && tooManyFailures(model, proxy, asOf)) model.mustRest.set(proxy, [exactly("failures", until)]);
}

/** A used-up usage quota with no open lease and no rest. Checked when the commit ends. */
export function isSpentAwake(exit: ExitModel): boolean {
  const { usage } = exit.limits;
  if (usage === undefined || quotaOf(exit) < usage.limit || leasesOf(exit) > 0) return false;
  return exit.members.some((proxy) => proxy.state !== "retired");
}
