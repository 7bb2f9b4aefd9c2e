// Outcomes: what a worker reports of a use, as published to the outcomes stream, sent to `remuda.report.<pool>` or over HTTP.
import { z } from "zod";
import { durationMsSchema, leaseIdSchema } from "../events/ids.ts";
import { reasons, type WhyIgnored } from "../events/outcome.ts";
import { targetCharsMax } from "./target.ts";

export const outcomesMax = 1000;
export const outcomeSchema = z.object({
  leaseId: leaseIdSchema,
  n: z.int().min(1).optional(),
  result: z.enum(["success", "failure"]).optional(),
  reason: z.enum(reasons).optional(),
  /** The target's HTTP status. */
  status: z.int().min(100).max(999).optional(),
  /** A Node error code: ECONNREFUSED, ETIMEDOUT, UND_ERR_CONNECT_TIMEOUT, … */
  error: z.string().max(128).optional(),
  latencyMs: z.number().min(0).max(86_400_000).optional(),
  bytes: z.number().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  /** A URL or host; only the host is kept. */
  target: z.string().max(targetCharsMax).optional(),
  retryAfterMs: durationMsSchema.optional(),
  tokenRejected: z.boolean().optional(),
  tokenId: z.string().max(128).optional(),
  final: z.boolean().optional(),
});
export type Outcome = z.infer<typeof outcomeSchema>;

/** Each is read by itself, so that one that cannot be read never stops the others. */
export const reportRequestSchema = z.object({ outcomes: z.array(z.unknown()).max(outcomesMax) });

export interface IgnoredOutcome {
  leaseId: string;
  n: number;
  why: WhyIgnored;
}

export interface ReportReply {
  accepted: number;
  ignored: IgnoredOutcome[];
  /** Leases whose proxy has begun to rest: the worker should make no further use of them. */
  stop: { leaseId: string; until: number }[];
}
