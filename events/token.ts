// The recorded facts about guest tokens. The ledger knows tokens by their ids and never has their values.
import { z } from "zod";
import { instant, leadsTo } from "./field.ts";

export const tokenStates = ["missing", "refreshing", "fresh", "stale", "unavailable"] as const;
export type TokenStateName = (typeof tokenStates)[number];

/** `t_` + 22 characters. */
export const tokenIdPattern = /^t_[A-Za-z0-9_-]{22}$/;

/** `ignored`: it is not the current token. `kept`: the current one is younger than `minAgeMs`, so no refresh begins. */
export const rejectActions = ["refreshing", "kept", "ignored"] as const;
export type RejectAction = (typeof rejectActions)[number];

/** Why a refresh failed. */
export const whyRefused = [
  /** Its deadline passed before a result came. */
  "deadline",
  /** Not sent, because no time was left. */
  "not-sent",
  /** The source's address is not a public one, and the operator has not allowed it. */
  "not-allowed",
  "timeout",
  /** The proxy or the target could not be reached, or broke off. */
  "unreachable",
  /** The source's status was not 2xx. */
  "status",
  "too-large",
  /** The answer is not JSON or not UTF-8, as the source's description requires. */
  "unreadable",
  /** The answer has no value or life at the described place, or the value cannot be a token. */
  "no-value",
  "no-life",
] as const;
export type WhyRefused = (typeof whyRefused)[number];

/** Why a refresh was begun. */
const whysRequested = ["asked", "rejected", "expired", "ahead"] as const;
export type WhyRequested = (typeof whysRequested)[number];

const proxyId = z.string().optional();

/** Just after the `LeaseGranted` of the lease that it uses, in the same commit. */
export const tokenRequestedSchema = z.strictObject({
  type: z.literal("TokenRequested"),
  tokenId: z.string().describe("The id of the refresh and of its token."),
  scope: z.enum(["proxy", "pool"]),
  proxyId: proxyId.describe("The proxy of the token. Absent: it is the pool's token."),
  token: leadsTo("refreshing"),
  leaseId: z.string(),
  deadlineAt: instant.describe("Until then, or until its result has come, no other refresh begins."),
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
  tokenId: z.string().describe("The id of the refresh."),
  proxyId,
  token: leadsTo("missing", "fresh", "stale", "unavailable").describe("`fresh`: an earlier token is still good."),
  why: z.enum(whyRefused),
  status: z.int32().optional().describe("The HTTP status, if `why` is `status`."),
  failures: z.int32().describe("Failed refreshes in a row."),
  retryAt: instant.describe("No other refresh begins before then."),
});
export type TokenRefused = z.infer<typeof tokenRefusedSchema>;

/** The first accepted rejection is recorded at once. All others are summed up by token and action. */
export const tokenRejectedSchema = z.strictObject({
  type: z.literal("TokenRejected"),
  tokenId: z.string().optional().describe("The rejected token. Absent: the given id is not a token's id."),
  proxyId: proxyId.describe("The proxy of the token. Absent: it is the pool's token, or unknown."),
  token: leadsTo(...tokenStates),
  action: z.enum(rejectActions),
  why: z.literal("value-lost").optional().describe("No site rejected it: a new leader did not find its value."),
  count: z.int().min(1).optional().describe("The number of rejections, if they led to no refresh."),
  mintedAt: instant.optional().describe("When the current token was minted."),
  keptUntil: instant.optional(),
});
export type TokenRejected = z.infer<typeof tokenRejectedSchema>;

export type TokenEvent = TokenRequested | TokenMinted | TokenRefused | TokenRejected;
