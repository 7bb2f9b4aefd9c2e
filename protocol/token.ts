// Guest tokens: requests about them, and how they are answered. A token's value is in replies alone.
import { z } from "zod";
import { leaseIdSchema, proxyIdSchema } from "../events/ids.ts";
import { rejectActions, whyRefused } from "../events/token.ts";
import { tokenSourceSchema } from "../events/token-policy.ts";
import { heldTokenSchema, leaseReplySchema, waitMsMax } from "./lease.ts";
import { outcomeSchema } from "./outcome.ts";
import { count } from "./reply.ts";

const tokenIdSchema = z.string().min(1).max(128);

export const tokenGetRequestSchema = z.object({
  proxyId: proxyIdSchema.optional(),
  waitMs: z.int().min(0).max(waitMsMax, `must be at most ${waitMsMax}`).default(0),
});
export const tokenRejectRequestSchema = z.object({ tokenId: tokenIdSchema, proxyId: proxyIdSchema.optional() });

export const tokenReplySchema = heldTokenSchema.extend({
  proxyId: z.string().exactOptional().describe("absent where the pool has one token for all its proxies"),
});
export type TokenReply = z.infer<typeof tokenReplySchema>;

export const rejectReplySchema = z.object({
  action: z.enum(rejectActions),
  /** The current one, where there is one. */
  tokenId: z.string(),
  /** `kept`: until when. `refreshing`: until the refresh is over at the latest or, where none could begin, may begin. */
  retryAfterMs: count.exactOptional(),
});
export type RejectReply = z.infer<typeof rejectReplySchema>;

/** Between the executor and the pool's leader. */
export const tokenTakeRequestSchema = z.object({ tokenId: tokenIdSchema, executor: z.string().min(1).max(128) });
export const tokenResultRequestSchema = z.object({
  tokenId: tokenIdSchema,
  leaseId: leaseIdSchema,
  /** How the use of the lease went; absent: no request was sent. */
  outcome: outcomeSchema.omit({ leaseId: true }).optional(),
  value: z.string().min(1).max(16_384).optional(),
  /** From the sending of its request on; absent: no end is known. */
  lifeMs: z.int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  /** How much of the time until the refresh's deadline was left then, at most; absent: all of it. */
  leftMs: z.int().min(0).optional(),
  why: z.enum(whyRefused).optional(),
});
export type TokenResult = z.infer<typeof tokenResultRequestSchema>;

/** What an executor needs for one refresh. Nothing may be sent after its own clock at asking + `leftMs`. */
export const tokenJobSchema = leaseReplySchema
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
/** `{}`: the refresh is not to be done, or not by this executor. */
export const tokenTakeReplySchema = z.union([tokenJobSchema, z.object({})]);
export const tokenResultReplySchema = z.object({ accepted: z.boolean() });
