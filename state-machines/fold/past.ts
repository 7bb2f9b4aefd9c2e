// The uses that count at an exit: those granted through it, and those that moved proxies bring along. A proxy that was
// alone at its exit may have moved, or its exit may only have been renamed. So the old exit's uses count at both until
// they have run out. They are kept once, as a former exit to which every exit that counts them refers. So a proxy that
// moves back and forth is not counted twice, and later reports are known wherever the uses count.
import type { Exit, Lease, Moved, Past } from "./state.ts";

export function newMoved(exit: Exit): Moved {
  return { exit, past: [], order: 0, countedBy: new Set(), fadesAt: 0, fadePlace: -1 };
}

export function isFormer(exit: Exit): boolean {
  return exit.moved !== null && exit.moved.order > 0;
}

/** The exits at which its uses count: itself, or for a former exit all that refer to it. */
export function countingExits(exit: Exit): Iterable<Exit> {
  return exit.moved !== null && isFormer(exit) ? exit.moved.countedBy : [exit];
}

export function leasesOf(exit: Exit): readonly Lease[] {
  if (exit.moved === null) return exit.leases;
  return [...exit.leases, ...exit.moved.past.flatMap(({ of }) => of.leases)];
}

/** Slots without an end yet. */
export function openUsesOf(exit: Exit): number {
  let uses = exit.openUses;
  if (exit.moved !== null) for (const { of } of exit.moved.past) uses += of.openUses;
  return uses;
}

/** Uses since its last usage rest. */
export function usesSinceRestOf(exit: Exit): number {
  let uses = exit.usesSinceRest;
  if (exit.moved !== null) for (const { of, since } of exit.moved.past) uses += of.usesSinceRest - since;
  return uses;
}

/** Whether any exit that counts this former one has uses of it in its usage quota. */
export function isInUsageQuota(of: Exit): boolean {
  const isCounted = (past: Past): boolean => past.of === of && of.usesSinceRest > past.since;
  for (const { moved } of countingExits(of)) if (moved?.past.some(isCounted)) return true;
  return false;
}

export function lastClosedOf(exit: Exit): number {
  let at = exit.lastClosedAt;
  if (exit.moved !== null) for (const { of } of exit.moved.past) at = Math.max(at, of.lastClosedAt);
  return at;
}

/** How many slots have a base of `from` or later. */
export function slotsFrom(exit: Exit, from: number): number {
  let count = exit.slots.countFrom(from);
  if (exit.moved !== null) for (const { of } of exit.moved.past) count += of.slots.countFrom(from);
  return count;
}

/** The first bases of `from` or later, in order: at most `most` of them. */
export function firstSlots(exit: Exit, from: number, most: number): number[] {
  if (exit.moved === null) return exit.slots.first(from, most);
  const all = [exit, ...exit.moved.past.map(({ of }) => of)].flatMap((each) => each.slots.first(from, most));
  return all.sort((a, b) => a - b).slice(0, most);
}

/** The k-th base (k from 1) of `from` or later. */
export function nthSlot(exit: Exit, k: number, from: number): number {
  return exit.moved === null ? exit.slots.nth(k, from) : firstSlots(exit, from, k)[k - 1]!; // There are at least k.
}

/** The largest base; -1 where there is none. */
export function lastSlotOf(exit: Exit): number {
  let base = exit.slots.last;
  if (exit.moved !== null) for (const { of } of exit.moved.past) base = Math.max(base, of.slots.last);
  return base;
}
