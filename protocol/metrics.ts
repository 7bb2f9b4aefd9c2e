// How a pool's leader is, in numbers, for `/metrics`: what `remuda.pool.metrics.<pool>` answers. No label and no field of
// it holds anything but words and numbers: no id, no host, no name that a client chose.
import { z } from "zod";
import { statsReplySchema } from "./pool.ts";
import { count, limitedBySchema, refusalWords } from "./reply.ts";

/** `counts` has one more than `le`: what is above the last bound. Counts are of each bucket alone, not cumulative. */
const histogramSchema = z.object({
  le: z.array(z.number()).readonly(),
  counts: z.array(count).readonly(),
  sum: z.number(),
});
export type HistogramReply = z.infer<typeof histogramSchema>;

/** Counts and histograms begin with the leader: they are those of its process, and of its term. */
export const metricsReplySchema = z.object({
  stats: statsReplySchema,
  /** Requests that could not be granted at once, by each rule that held a matching proxy back. */
  heldBack: limitedBySchema,
  /** Requests answered before they were decided: no room, no acknowledgement, a ledger nearly full. */
  rejected: z.partialRecord(z.enum(refusalWords), count),
  cancelled: count,
  /** From the arrival of a lease request to its answer. */
  waitMs: z.object({ granted: histogramSchema, refused: histogramSchema }),
  /** From the sending of a commit to its acknowledgement. */
  commitMs: histogramSchema,
  eventsPerCommit: histogramSchema,
  answersPerCommit: histogramSchema,
  /** Attempts to store a commit that ended without a certain result, and were made again. */
  ambiguousAttempts: count,
  /** How long ago the oldest outcome that is not ingested yet was stored; 0: there is none. */
  outcomeLagMs: count,
  /** Of each second of the leader's process: the longest time in which its event loop did nothing else. */
  stallMs: histogramSchema,
});
export type MetricsReply = z.infer<typeof metricsReplySchema>;
