// Guest tokens: what the ledger records of them. It knows them by their ids; a token's value is never in it.
import { z } from "zod";
import { instant, leadsTo } from "./field.ts";

export const tokenStates = ["missing", "refreshing", "fresh", "stale", "unavailable"] as const;
export type TokenStateName = (typeof tokenStates)[number];

/** `t_` + 22 characters. */
export const tokenIdPattern = /^t_[A-Za-z0-9_-]{22}$/;

/** `ignored`: not the current one any more. `kept`: the current one is younger than `minAgeMs`, so no refresh is made. */
export const rejectActions = ["refreshing", "kept", "ignored"] as const;
export type RejectAction = (typeof rejectActions)[number];

/** Why a refresh failed. */
export const whyRefused = [
  /** Its deadline passed before a result came. */
  "deadline",
  /** It was not sent: no time was left for it. */
  "not-sent",
  /** The source's address is not a public one, and the operator has not allowed it. */
  "not-allowed",
  "timeout",
  /** The proxy, or the target through it, could not be reached, or broke off. */
  "unreachable",
  /** The source answered with another status than 2xx. */
  "status",
  "too-large",
  /** The answer is not what the source's description says: no JSON, not UTF-8. */
  "unreadable",
  /** The answer has no value or no life at the described place, or its value cannot be a token. */
  "no-value",
  "no-life",
] as const;
export type WhyRefused = (typeof whyRefused)[number];

/** Why a refresh was begun. */
export const whysRequested = ["asked", "rejected", "expired", "ahead"] as const;
export type WhyRequested = (typeof whysRequested)[number];

const proxyId = z.string().optional();

/** In one commit with the `LeaseGranted` of the lease that it goes through, just after it. */
export const tokenRequestedSchema = z.strictObject({
  type: z.literal("TokenRequested"),
  tokenId: z.string().describe("Of the refresh, and of the token that it brings."),
  scope: z.enum(["proxy", "pool"]),
  proxyId: proxyId.describe("Whose token it is; absent: the pool's."),
  token: leadsTo("refreshing"),
  leaseId: z.string(),
  deadlineAt: instant.describe("Until then, or until its result has come, there is no second."),
  why: z.enum(whysRequested),
});
export type TokenRequested = z.infer<typeof tokenRequestedSchema>;

export const tokenMintedSchema = z.strictObject({
  type: z.literal("TokenMinted"),
  tokenId: z.string(),
  proxyId,
  token: leadsTo("fresh"),
  mintedAt: instant,
  expiresAt: instant.optional(),
});
export type TokenMinted = z.infer<typeof tokenMintedSchema>;

export const tokenRefusedSchema = z.strictObject({
  type: z.literal("TokenRefused"),
  tokenId: z.string().describe("Of the refresh."),
  proxyId,
  token: leadsTo("missing", "fresh", "stale", "unavailable").describe("`fresh`: an earlier token is still good."),
  why: z.enum(whyRefused),
  status: z.int32().optional().describe("With `status`."),
  failures: z.int32().describe("In a row."),
  retryAt: instant.describe("No other refresh before."),
});
export type TokenRefused = z.infer<typeof tokenRefusedSchema>;

/** The first accepted rejection is recorded at once. Others are aggregated, by token and action. */
export const tokenRejectedSchema = z.strictObject({
  type: z.literal("TokenRejected"),
  tokenId: z
    .string()
    .optional()
    .describe("The one that was rejected. Absent: no token ever had the id that was given."),
  proxyId: proxyId.describe("Whose token it is; absent: the pool's, or unknown."),
  token: leadsTo(...tokenStates),
  action: z.enum(rejectActions),
  why: z
    .literal("value-lost")
    .optional()
    .describe("Nobody rejected it: the leader that took over found no value of it."),
  count: z.int().min(1).optional().describe("Of one that led to no refresh: how many."),
  mintedAt: instant.optional().describe("`kept`: since then, and until then. `ignored`: what is current since when."),
  keptUntil: instant.optional(),
});
export type TokenRejected = z.infer<typeof tokenRejectedSchema>;

export type TokenEvent = TokenRequested | TokenMinted | TokenRefused | TokenRejected;
