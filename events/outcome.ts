// Outcomes: what a worker reports of a use, as published to the outcomes stream, sent to `remuda.report.<pool>` or HTTP.
import { z } from "zod";
import { durationMsSchema, leaseIdSchema } from "./ids.ts";
import { targetCharsMax } from "./target.ts";

/** Whose fault it is decides what follows; `success` is the tenth class. */
export const reasons = [
  "unreachable",
  "timeout",
  "proxy-auth",
  "proxy-error",
  "blocked",
  "throttled",
  "target-error",
  "client-abort",
] as const;
export type Reason = (typeof reasons)[number];
export const outcomeClasses = ["success", ...reasons] as const;
export type OutcomeClass = (typeof outcomeClasses)[number];

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

/** Why an outcome was ignored. */
export type WhyIgnored = "unreadable" | "unknown-lease" | "n-missing" | "n-too-large" | "no-result" | "duplicate";

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

/** One use, reported. Everything that follows from it for the proxy is here as decided: a later policy changes nothing. */
export interface UseReported {
  type: "UseReported";
  leaseId: string;
  n: number;
  proxyId: string;
  class: OutcomeClass;
  result: "success" | "failure" | "neutral";
  /** Counts for the failure window. */
  counts?: true | undefined;
  /** The proxy's score and streak after this outcome. */
  score: number;
  streak: number;
  /** From here the slot of this use runs: the request reached the target no later than this. Absent: no slot moves. */
  slotAt?: number | undefined;
  /** When the broker stored it (ms); of an outcome sent as a request, when it was taken up. */
  storedAt: number;
  status?: number | undefined;
  error?: string | undefined;
  latencyMs?: number | undefined;
  bytes?: number | undefined;
  target?: string | undefined;
  retryAfterMs?: number | undefined;
  tokenRejected?: true | undefined;
  tokenId?: string | undefined;
  final?: true | undefined;
  /** Stored after the lease's end and grace: a result and a slot, not a use. */
  late?: true | undefined;
  /** A use beyond those granted, or one that had been returned: an anomaly. */
  over?: true | undefined;
}

/** Aggregated per commit. */
export interface OutcomesIgnored {
  type: "OutcomesIgnored";
  why: WhyIgnored;
  count: number;
}
