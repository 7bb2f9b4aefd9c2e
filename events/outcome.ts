// The classes of outcomes, and the recorded facts about outcomes.
import { z } from "zod";
import { flag, instant } from "./field.ts";
import { reasons, waysCounted } from "./words.ts";

/** The class decides which rules apply. `success` is a class too. */
export type Reason = (typeof reasons)[number];
export const outcomeClasses = ["success", ...reasons] as const;
export type OutcomeClass = (typeof outcomeClasses)[number];

/** Why an outcome was ignored. */
export const whysIgnored = [
  "unreadable",
  "unknown-lease",
  "n-missing",
  "n-too-large",
  "no-result",
  "duplicate",
] as const;
export type WhyIgnored = (typeof whysIgnored)[number];

/** One use, reported, with everything that follows from it for the proxy. A later policy does not change it. */
export const useReportedSchema = z.strictObject({
  type: z.literal("UseReported"),
  leaseId: z.string(),
  n: z.int(),
  proxyId: z.string(),
  class: z.enum(outcomeClasses),
  result: z.enum(["success", "failure", "neutral"]),
  counts: flag.describe("The outcome counts in the failure window."),
  score: z.int32().describe("The proxy's score and streak after this outcome."),
  streak: z.int32(),
  slotAt: instant
    .optional()
    .describe("The slot of this use runs from here: the target saw the use by then. Absent: no slot moves."),
  storedAt: instant.describe(
    "When the broker stored the outcome (ms). If it was sent as a request: when it was ingested.",
  ),
  status: z.int32().optional(),
  error: z.string().optional(),
  latencyMs: z.number().optional(),
  bytes: z.number().optional(),
  target: z.string().optional(),
  retryAfterMs: z.int().optional(),
  tokenRejected: flag,
  tokenId: z.string().optional(),
  counted: z.enum(waysCounted).optional().describe("How the gateway counted this use. Absent: a client reported it."),
  final: flag,
  late: flag.describe(
    "Stored after the end of the lease and its grace. Counts as a result and for its slot, not as a new use.",
  ),
  over: flag.describe("A use beyond those granted, or one that had been returned: an anomaly."),
});
export type UseReported = z.infer<typeof useReportedSchema>;

/** Aggregated per commit. */
export const outcomesIgnoredSchema = z.strictObject({
  type: z.literal("OutcomesIgnored"),
  why: z.enum(whysIgnored),
  count: z.int().min(1),
});
export type OutcomesIgnored = z.infer<typeof outcomesIgnoredSchema>;
