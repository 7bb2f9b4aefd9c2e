// Requests about pools, and their replies.
import { z } from "zod";
import { type Policy, policySchema } from "../events/policy.ts";
import { proxyStates } from "../events/words.ts";
import { count, instant, refusalWords } from "./reply.ts";

/** A partial document, merged over the present one. The merged document is validated. */
const partialPolicySchema = z.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be an object",
);

export const openRequestSchema = z.object({
  policy: partialPolicySchema.optional(),
  /** Opens the pool though its ledger has lost commits, and forgets them. */
  forget: z.boolean().optional(),
});
/** With `reset`, the policy given is merged over the default one, and nothing of the present one stays. */
export const policyRequestSchema = z.object({
  policy: partialPolicySchema.optional(),
  reset: z.boolean().default(false),
  ifVersion: z.int().min(1).optional(),
});
export const closeRequestSchema = z.object({ drain: z.boolean().default(false) });

/** `archive`: the archive of its ledger as well. */
export const deleteRequestSchema = z.object({ archive: z.boolean().default(false) });
export const deletedReplySchema = z.object({ deleted: z.literal(true) });

export const poolReplySchema = z
  .object({
    pool: z.string(),
    policy: policySchema.meta({ id: "Policy" }),
    version: count,
    openedAt: instant,
    /** Absent: it is not known. */
    openedBy: z.string().exactOptional(),
    /** Rules that can never take effect, and the like. The policy is accepted all the same. */
    warnings: z.array(z.string()).exactOptional(),
  })
  .meta({ id: "Pool" });
export type PoolReply = z.infer<typeof poolReplySchema>;

export const poolsReplySchema = z.object({
  pools: z.array(poolReplySchema),
  /** Pools that are not served because their ledger is damaged or has lost commits. */
  unusable: z.array(z.object({ pool: z.string(), message: z.string() })).exactOptional(),
  /** Streams that are missing, damaged or unusable. */
  streams: z.array(z.object({ stream: z.string(), message: z.string() })).exactOptional(),
});
export type PoolsReply = z.infer<typeof poolsReplySchema>;

export const statsReplySchema = z
  .object({
    pool: z.string(),
    at: instant,
    /** Sequence of the last commit in the ledger's stream. */
    sequence: count,
    commits: count,
    proxies: z.record(z.enum([...proxyStates, "leasable"]), count),
    leases: z.object({ open: count, granted: count, expired: count }),
    outcomes: z.object({ succeeded: count, failed: count, neutral: count, ignored: count }),
    refused: z.partialRecord(z.enum(refusalWords), count),
    waiting: count,
    leader: z.object({ id: z.string(), term: count }),
  })
  .meta({ id: "Stats" });
export type StatsReply = z.infer<typeof statsReplySchema>;

/** A policy without the part that may be secret: the source of its tokens. Every text of that part is hidden. */
export function withoutSource<P extends Pick<Policy, "token">>(policy: P): P {
  const { token } = policy;
  return token === null ? policy : { ...policy, token: { ...token, source: masked(token.source) } };
}

function masked<T>(value: T): T {
  if (typeof value === "string") return "…" as T;
  if (Array.isArray(value)) return value.map(masked) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, masked(each)])) as T;
}
