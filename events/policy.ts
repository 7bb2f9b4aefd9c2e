// The policy document of a pool: its schema, field by field. All numbers of the rules are here.
// state-machines/policy/policy.ts checks the relations between them.
import { z } from "zod";
import { type OutcomeClass, outcomeClasses, type Reason } from "./outcome.ts";
import { tokenPolicySchema } from "./token-policy.ts";
import { reasons } from "./words.ts";

const countSchema = z.int().min(1, "must be a whole number of at least 1").max(1_000_000_000);
const yearMs = 366 * 86_400_000;
const spanMsSchema = z.int().min(1, "must be at least 1 ms").max(yearMs);
const pauseMsSchema = z.int().min(0, "must be at least 0 ms").max(yearMs);

const rateWindowSchema = z.strictObject({ limit: countSchema.max(100_000), windowMs: spanMsSchema });
const rateSchema = z.union([rateWindowSchema, z.array(rateWindowSchema).min(1).max(8), z.null()]);
const concurrencySchema = z.union([countSchema, z.null()]);
const bytesSchema = z.union([z.strictObject({ limit: z.int().min(1).max(1e12), windowMs: spanMsSchema }), z.null()]);
const usageSchema = z.union([z.strictObject({ limit: countSchema, restMs: spanMsSchema }), z.null()]);

/** A proxy's own limits, in place of the policy's. */
export const limitsSchema = z.strictObject({
  rate: rateSchema.optional(),
  concurrency: concurrencySchema.optional(),
  usage: usageSchema.optional(),
});
export type Limits = z.infer<typeof limitsSchema>;

const outcomeRuleSchema = z.strictObject({
  score: z.int().min(-1000).max(1000),
  counts: z.boolean(),
  rest: z.enum(["backoff", "none"]),
});
const shareSchema = z.number().min(0, "must be from 0 to 1").max(1, "must be from 0 to 1");

const backoffSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("exponential"),
    baseMs: spanMsSchema,
    maxMs: spanMsSchema,
    jitterMs: pauseMsSchema,
    jitterShare: shareSchema,
    baseMsBy: z.partialRecord(z.enum(reasons), spanMsSchema),
  }),
  z.strictObject({
    kind: z.literal("fixed"),
    restMs: spanMsSchema.default(300_000),
    jitterMs: pauseMsSchema.default(0),
  }),
  z.strictObject({ kind: z.literal("none") }),
]);

export const strategySchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("best") }),
  z.strictObject({ kind: z.literal("lifo") }),
  z.strictObject({ kind: z.literal("round-robin") }),
  z.strictObject({ kind: z.literal("random") }),
  z.strictObject({ kind: z.literal("least-used") }),
  z.strictObject({ kind: z.literal("least-connections") }),
  z.strictObject({ kind: z.literal("drain") }),
  z.strictObject({ kind: z.literal("time-based"), intervalMs: spanMsSchema.default(120_000) }),
  z.strictObject({
    kind: z.literal("bandit"),
    halfLifeMs: spanMsSchema.default(600_000),
    by: z.enum(["proxy", "target"]).default("proxy"),
    /** A success that took this long has half the weight. null: slow successes count as much as quick ones. */
    slowMs: z.union([spanMsSchema, z.null()]).default(60_000),
  }),
]);

const hostPatternSchema = z
  .string()
  .max(255)
  .regex(
    /^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$|^[0-9a-f.:]+$/,
    'must be a host in lower case, such as "example.com" or "*.example.com"',
  );

const gatewaySchema = z.strictObject({
  /** `once`: a tunnel is one use, whatever passes through it. */
  tunnelUses: z.enum(["flights", "once"]),
  /** A tunnel whose client offers HTTP/2. */
  h2: z.enum(["estimate", "refuse", "once"]),
  idleMs: spanMsSchema,
  ageMsMax: spanMsSchema,
});
const gatewayDefaults = { tunnelUses: "flights", h2: "estimate", idleMs: 300_000, ageMsMax: 3_600_000 } as const;

export const policySchema = z.strictObject({
  rate: rateSchema,
  countFrom: z.enum(["report", "grant"]),
  marginMs: pauseMsSchema.max(60_000),
  concurrency: concurrencySchema,
  limitBy: z.enum(["exit", "proxy"]),
  usage: usageSchema,
  /** Not in policies of older ledgers. */
  bytes: bytesSchema.default(null),
  failures: z.union([
    z.strictObject({ limit: countSchema.max(10_000), windowMs: spanMsSchema, restMs: spanMsSchema }),
    z.null(),
  ]),
  streak: z.union([
    z.strictObject({ limit: countSchema, restMs: spanMsSchema, retireAfter: z.union([countSchema, z.null()]) }),
    z.null(),
  ]),
  backoff: backoffSchema,
  score: z.strictObject({ min: z.int().min(-1e9).max(0), max: z.int().min(0).max(1e9) }),
  lease: z.strictObject({
    ttlMs: spanMsSchema,
    ttlMsMax: spanMsSchema.max(86_400_000, "must be at most a day"),
    graceMs: pauseMsSchema.max(3_600_000),
    usesMax: countSchema.max(100_000),
  }),
  strategy: strategySchema,
  waiting: z.strictObject({ max: z.int().min(0).max(100_000) }),
  session: z.strictObject({ ttlMs: spanMsSchema, patienceMs: pauseMsSchema, max: countSchema.max(10_000_000) }),
  holder: z.strictObject({ leasesMax: z.union([countSchema, z.null()]) }),
  outcomes: z.record(z.enum(outcomeClasses), outcomeRuleSchema),
  classify: z.strictObject({
    status: z.record(
      z.string().regex(/^[1-9]([0-9][0-9]|xx)$/, 'a status is three digits, or a class such as "5xx"'),
      z.enum(outcomeClasses),
    ),
    error: z.record(z.string().min(1).max(128), z.enum(outcomeClasses)),
  }),
  /** The hosts of the pool's targets. Not in policies of older ledgers. */
  hosts: z.array(hostPatternSchema).max(1000).default([]),
  /** How the gateway counts and bounds tunnels. Not in policies of older ledgers. */
  gateway: gatewaySchema.default(gatewayDefaults),
  token: z.union([tokenPolicySchema, z.null()]),
});
export type Policy = z.infer<typeof policySchema>;
export type RateWindow = z.infer<typeof rateWindowSchema>;

const failure = { score: -1, counts: true, rest: "backoff" } as const;
const neutral = { score: 0, counts: false, rest: "none" } as const;

export const defaultPolicy: Policy = {
  rate: { limit: 30, windowMs: 60_000 },
  countFrom: "report",
  marginMs: 100,
  concurrency: 2,
  limitBy: "exit",
  usage: { limit: 500, restMs: 900_000 },
  bytes: null,
  failures: { limit: 30, windowMs: 300_000, restMs: 600_000 },
  streak: { limit: 100, restMs: 600_000, retireAfter: null },
  backoff: {
    kind: "exponential",
    baseMs: 1000,
    maxMs: 300_000,
    jitterMs: 1000,
    jitterShare: 0.2,
    baseMsBy: { blocked: 30_000, "proxy-auth": 300_000 },
  },
  score: { min: -10_000, max: 10_000 },
  lease: { ttlMs: 90_000, ttlMsMax: 3_600_000, graceMs: 2000, usesMax: 1000 },
  strategy: { kind: "best" },
  waiting: { max: 10_000 },
  session: { ttlMs: 600_000, patienceMs: 10_000, max: 100_000 },
  holder: { leasesMax: null },
  outcomes: {
    success: { score: 1, counts: false, rest: "none" },
    unreachable: failure,
    timeout: failure,
    "proxy-auth": failure,
    "proxy-error": failure,
    blocked: failure,
    throttled: failure,
    "target-error": neutral,
    "client-abort": neutral,
  },
  classify: {
    // An answer that makes sense, even "not found", means that the proxy works. Other 4xx say nothing about it.
    status: byClass({
      success: ["1xx", "2xx", "3xx", "404", "410"],
      "target-error": ["4xx", "5xx"],
      blocked: ["401", "403", "451"],
      "proxy-auth": ["407"],
      timeout: ["408"],
      throttled: ["429"],
    }),
    error: byClass({
      unreachable: ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENOTFOUND", "EAI_AGAIN"],
      timeout: [
        "ETIMEDOUT",
        "ECONNABORTED",
        "ESOCKETTIMEDOUT",
        "UND_ERR_CONNECT_TIMEOUT",
        "UND_ERR_HEADERS_TIMEOUT",
        "UND_ERR_BODY_TIMEOUT",
        "TimeoutError",
      ],
      "proxy-error": ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"],
      "client-abort": ["ABORT_ERR", "ERR_CANCELED", "UND_ERR_ABORTED", "AbortError"],
    }),
  },
  hosts: [],
  gateway: gatewayDefaults,
  token: null,
};

/** Fields that policies in older ledgers do not have. */
export const addedLater = { bytes: defaultPolicy.bytes, hosts: defaultPolicy.hosts, gateway: gatewayDefaults };

function byClass(codes: Partial<Record<OutcomeClass, string[]>>): Record<string, OutcomeClass> {
  const table: Record<string, OutcomeClass> = {};
  for (const kind of outcomeClasses) for (const code of codes[kind] ?? []) table[code] = kind;
  return table;
}

/** After these failures the request may still be on its way to the target. */
export const mayArriveLate: readonly Reason[] = ["unreachable", "timeout", "client-abort"];
