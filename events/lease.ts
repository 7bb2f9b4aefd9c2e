// The recorded facts about leases and lease requests.
import { z } from "zod";
import { as, flag, instant, leadsTo } from "./field.ts";
import { labelsField } from "./ids.ts";
import { type LimitedBy, type RefusalWord, refusalNumbers } from "./refusal.ts";
import { proxyStates, schemes } from "./words.ts";

const count = z.int().min(1);

/** A lease request as recorded: without defaults, and without the fields about waiting. */
export const requestSchema = as(
  z.strictObject({
    requestId: z.string().optional(),
    count: count.optional().describe("Absent: 1."),
    uses: count.optional().describe("Absent: 1."),
    minUses: count.optional().describe("Absent: 1."),
    ttlMs: count.optional(),
    session: z.string().optional(),
    labels: labelsField.optional(),
    schemes: z.array(z.enum(schemes)).optional(),
    exclude: z.array(z.string()).optional(),
    proxyId: z.string().optional(),
    holder: z.string().optional(),
    token: flag,
    target: z.string().optional().describe("The host alone."),
  }),
  "request",
  "RecordedRequest",
);
export type RecordedRequest = z.infer<typeof requestSchema>;

export const leaseGrantedSchema = z.strictObject({
  type: z.literal("LeaseGranted"),
  leaseId: z.string(),
  proxyId: z.string(),
  state: leadsTo("in-use"),
  user: z
    .string()
    .optional()
    .describe(
      "The user who took the lease. Absent: the NATS server had no users, or the lease is for a token refresh.",
    ),
  request: requestSchema,
  uses: z.int32(),
  epoch: z.int32(),
  expiresAt: instant,
  strategy: z.string(),
  ranked: z.record(z.string(), z.int()).describe("The figures that the strategy ranked by."),
  slotAt: instant.optional().describe('With `countFrom: "grant"`: the slots of all its uses run from here.'),
  tokenId: z.string().optional().describe("The token that came with the lease."),
  with: z
    .string()
    .optional()
    .describe("The first lease of the same request, which asked for several. It was granted in the same commit."),
});
export type LeaseGranted = z.infer<typeof leaseGrantedSchema>;

export const leaseRenewedSchema = z.strictObject({
  type: z.literal("LeaseRenewed"),
  leaseId: z.string(),
  expiresAt: instant,
});
export type LeaseRenewed = z.infer<typeof leaseRenewedSchema>;

export const leaseClosedSchema = z.strictObject({
  type: z.literal("LeaseClosed"),
  leaseId: z.string(),
  proxyId: z.string(),
  state: leadsTo(...proxyStates),
  how: z.enum(["completed", "released", "expired"]),
  used: z.int32(),
  slotAt: instant.describe("The slots of unreported uses run from here."),
});
export type LeaseClosed = z.infer<typeof leaseClosedSchema>;

const refusalWords = Object.keys(refusalNumbers) as RefusalWord[]; // All of them, and no other.

/** Aggregated per commit and word. */
export const requestsRefusedSchema = z.strictObject({
  type: z.literal("RequestsRefused"),
  code: z.enum(refusalWords),
  count,
  limitedBy: as(z.custom<LimitedBy>(), "figures", "LimitedBy")
    .optional()
    .describe("The rules that held proxies back from the last of these requests."),
  request: requestSchema.optional().describe("The last of these requests, if it could be read."),
});
export type RequestsRefused = z.infer<typeof requestsRefusedSchema>;
