// Guest tokens: requests about them, and how they are answered. A token's value is in replies alone.
import { z } from "zod";
import { leaseIdSchema, proxyIdSchema } from "../events/ids.ts";
import { type RejectAction, whyRefused } from "../events/token.ts";
import type { TokenSource } from "../events/token-policy.ts";
import { waitMsMax } from "./lease.ts";
import { outcomeSchema } from "./outcome.ts";

const tokenIdSchema = z.string().min(1).max(128);

export const tokenGetRequestSchema = z.object({
  proxyId: proxyIdSchema.optional(),
  waitMs: z.int().min(0).max(waitMsMax, `must be at most ${waitMsMax}`).default(0),
});
export const tokenRejectRequestSchema = z.object({ tokenId: tokenIdSchema, proxyId: proxyIdSchema.optional() });

/** A token as it is given to who may use it. */
export interface TokenReply {
  tokenId: string;
  value: string;
  mintedAt: number;
  expiresAt?: number;
  /** Absent where the pool has one token for all its proxies. */
  proxyId?: string;
}

export interface RejectReply {
  action: RejectAction;
  /** The current one, where there is one. */
  tokenId: string;
  /** `kept`: until when. `refreshing`: until the refresh is over at the latest or, where none could begin, may begin. */
  retryAfterMs?: number;
}

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
export interface TokenJob {
  tokenId: string;
  leaseId: string;
  proxyId: string;
  /** With the credentials, as in a lease. */
  url: string;
  scheme: "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h";
  host: string;
  port: number;
  username?: string;
  password?: string;
  leftMs: number;
  /** The same without a margin: until the refresh's deadline in the ledger. */
  deadlineMs: number;
  source: TokenSource;
}
