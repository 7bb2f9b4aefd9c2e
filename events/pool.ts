// The recorded facts about pools.
import { z } from "zod";
import { as, by, flag } from "./field.ts";
import { policySchema } from "./policy.ts";

const policy = as(policySchema, "document", "Policy");

export const poolOpenedSchema = z.strictObject({
  type: z.literal("PoolOpened"),
  pool: z.string(),
  policy,
  version: z.int32(),
  keyFingerprint: z
    .string()
    .describe("Fingerprint of the key that makes proxies' ids. A service with another key refuses to start."),
  by,
});
export type PoolOpened = z.infer<typeof poolOpenedSchema>;

export const policyChangedSchema = z.strictObject({
  type: z.literal("PolicyChanged"),
  policy: policy.describe("The whole document."),
  version: z.int32(),
  by,
});
export type PolicyChanged = z.infer<typeof policyChangedSchema>;

export const poolClosedSchema = z.strictObject({
  type: z.literal("PoolClosed"),
  draining: flag.describe("No more grants. When the last lease has ended, a second event closes the pool."),
  by,
});
export type PoolClosed = z.infer<typeof poolClosedSchema>;

/** Whether the pool is open after a ledger's last commit, which has these events. */
export function leavesOpen(events: readonly { type: string; closed?: unknown; draining?: unknown }[]): boolean {
  // Events that are written to the ledger of a closed pool say so.
  const last = events.findLast(({ type, closed }) => type === "PoolOpened" || type === "PoolClosed" || closed === true);
  return last === undefined || last.type === "PoolOpened" || last.draining === true;
}

export const leaderClaimedSchema = z.strictObject({
  type: z.literal("LeaderClaimed"),
  leader: z.string(),
  term: z.int32(),
  version: z.string().optional().describe("The version of Remuda that writes the commits of this term."),
});
export type LeaderClaimed = z.infer<typeof leaderClaimedSchema>;
