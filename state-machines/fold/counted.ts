// The counters of an exit, from which its rules decide.
import { Slots } from "../structures/slots.ts";
import { WindowSums } from "../structures/window-sums.ts";

export interface Counted {
  /** Slots of granted uses not yet reported, of open leases. */
  openUses: number;
  slots: Slots;
  /** Uses counted since the last usage rest. */
  usesSinceRest: number;
  /** When its last lease ended, or a use beyond those granted was reported. */
  lastClosedAt: number;
  /** Reported bytes, by the time of the report. null: none. */
  bytes: WindowSums | null;
}

export function newCounted(): Counted {
  return { openUses: 0, slots: new Slots(), usesSinceRest: 0, lastClosedAt: 0, bytes: null };
}

export function snapshotOfCounted({ openUses, slots, usesSinceRest, lastClosedAt, bytes }: Counted) {
  const counted = { openUses, usesSinceRest, lastClosedAt, slots: slots.toArray() };
  return { ...counted, ...(bytes === null ? {} : { bytes: bytes.toArray() }) };
}

export function countedOf({
  openUses,
  slots,
  usesSinceRest,
  lastClosedAt,
  bytes,
}: ReturnType<typeof snapshotOfCounted>): Counted {
  const known = new Slots();
  for (const base of slots) known.add(base);
  return { openUses, slots: known, usesSinceRest, lastClosedAt, bytes: bytes ? WindowSums.of(bytes) : null };
}

/** Whether a rule may still depend on it. */
export function isCounting({ slots, usesSinceRest, bytes }: Counted): boolean {
  return slots.size > 0 || usesSinceRest > 0 || bytes !== null;
}
