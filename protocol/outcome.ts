// Outcomes: a worker's reports of uses, as published to the outcomes stream, sent to `remuda.report.<pool>` or over
// HTTP.
import { z } from "zod";
import { leaseIdSchema } from "../events/ids.ts";
import { reasons, waysCounted } from "../events/words.ts";
import { amount } from "./fields.ts";
import { requestBytesMax } from "./refusal.ts";
import { count, ignoredListedMax, ignoredOutcomeSchema, instant } from "./reply.ts";
import { targetCharsMax } from "./target.ts";

/** The largest stored message of outcomes: the largest request, and some room for headers. */
export const outcomesMessageBytesMax = requestBytesMax + 8 * 1024;
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
  latencyMs: amount(z.int().min(0).max(86_400_000)).optional(),
  bytes: amount(z.int().min(0)).optional(),
  /** A URL or host; only the host is kept. */
  target: z.string().max(targetCharsMax).optional(),
  retryAfterMs: amount(z.int().min(0)).optional(),
  tokenRejected: z.boolean().optional(),
  tokenId: z.string().max(128).optional(),
  /** Of the gateway: how it counted this use. */
  counted: z.enum(waysCounted).optional(),
  final: z.boolean().optional(),
});
export type Outcome = z.infer<typeof outcomeSchema>;

/** Each outcome is parsed separately, so that an unreadable one never stops the others. */
export const reportRequestSchema = z.object({ outcomes: z.array(z.unknown()).max(outcomesMax) });

export type IgnoredOutcome = z.infer<typeof ignoredOutcomeSchema>;

export const reportReplySchema = z.object({
  accepted: count,
  ignored: z.array(ignoredOutcomeSchema).describe(`at most ${ignoredListedMax}`),
  ignoredCount: count,
  stop: z
    .array(z.object({ leaseId: z.string(), until: instant }))
    .describe("their proxies have begun to rest: make no further use of them"),
});
export type ReportReply = z.infer<typeof reportReplySchema>;
