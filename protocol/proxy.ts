// Requests about proxies, and their replies.
import { z } from "zod";

import { labelsSchema, printable, unprintable } from "../events/ids.ts";
import { limitsSchema } from "../events/policy.ts";
import { restReasons } from "../events/proxy.ts";
import { listSchemes, proxyStates, schemes } from "../events/words.ts";
import { amount } from "./fields.ts";
import { count, instant } from "./reply.ts";

const idsSchema = z.array(z.string().max(128)).min(1).max(10_000);
const reasonSchema = z.string().max(256).regex(printable, unprintable);

export const proxyEntrySchema = z.object({
  url: z.string().max(4096),
  /** Replaces all its labels. */
  labels: labelsSchema.optional(),
  /** Merged over its present labels, like the labels that `url` itself contains (`host:port:CC`). */
  moreLabels: labelsSchema.optional(),
  limits: limitsSchema.optional(),
});
export const listSchemeSchema = z.enum(listSchemes);
export type ListScheme = z.infer<typeof listSchemeSchema>;
export type ProxyEntry = z.infer<typeof proxyEntrySchema>;
/** Each entry is parsed separately, so that a bad one never affects the others. */
export const addRequestSchema = z.object({
  proxies: z.array(z.unknown()).max(20_000),
  scheme: listSchemeSchema.nullish(),
  /** Whether the reply contains the ids of the proxies. */
  ids: z.boolean().default(false),
});
export type AddRequest = z.infer<typeof addRequestSchema>;
export const listRequestSchema = z.object({
  state: z.enum(proxyStates).optional(),
  labels: labelsSchema.optional(),
  text: z.string().max(256).optional().describe("a part of the address, the exit, the id or a label's value"),
  after: z.string().max(128).optional(),
  limit: amount(z.int().min(1).max(1000)).default(100),
});
export const exportRequestSchema = listRequestSchema
  .omit({ text: true })
  .extend({ limit: amount(z.int().min(1).max(1000)).default(1000) });
export type ExportRequest = z.infer<typeof exportRequestSchema>;
/** The past: `at` in epoch milliseconds, or a sequence in the ledger's stream. */
export const pastRequestSchema = listRequestSchema.extend({
  at: z.int().min(0).optional(),
  sequence: z.int().min(1).optional(),
});
/** The story of a proxy at a moment; without a proxy, of the pool from that moment on, for `forMs`. */
export const explainRequestSchema = z.object({
  proxyId: z.string().max(128).optional(),
  at: z.int().min(0).optional(),
  sequence: z.int().min(1).optional(),
  forMs: z.int().min(1).max(86_400_000).optional(),
});
export const getRequestSchema = z.object({ id: z.string().max(128) });
export const retireRequestSchema = z.object({ ids: idsSchema, reason: reasonSchema.optional() });
export const restRequestSchema = z.object({
  ids: idsSchema,
  forMs: amount(
    z
      .int()
      .min(1, "must be at least 1 ms")
      .max(30 * 86_400_000, "must be at most 30 days"),
  ),
  reason: reasonSchema.optional(),
});
export const reviveRequestSchema = z.object({ ids: idsSchema });

const rejectedEntrySchema = z.object({
  /** Position in the request, from 1. */
  line: count,
  /** The entry as it was sent, with its user name and password masked. */
  input: z.string(),
  why: z.string(),
});
export type RejectedEntry = z.infer<typeof rejectedEntrySchema>;

export const rejectedListedMax = 100;

export const addReplySchema = z.object({
  added: count,
  already: count,
  updated: count,
  rejected: z.array(rejectedEntrySchema).describe(`at most ${rejectedListedMax}`),
  rejectedCount: count,
  ids: z
    .array(z.string().nullable())
    .exactOptional()
    .describe("where they were asked for: the proxy of each entry, in their order; null where it was rejected"),
});
export type AddReply = z.infer<typeof addReplySchema>;

const exportedSchema = z.object({ id: z.string(), url: z.string() });
/**
 * Proxies with their credentials: each in the form that `proxies.add` takes, with its id. Retired ones only on request.
 */
export const exportReplySchema = z.object({
  proxies: z.array(exportedSchema.extend({ labels: labelsSchema, limits: limitsSchema.exactOptional() })),
  /** Proxies whose login is missing or does not belong to them. Their URLs have none. Absent: none. */
  lost: z.array(exportedSchema.extend({ username: z.string().describe("masked") })).exactOptional(),
  next: z.string().exactOptional(),
});
export type ExportReply = z.infer<typeof exportReplySchema>;

export const changedReplySchema = z.object({ changed: count, unknown: z.array(z.string()) });
export type ChangedReply = z.infer<typeof changedReplySchema>;

export const proxyReplySchema = z
  .object({
    id: z.string(),
    scheme: z.enum(schemes),
    host: z.string(),
    port: z.int(),
    username: z.string().exactOptional().describe("masked: its first characters"),
    exit: z.string().describe("the address that targets see"),
    labels: labelsSchema,
    limits: limitsSchema.exactOptional(),
    state: z.enum(proxyStates),
    until: instant.exactOptional().describe("the end of its rest (cooldown)"),
    reasons: z.array(z.enum(restReasons)).exactOptional(),
    leasableAt: instant.exactOptional(),
    epoch: count,
    score: z.int(),
    streak: count,
    usesSinceRest: count,
    usesInWindow: count,
    openLeases: count,
    totals: z.object({ granted: count, succeeded: count, failed: count, neutral: count, unreported: count }),
    addedAt: instant,
    lastUsedAt: instant.exactOptional(),
  })
  .meta({ id: "Proxy" });
export type ProxyReply = z.infer<typeof proxyReplySchema>;

export const proxiesReplySchema = z.object({ proxies: z.array(proxyReplySchema), next: z.string().exactOptional() });
/** With the place in the ledger that was asked for: its time, its commit's number, and its sequence in the stream. */
export const pastReplySchema = proxiesReplySchema.extend({ at: instant, commit: count, sequence: count });
/** In sentences. Ids of leases are cut off. */
export const explainReplySchema = z.object({ at: instant, commit: count, story: z.array(z.string()) });
