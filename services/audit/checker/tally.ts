// The figures of a summary: counts of events in the range, and each exit's maximum in any window.
import type { RateWindow } from "../../../events/policy.ts";
import type { Place } from "./finding.ts";

/** The maximum of one exit in one kind of window. */
export interface Peak extends Place {
  exit: string;
  windowMs: number;
  limit: number;
  /** Slots, as the rule counts them, with the margin. */
  slots: number;
  /**
   * Requests that a target can have seen in one window: granted by its end, and not known to have been made before it.
   */
  seen: number;
}

export type Counts = Record<string, number>;

export class Tally {
  commits = 0;
  events = 0;
  bytes = 0;
  granted = 0;
  usesGranted = 0;
  usesReturned = 0;
  usesUnreported = 0;
  added = 0;
  retired = 0;
  renewed = 0;
  policies = 0;
  readonly closed: Counts = {};
  readonly outcomes: Counts = {};
  readonly rests: Counts = {};
  readonly refused: Counts = {};
  readonly ignored: Counts = {};
  readonly terms = new Set<number>();
  overUses = 0;
  lateOutcomes = 0;
  headsSigned = 0;
  silent = false;
  /** By exit, then by window. */
  readonly peaks = new Map<string, Peak[]>();

  count(counts: Counts, word: string, by = 1): void {
    if (!this.silent) counts[word] = (counts[word] ?? 0) + by;
  }

  /** Of an exit, which may be gone and come back. */
  peaksOf(exit: string): Peak[] {
    let peaks = this.peaks.get(exit);
    if (peaks === undefined) {
      peaks = [];
      this.peaks.set(exit, peaks);
    }
    return peaks;
  }

  peak(peaks: Peak[], exit: string, window: RateWindow, slots: number, seen: number, place: Place): void {
    if (this.silent) return;
    for (const peak of peaks) {
      if (peak.windowMs !== window.windowMs || peak.limit !== window.limit) continue;
      if (seen > peak.seen) peak.seen = seen;
      if (slots <= peak.slots) return;
      peak.slots = slots;
      peak.n = place.n;
      peak.sequence = place.sequence;
      peak.line = place.line;
      peak.at = place.at;
      return;
    }
    peaks.push({ exit, windowMs: window.windowMs, limit: window.limit, slots, seen, ...place });
  }
}
