// How a pool's leader is, in numbers, for `/metrics`: what `remuda.pool.metrics.<pool>` answers. No label and no field of
// it holds anything but words and numbers: no id, no host, no name that a client chose.

import type { LimitedBy, RefusalWord } from "../events/refusal.ts";
import type { StatsReply } from "./pool.ts";

/** `counts` has one more than `le`: what is above the last bound. Counts are of each bucket alone, not cumulative. */
export interface HistogramReply {
  le: readonly number[];
  counts: readonly number[];
  sum: number;
}

/** Counts and histograms begin with the leader: they are those of its process, and of its term. */
export interface MetricsReply {
  stats: StatsReply;
  /** Wishes that could not be granted at once, by each rule that held a matching proxy back. */
  heldBack: LimitedBy;
  /** Requests answered before they were decided: no room, no acknowledgement, a ledger nearly full. */
  turnedAway: Partial<Record<RefusalWord, number>>;
  withdrawn: number;
  /** From the arrival of a wish to its answer. */
  waitMs: { granted: HistogramReply; refused: HistogramReply };
  /** From the sending of a commit to its acknowledgement. */
  commitMs: HistogramReply;
  eventsPerCommit: HistogramReply;
  answersPerCommit: HistogramReply;
  /** Attempts to store a commit that ended without a certain result, and were made again. */
  ambiguousAttempts: number;
  /** How long ago the oldest outcome that is not taken up yet was stored; 0: there is none. */
  outcomeLagMs: number;
  /** Of each second of the leader's process: the longest time in which its event loop did nothing else. */
  stallMs: HistogramReply;
}
