// Requests about guest tokens, and their replies. A token's value occurs in replies only.
import { z } from "zod";
import { leaseIdSchema, proxyIdSchema } from "../events/ids.ts";
import { rejectActions, whyRefused } from "../events/token.ts";
import { tokenSourceSchema } from "../events/token-policy.ts";
import { amount } from "./fields.ts";
import { heldTokenSchema, leaseReplySchema, waitMsMax } from "./lease.ts";
import { outcomeSchema } from "./outcome.ts";
import { count } from "./reply.ts";

const tokenIdSchema = z.string().min(1).max(128);

export const tokenGetRequestSchema = z.object({
  proxyId: proxyIdSchema.optional(),
  waitMs: amount(z.int().min(0).max(waitMsMax, `must be at most ${waitMsMax}`)).default(0),
});
export const tokenRejectRequestSchema = z.object({ tokenId: tokenIdSchema, proxyId: proxyIdSchema.optional() });

export const tokenReplySchema = heldTokenSchema.extend({
  proxyId: z.string().exactOptional().describe("absent where the pool has one token for all its proxies"),
});
export type TokenReply = z.infer<typeof tokenReplySchema>;

export const rejectReplySchema = z.object({
  action: z.enum(rejectActions),
  /** The current token, if there is one. */
  tokenId: z.string(),
  /**
   * `kept`: the time until which it is kept. `refreshing`: the latest end of the refresh or, if none could begin, the
   * time at which one may.
   */
  retryAfterMs: count.exactOptional(),
});
export type RejectReply = z.infer<typeof rejectReplySchema>;

/** Between the executor and the pool's leader. */
export const tokenTakeRequestSchema = z.object({ tokenId: tokenIdSchema, executor: z.string().min(1).max(128) });
export const tokenResultRequestSchema = z.object({
  tokenId: tokenIdSchema,
  leaseId: leaseIdSchema,
  /** The outcome of the lease's use. Absent: no request was sent. */
  outcome: outcomeSchema.omit({ leaseId: true }).optional(),
  value: z.string().min(1).max(16_384).optional(),
  /** The token's life from the sending of its request. Absent: no end is known. */
  lifeMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  /** The most time that was left then until the refresh's deadline. Absent: all of it. */
  leftMs: z.int().min(0).optional(),
  why: z.enum(whyRefused).optional(),
});
export type TokenResult = z.infer<typeof tokenResultRequestSchema>;

/**
 * The data that an executor needs for one refresh. It must send nothing later than its own clock at the request +
 * `leftMs`.
 */
const tokenJobSchema = leaseReplySchema
  .pick({
    leaseId: true,
    proxyId: true,
    url: true,
    scheme: true,
    host: true,
    port: true,
    username: true,
    password: true,
  })
  .extend({
    tokenId: z.string(),
    leftMs: count,
    /** The same without a margin: until the refresh's deadline in the ledger. */
    deadlineMs: count,
    source: tokenSourceSchema,
  });
export type TokenJob = z.infer<typeof tokenJobSchema>;
/** `{}`: the refresh must not be made, or not by this executor. */
export const tokenTakeReplySchema = z.union([tokenJobSchema, z.object({})]);
export const tokenResultReplySchema = z.object({ accepted: z.boolean() });
