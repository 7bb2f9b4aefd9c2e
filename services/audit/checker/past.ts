// The grants through another exit that an exit counts. If a proxy that was alone at its exit moves, both exits count
// its grants: the old exit is kept as a past exit, and both refer to it. So nothing is counted twice, however often the
// proxy moves.
import type { ExitModel } from "./entities.ts";

/** The exits that count the grants through this one. */
export function countingExits(exit: ExitModel): Iterable<ExitModel> {
  return exit.countedBy ?? [exit];
}

export function leasesOf(exit: ExitModel): number {
  let open = exit.leases;
  for (const { of } of exit.past) open += of.leases;
  return open;
}

export function quotaOf(exit: ExitModel): number {
  let uses = exit.usesSinceRest;
  for (const { of, since } of exit.past) uses += of.usesSinceRest - since;
  return uses;
}

export function lastClosedOf(exit: ExitModel): number {
  let at = exit.lastClosedAt;
  for (const { of } of exit.past) at = Math.max(at, of.lastClosedAt);
  return at;
}

export function endQuota(exit: ExitModel): void {
  exit.usesSinceRest = 0;
  for (const past of exit.past) past.since = past.of.usesSinceRest;
}

/** Are its uses in the usage quota of any exit that counts it? */
export function isInQuota(of: ExitModel): boolean {
  for (const { past } of of.countedBy ?? [])
    if (past.some((each) => each.of === of && of.usesSinceRest > each.since)) return true;
  return false;
}
