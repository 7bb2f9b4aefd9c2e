// What is counted at an exit of what was granted through another one. A proxy that was alone at its exit and moves takes
// what was granted there along, and leaves it behind as well: the exit as it was is kept, and both count it from then on,
// so that nothing is counted twice, however often it moves.
import type { ExitModel, Model, ProxyModel } from "./model.ts";

export interface Past {
  readonly of: ExitModel;
  /** Its stint when the exit that counts it last had its usage rest. */
  since: number;
}

/** Where what was granted through it counts. */
export function countingExits(exit: ExitModel): Iterable<ExitModel> {
  return exit.countedBy ?? [exit];
}

export function leasesOf(exit: ExitModel): number {
  let open = exit.leases;
  for (const { of } of exit.past) open += of.leases;
  return open;
}

export function stintOf(exit: ExitModel): number {
  let uses = exit.stint;
  for (const { of, since } of exit.past) uses += of.stint - since;
  return uses;
}

export function lastClosedOf(exit: ExitModel): number {
  let at = exit.lastClosedAt;
  for (const { of } of exit.past) at = Math.max(at, of.lastClosedAt);
  return at;
}

export function endStint(exit: ExitModel): void {
  exit.stint = 0;
  for (const past of exit.past) past.since = past.of.stint;
}

/** What was granted through an exit stays with the address; who was alone there, but for retired ones, takes it along, too. */
export function moveTo(model: Model, proxy: ProxyModel, exit: ExitModel): void {
  const old = proxy.exit;
  for (const each of [old, exit]) forgetPast(model, each);
  old.members.splice(old.members.indexOf(proxy), 1);
  exit.members.push(proxy);
  proxy.exit = exit;
  if (old.members.some(({ state }) => state !== "retired")) return model.limitAnew(old);
  model.exits.delete(old.key);
  for (const each of old.members.splice(0)) {
    each.exit = model.exitFor(old.key);
    each.exit.members.push(each);
    model.limitAnew(each.exit);
  }
  const past = [...old.past, { of: old, since: 0 }];
  for (const { of } of old.past) of.countedBy?.delete(old);
  old.past = [];
  old.countedBy = new Set();
  for (const each of [model.exitFor(old.key), exit]) {
    each.restUntil = Math.max(each.restUntil, old.restUntil);
    each.floor = Math.max(each.floor, old.floor);
    for (const { of, since } of past) {
      if (each.past.some((known) => known.of === of)) continue;
      each.past.push({ of, since });
      of.countedBy?.add(each);
    }
  }
}

/** Are uses of it in the stint of any exit that counts it? */
function isInStint(of: ExitModel): boolean {
  for (const { past } of of.countedBy ?? [])
    if (past.some((each) => each.of === of && of.stint > each.since)) return true;
  return false;
}

/** What has run out is forgotten, but for its part of the stint: that the exit counts as its own, if it is the only one to. */
export function forgetPast(model: Model, exit: ExitModel): void {
  if (exit.past.length === 0) return;
  const keepMs = model.keepMs(exit);
  exit.past = exit.past.filter((past) => {
    const { of, since } = past;
    const isShared = exit.limits.usage !== undefined && (of.countedBy?.size ?? 0) > 1 && isInStint(of);
    const isOpen = of.leases > 0 || isShared;
    if (isOpen || model.mayBeReportedUntil(of) > model.at || (of.bases.last >= 0 && of.bases.last + keepMs >= model.at))
      return true;
    exit.stint += of.stint - since;
    exit.lastClosedAt = Math.max(exit.lastClosedAt, of.lastClosedAt);
    of.countedBy?.delete(exit);
    return false;
  });
}
