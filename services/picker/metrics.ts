// Counts for `/metrics` that are not in the leader's state. They are in memory only, and begin with the leader. This
// code is on the path of every lease, so nothing here allocates per request or reads a clock.

import type { RefusalWord } from "../../events/refusal.ts";
import type { HistogramReply, MetricsReply } from "../../protocol/metrics.ts";
import { Histogram } from "../../runtime/histogram.ts";
import type { Counts } from "../../state-machines/queue/counts.ts";

/** From an answer out of memory to the longest wait. */
const waitBoundsMs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000];
/** From memory to the time after which a commit has been resent many times. */
const commitBoundsMs = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 30_000];
/** Up to the most that a commit carries. */
const batchBounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

export class PoolMetrics {
  readonly waitMs = { granted: new Histogram(waitBoundsMs), refused: new Histogram(waitBoundsMs) };
  readonly commitMs = new Histogram(commitBoundsMs);
  readonly eventsPerCommit = new Histogram(batchBounds);
  readonly answersPerCommit = new Histogram(batchBounds);
  readonly #rejected: Partial<Record<RefusalWord, number>> = {};
  #ambiguousAttempts = 0;

  committed(ms: number, turn: { events: readonly unknown[]; answers: readonly unknown[] }): void {
    this.commitMs.observe(ms);
    this.eventsPerCommit.observe(turn.events.length);
    this.answersPerCommit.observe(turn.answers.length);
  }

  rejected(word: RefusalWord): void {
    this.#rejected[word] = (this.#rejected[word] ?? 0) + 1;
  }

  ambiguousAttempt(): void {
    this.#ambiguousAttempts++;
  }

  view(beside: {
    counts: Pick<Counts, "heldBack" | "cancelled">;
    defects: number;
    outcomeLagMs: number;
    stallMs: HistogramReply;
  }): Omit<MetricsReply, "stats"> {
    const { counts, ...rest } = beside;
    return {
      heldBack: { ...counts.heldBack },
      rejected: { ...this.#rejected },
      cancelled: counts.cancelled,
      waitMs: { granted: this.waitMs.granted.view(), refused: this.waitMs.refused.view() },
      commitMs: this.commitMs.view(),
      eventsPerCommit: this.eventsPerCommit.view(),
      answersPerCommit: this.answersPerCommit.view(),
      ambiguousAttempts: this.#ambiguousAttempts,
      ...rest,
    };
  }
}
