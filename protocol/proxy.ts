// Proxies: requests about them, and how they are answered.
import { z } from "zod";
import { type Labels, labelsSchema } from "../events/ids.ts";
import { type Limits, limitsSchema } from "../events/policy.ts";
import { type ProxyStateName, proxyStates, type RestReason, type Scheme } from "../events/proxy.ts";

const idsSchema = z.array(z.string().max(128)).min(1).max(10_000);
const reasonSchema = z.string().max(256);

export const proxyEntrySchema = z.object({
  url: z.string().max(4096),
  /** All that it is to have. */
  labels: labelsSchema.optional(),
  /** To be put over those it has; so is what `url` itself tells (`host:port:CC`). */
  moreLabels: labelsSchema.optional(),
  limits: limitsSchema.optional(),
});
export type ProxyEntry = z.infer<typeof proxyEntrySchema>;
/** Each entry is read by itself, so that a bad one never spoils the others. */
export const addRequestSchema = z.object({
  proxies: z.array(z.unknown()).max(20_000),
  /** The reply is to name the proxies. */
  ids: z.boolean().default(false),
});
export const listRequestSchema = z.object({
  state: z.enum(proxyStates).optional(),
  labels: labelsSchema.optional(),
  after: z.string().max(128).optional(),
  limit: z.int().min(1).max(1000).default(100),
});
export const exportRequestSchema = listRequestSchema.extend({ limit: z.int().min(1).max(1000).default(1000) });
export type ExportRequest = z.infer<typeof exportRequestSchema>;
/** The past: `at` in epoch milliseconds, or a sequence in the ledger's stream. */
export const pastRequestSchema = listRequestSchema.extend({
  at: z.int().min(0).optional(),
  sequence: z.int().min(1).optional(),
});
export const getRequestSchema = z.object({ id: z.string().max(128) });
export const retireRequestSchema = z.object({ ids: idsSchema, reason: reasonSchema.optional() });
export const restRequestSchema = z.object({
  ids: idsSchema,
  forMs: z
    .int()
    .min(1, "must be at least 1 ms")
    .max(30 * 86_400_000, "must be at most 30 days"),
  reason: reasonSchema.optional(),
});
export const reviveRequestSchema = z.object({ ids: idsSchema });

export interface RejectedEntry {
  /** Position in the request, from 1. */
  line: number;
  /** As it came, its password masked. */
  input: string;
  why: string;
}

export const rejectedListedMax = 100;

export interface AddReply {
  added: number;
  already: number;
  updated: number;
  rejected: RejectedEntry[];
  rejectedCount: number;
  /** Where they were asked for: the proxy of each entry, in their order; null where it was rejected. */
  ids?: (string | null)[];
}

/** Proxies with their credentials: each as `proxies.add` takes it, its id beside. The retired only where they are asked for. */
export interface ExportReply {
  proxies: { id: string; url: string; labels: Labels; limits?: Limits }[];
  /** Their passwords are not to be had, or are not theirs; the URLs are without. Absent: none. */
  lost?: { id: string; url: string }[];
  next?: string;
}

export interface ChangedReply {
  changed: number;
  unknown: string[];
}

export interface ProxyReply {
  id: string;
  scheme: Scheme;
  host: string;
  port: number;
  username?: string;
  exit: string;
  labels: Labels;
  limits?: Limits;
  state: ProxyStateName;
  until?: number;
  reasons?: RestReason[];
  leasableAt?: number;
  epoch: number;
  score: number;
  streak: number;
  usesInStint: number;
  usesInWindow: number;
  openLeases: number;
  totals: { granted: number; succeeded: number; failed: number; neutral: number; unreported: number };
  addedAt: number;
  lastUsedAt?: number;
}
