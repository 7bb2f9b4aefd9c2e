// Pools: requests about them, and how they are answered.
import { z } from "zod";
import type { Policy } from "../events/policy.ts";
import type { ProxyStateName } from "../events/proxy.ts";
import type { RefusalWord } from "../events/refusal.ts";

/** A partial document, merged over the present one; judged when merged. */
const partialPolicySchema = z.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be an object",
);

export const openRequestSchema = z.object({ policy: partialPolicySchema.optional() });
export const policyRequestSchema = z.object({ policy: partialPolicySchema, ifVersion: z.int().min(1).optional() });
export const closeRequestSchema = z.object({ drain: z.boolean().default(false) });

export interface PoolReply {
  pool: string;
  policy: Policy;
  version: number;
  openedAt: number;
  /** Rules that can never fire, and the like: accepted, but worth a look. */
  warnings?: string[];
}

export interface StatsReply {
  pool: string;
  at: number;
  /** Of the last commit, in the ledger's stream. */
  sequence: number;
  commits: number;
  proxies: Record<ProxyStateName | "leasable", number>;
  leases: { open: number; granted: number; expired: number };
  outcomes: { succeeded: number; failed: number; neutral: number; ignored: number };
  refused: Partial<Record<RefusalWord, number>>;
  waiting: number;
  leader: { id: string; term: number };
}
