// What a leader counts for `/metrics` beside its state: in memory alone, and from its beginning. It stands on the path of
// every lease, so nothing here allocates per request or reads a clock.

import { type LimitedBy, type LimitName, limitNames, type RefusalWord } from "../../events/refusal.ts";
import type { HistogramReply, MetricsReply } from "../../protocol/metrics.ts";
import { Histogram } from "../../runtime/histogram.ts";

/** From an answer out of memory to the longest wait. */
const waitBoundsMs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000];
/** From memory to the time after which a commit is resent many times over. */
const commitBoundsMs = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 30_000];
/** To the most that a commit carries. */
const batchBounds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

export class PoolMetrics {
  readonly waitMs = { granted: new Histogram(waitBoundsMs), refused: new Histogram(waitBoundsMs) };
  readonly commitMs = new Histogram(commitBoundsMs);
  readonly eventsPerCommit = new Histogram(batchBounds);
  readonly answersPerCommit = new Histogram(batchBounds);
  readonly #heldBack = Object.fromEntries(limitNames.map((name) => [name, 0])) as Record<LimitName, number>; // All names.
  readonly #turnedAway: Partial<Record<RefusalWord, number>> = {};
  #withdrawn = 0;
  #ambiguousAttempts = 0;

  heldBack(by: LimitedBy | undefined): void {
    for (const [rule, proxies] of Object.entries(by ?? {})) {
      if (proxies > 0) this.#heldBack[rule as LimitName]++; // Its own keys.
    }
  }

  turnedAway(word: RefusalWord): void {
    this.#turnedAway[word] = (this.#turnedAway[word] ?? 0) + 1;
  }

  withdrawn(): void {
    this.#withdrawn++;
  }

  ambiguousAttempt(): void {
    this.#ambiguousAttempts++;
  }

  view(beside: { outcomeLagMs: number; stallMs: HistogramReply }): Omit<MetricsReply, "stats"> {
    return {
      heldBack: { ...this.#heldBack },
      turnedAway: { ...this.#turnedAway },
      withdrawn: this.#withdrawn,
      waitMs: { granted: this.waitMs.granted.view(), refused: this.waitMs.refused.view() },
      commitMs: this.commitMs.view(),
      eventsPerCommit: this.eventsPerCommit.view(),
      answersPerCommit: this.answersPerCommit.view(),
      ambiguousAttempts: this.#ambiguousAttempts,
      ...beside,
    };
  }
}
