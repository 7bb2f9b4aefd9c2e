// Pools: requests about them, how they are answered, their events.
import { z } from "zod";
import type { Policy } from "./policy.ts";
import type { ProxyStateName } from "./proxy.ts";
import type { RefusalWord } from "./refusal.ts";

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

export interface PoolOpened {
  type: "PoolOpened";
  pool: string;
  policy: Policy;
  version: number;
  /** Of the installation's key, under which proxies' ids are made: another key refuses to start. */
  keyFingerprint: string;
}

export interface PolicyChanged {
  type: "PolicyChanged";
  /** The whole document. */
  policy: Policy;
  version: number;
}

export interface PoolClosed {
  type: "PoolClosed";
  /** True: no more grants; the pool closes when its last lease has ended, with a second event. */
  draining?: true | undefined;
}

/** Does a ledger whose last commit has these events leave its pool open? Nothing follows what closes it but what opens it. */
export function leavesOpen(events: readonly { type: string }[]): boolean {
  const last = events.findLast(({ type }) => type === "PoolOpened" || type === "PoolClosed");
  return last?.type !== "PoolClosed" || (last as PoolClosed).draining === true;
}

export interface LeaderClaimed {
  type: "LeaderClaimed";
  leader: string;
  term: number;
}
