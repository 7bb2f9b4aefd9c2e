// What is counted at an exit and recorded: the counters that its rules go by.
import { Slots } from "../structures/slots.ts";
import { WindowSums } from "../structures/window-sums.ts";

export interface Counted {
  /** Slots of granted uses not yet reported, of open leases. */
  openUses: number;
  slots: Slots;
  /** Uses counted since the last usage rest. */
  usesSinceRest: number;
  /** When a lease of it ended last, or a use beyond those granted was reported. While none is open it is idle since. */
  lastClosedAt: number;
  /** Bytes by the time of their report. null: none. */
  bytes: WindowSums | null;
}

export type CountedSnapshot = Pick<Counted, "openUses" | "usesSinceRest" | "lastClosedAt"> & {
  slots: number[];
  bytes?: [at: number, amount: number][];
};

export function newCounted(): Counted {
  return { openUses: 0, slots: new Slots(), usesSinceRest: 0, lastClosedAt: 0, bytes: null };
}

export function snapshotOfCounted({ openUses, slots, usesSinceRest, lastClosedAt, bytes }: Counted): CountedSnapshot {
  const counted = { openUses, usesSinceRest, lastClosedAt, slots: slots.toArray() };
  return bytes === null ? counted : { ...counted, bytes: bytes.toArray() };
}

export function countedOf({ openUses, slots, usesSinceRest, lastClosedAt, bytes }: CountedSnapshot): Counted {
  const known = new Slots();
  for (const base of slots) known.add(base);
  return { openUses, slots: known, usesSinceRest, lastClosedAt, bytes: bytes ? WindowSums.of(bytes) : null };
}

/** May any rule still go by it? */
export function isCounting({ slots, usesSinceRest, bytes }: Counted): boolean {
  return slots.size > 0 || usesSinceRest > 0 || bytes !== null;
}
