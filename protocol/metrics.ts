// The numbers of a pool's leader for `/metrics`: the reply to `remuda.pool.metrics.<pool>`. Labels and fields hold
// fixed words and numbers only: no id, no host, no name that a client chose.
import { z } from "zod";
import { statsReplySchema } from "./pool.ts";
import { count, limitedBySchema, refusalWords } from "./reply.ts";

/**
 * `counts` has one entry more than `le`, for values above the last bound. Each entry counts its own bucket, not
 * cumulatively.
 */
const histogramSchema = z.object({
  le: z.array(z.number()).readonly(),
  counts: z.array(count).readonly(),
  sum: z.number(),
});
export type HistogramReply = z.infer<typeof histogramSchema>;

/** Counts and histograms start at 0 with each leader: they cover its process and its term. */
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
  /** Attempts to store a commit that ended without a certain result, and were repeated. */
  ambiguousAttempts: count,
  /** How often its leader failed because of a bug, since its leader's process started. */
  defects: count,
  /** Age of the oldest outcome that is not ingested yet; 0 if all are ingested. */
  outcomeLagMs: count,
  /** For each second of the leader's process: the longest time that its event loop was blocked. */
  stallMs: histogramSchema,
});
export type MetricsReply = z.infer<typeof metricsReplySchema>;
