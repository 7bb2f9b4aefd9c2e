// Guest tokens: how a policy describes where they come from, requests about them, how they are answered, their events.
// A token's value is in replies alone; the ledger knows tokens by their ids.
import { z } from "zod";
import { leaseIdSchema, proxyIdSchema, recordOf } from "./ids.ts";
import { waitMsMax } from "./lease.ts";
import { outcomeSchema } from "./outcome.ts";

export const tokenStates = ["missing", "refreshing", "fresh", "stale", "unavailable"] as const;
export type TokenStateName = (typeof tokenStates)[number];

/** `t_` + 22 characters. */
export const tokenIdPattern = /^t_[A-Za-z0-9_-]{22}$/;
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

/** `ignored`: not the current one any more. `kept`: the current one is younger than `minAgeMs`, so no refresh is made. */
export const rejectActions = ["refreshing", "kept", "ignored"] as const;
export type RejectAction = (typeof rejectActions)[number];

export interface RejectReply {
  action: RejectAction;
  /** The current one, where there is one. */
  tokenId: string;
  /** `kept`: until when. `refreshing`: until the refresh is over at the latest or, where none could begin, may begin. */
  retryAfterMs?: number;
}

/** Why a refresh came to nothing. */
export const whyRefused = [
  /** Its time was over before a result came. */
  "deadline",
  /** It was not sent: no time was left for it. */
  "not-sent",
  "timeout",
  /** The proxy, or the target through it, could not be reached, or broke off. */
  "unreachable",
  /** The source answered with another status than 2xx. */
  "status",
  "too-large",
  /** The answer is not what the source's description says: no JSON, not UTF-8. */
  "unreadable",
  /** The answer has no value, or no life, where the description says; or one that cannot be a token. */
  "no-value",
  "no-life",
] as const;
export type WhyRefused = (typeof whyRefused)[number];

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

/** Why a refresh was begun. */
export type WhyRequested = "asked" | "rejected" | "expired" | "ahead";

/** In one commit with the `LeaseGranted` of the lease that it goes through, just after it. */
export interface TokenRequested {
  type: "TokenRequested";
  /** Of the refresh, and of the token that it brings. */
  tokenId: string;
  scope: "proxy" | "pool";
  /** Whose token it is; absent: the pool's. */
  proxyId?: string | undefined;
  token: "refreshing";
  leaseId: string;
  /** Until then, or until its result has come, there is no second. */
  deadlineAt: number;
  why: WhyRequested;
}

export interface TokenMinted {
  type: "TokenMinted";
  tokenId: string;
  proxyId?: string | undefined;
  token: "fresh";
  mintedAt: number;
  expiresAt?: number | undefined;
}

export interface TokenRefused {
  type: "TokenRefused";
  /** Of the refresh. */
  tokenId: string;
  proxyId?: string | undefined;
  /** `fresh`: an earlier token is still good. */
  token: "missing" | "fresh" | "stale" | "unavailable";
  why: WhyRefused;
  /** With `status`. */
  status?: number | undefined;
  /** In a row. */
  failures: number;
  /** No other refresh before. */
  retryAt: number;
}

/** The first that is accepted is told at once; others are aggregated, by token and what became of them. */
export interface TokenRejected {
  type: "TokenRejected";
  /** The one that was rejected. Absent: no token ever had the id that was given. */
  tokenId?: string | undefined;
  /** Whose token it is; absent: the pool's, or unknown. */
  proxyId?: string | undefined;
  token: TokenStateName;
  action: RejectAction;
  /** Nobody rejected it: the leader that took over found no value of it. */
  why?: "value-lost" | undefined;
  /** Of one that led to no refresh: how many. */
  count?: number | undefined;
  /** `kept`: since then, and until then. `ignored`: what is current since when. */
  mintedAt?: number | undefined;
  keptUntil?: number | undefined;
}

export type TokenEvent = TokenRequested | TokenMinted | TokenRefused | TokenRejected;

const headerName = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/;
/** These are the connection's own, or the proxy's. */
const fixedHeaders =
  /^(host|connection|content-length|transfer-encoding|upgrade|te|trailer|keep-alive|expect|proxy-.*)$/i;
const urlForm = "must be an http or https URL, without a login in it";
const pattern = z
  .string()
  .max(512)
  .refine(isPattern, "must be a regular expression; its first group, or all of it, is what is read");
const pointer = z
  .string()
  .max(512)
  .regex(/^(\/([^~]|~[01])*)?$/, 'must be a JSON pointer, such as "/guest_token"');
const headerSchema = z.string("must be the name of a header").regex(headerName, "must be the name of a header");

/** Where in the answer something is to be read: one of them. */
const places = { jsonPointer: pointer.optional(), header: headerSchema.optional(), regex: pattern.optional() };
const valueForm = 'must be {"jsonPointer": …}, {"header": …} or {"regex": …}, one of them';
const lifeForm = 'must be null, {"ms": …}, or {"jsonPointer": …}, {"header": …} or {"regex": …} with a "unit"';

export const tokenValueSchema = z
  .strictObject(places, { error: wrongForm(valueForm) })
  .refine((value) => isOne(value), valueForm);
export const tokenLifeSchema = z
  .strictObject(
    {
      ms: z
        .int()
        .min(1, "must be at least 1 ms")
        .max(366 * 86_400_000)
        .optional(),
      ...places,
      /** Of what is read there; seconds where it is not said. */
      unit: z.enum(["s", "ms"], 'must be "s" or "ms"').optional(),
    },
    { error: wrongForm(lifeForm) },
  )
  .refine(({ unit, ...life }) => isOne(life) && (unit === undefined || life.ms === undefined), lifeForm);

const sourceFields = {
  method: z.enum(["GET", "POST", "PUT", "PATCH"]).default("POST"),
  url: z
    .url({ protocol: /^https?$/, error: urlForm })
    .max(2048, "must have at most 2048 characters")
    .regex(/^https?:\/\/[^/?#@\s]+([/?#]\S*)?$/i, urlForm),
  headers: recordOf(
    z.string(),
    z
      .string("must be a string")
      .max(8192, "must have at most 8192 characters")
      .regex(/^[\t\x20-\x7e\x80-\xff]*$/, "must be one line, of characters that a header can have"),
  )
    .refine((headers) => Object.keys(headers).length <= 64, "at most 64 headers")
    .superRefine((headers, { addIssue }) => {
      for (const name of Object.keys(headers)) {
        if (!headerName.test(name)) addIssue({ code: "custom", path: [name], message: "is not the name of a header" });
        else if (fixedHeaders.test(name))
          addIssue({ code: "custom", path: [name], message: "is set by the connection itself" });
      }
    })
    .default({}),
  body: z
    .string("must be a string, as it is to be sent, or null")
    .max(16_384, "must have at most 16384 characters")
    .nullable()
    .default(null),
  timeoutMs: z.int().min(1, "must be at least 1 ms").max(120_000).default(10_000),
  value: tokenValueSchema,
  life: tokenLifeSchema.nullable().default(null),
};
const sourceForm = 'must say where tokens come from: {"url": …, "value": …}';
export const tokenSourceSchema = z.strictObject(sourceFields, { error: wrongForm(sourceForm) });
export type TokenSource = z.infer<typeof tokenSourceSchema>;
export type TokenValue = z.infer<typeof tokenValueSchema>;
export type TokenLife = z.infer<typeof tokenLifeSchema>;

const spanMs = z.int().min(1, "must be at least 1 ms");
const pauseMs = z
  .int()
  .min(0, "must be at least 0 ms")
  .max(366 * 86_400_000);

/** All numbers of the tokens' rules; each default is here. */
export const tokenPolicySchema = z.strictObject({
  scope: z.enum(["proxy", "pool"]).default("proxy"),
  minAgeMs: pauseMs.default(120_000),
  refreshAheadMs: pauseMs.default(0),
  /** For a refresh from its grant to its result; its lease lasts as long. */
  deadlineMs: spanMs.max(300_000).default(15_000),
  /** After the n-th failure in a row: base · 2^(n-1), at most max, plus at random a share of that. */
  retry: z
    .strictObject({
      baseMs: spanMs.max(86_400_000).default(1000),
      maxMs: spanMs.max(86_400_000).default(60_000),
      jitterShare: z.number().min(0, "must be from 0 to 1").max(1, "must be from 0 to 1").default(0.2),
    })
    .prefault({}),
  /** So many failures in a row make it `unavailable`. */
  unavailableAfter: z.int().min(1, "must be at least 1").max(1000).default(3),
  source: tokenSourceSchema,
});
export type TokenPolicy = z.infer<typeof tokenPolicySchema>;

/** What is no object at all, or is not there. */
function wrongForm(form: string): (issue: { code?: string }) => string | undefined {
  return ({ code }) => (code === "invalid_type" ? form : undefined);
}

function isOne(said: Readonly<Record<string, unknown>>): boolean {
  return Object.values(said).filter((each) => each !== undefined).length === 1;
}

function isPattern(text: string): boolean {
  if (text === "") return false;
  try {
    new RegExp(text, "u");
    return true;
  } catch {
    return false;
  }
}
