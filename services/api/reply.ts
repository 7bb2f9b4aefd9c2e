// Replies, described for OpenAPI. They are not checked against these schemas, since the picker's bytes are passed on as
// they are; that the schemas say the same as the types of the protocol is checked by the compiler.
import { z } from "zod";
import { labelsSchema } from "../../events/ids.ts";
import { whysIgnored } from "../../events/outcome.ts";
import { limitsSchema, type Policy, policySchema } from "../../events/policy.ts";
import { proxyStates, restReasons, schemes } from "../../events/proxy.ts";
import { capNames, type LimitedBy, limitNames, type RefusalWord, refusalNumbers } from "../../events/refusal.ts";
import type { LeaseReply, ReleaseReply } from "../../protocol/lease.ts";
import type { ReportReply } from "../../protocol/outcome.ts";
import type { PoolReply, StatsReply } from "../../protocol/pool.ts";
import type { AddReply, ChangedReply, ProxyReply } from "../../protocol/proxy.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import type { SourceReply } from "../../protocol/source.ts";

const count = z.int().min(0);
const instant = z.int().describe("epoch milliseconds");
const words = Object.keys(refusalNumbers) as [RefusalWord, ...RefusalWord[]]; // Its own keys.

const limitedBy = z.object(
  Object.fromEntries(limitNames.map((name) => [name, capNames.includes(name) ? count.exactOptional() : count])),
) as unknown as z.ZodType<LimitedBy>; // Of all names, as the type is.

const refusal = z
  .object({
    code: z.enum(words),
    message: z.string(),
    retryAfterMs: count.exactOptional(),
    field: z.string().exactOptional(),
    limitedBy: limitedBy.exactOptional(),
  })
  .describe("A refusal changes nothing. Retry-After says the same as retryAfterMs, in whole seconds.")
  .meta({ id: "Refusal" }) satisfies z.ZodType<Refusal>;

export const lease = z
  .object({
    leaseId: z.string(),
    pool: z.string(),
    proxyId: z.string(),
    url: z.string().describe("with the credentials, percent-encoded"),
    scheme: z.enum(schemes),
    host: z.string(),
    port: z.int(),
    username: z.string().exactOptional(),
    password: z.string().exactOptional(),
    uses: count,
    epoch: count,
    grantedAt: instant,
    expiresAt: instant,
    leftMs: count.describe("send nothing later than your own clock, when you sent the wish, plus this"),
    labels: labelsSchema,
    session: z.string().exactOptional(),
    requestId: z.string().exactOptional(),
    token: z
      .object({ tokenId: z.string(), value: z.string(), mintedAt: instant, expiresAt: instant.exactOptional() })
      .exactOptional()
      .describe("of a wish with token: true"),
  })
  .meta({ id: "Lease" }) satisfies z.ZodType<LeaseReply>;

export const leases = z.object({
  leases: z.array(lease.omit({ url: true, password: true }).extend({ holder: z.string().exactOptional() })),
  next: z.string().exactOptional().describe("give it as `after` to get the next page"),
});

export const source = z
  .object({
    name: z.string(),
    pool: z.string(),
    kind: z.enum(["url", "pool", "file", "command"]),
    everyMs: count,
    retire: z.boolean(),
    proxies: count.describe("that it named when it was last believed"),
    last: z
      .object({ at: instant, read: count, added: count, updated: count, rejected: count, retired: count })
      .exactOptional(),
    trouble: z.object({ since: instant, why: z.string() }).exactOptional(),
    doubtedUntil: instant.exactOptional(),
    nextAt: instant.exactOptional(),
    probes: z.object({ succeeded: count, failed: count, neutral: count }).exactOptional(),
  })
  .meta({ id: "Source" }) satisfies z.ZodType<SourceReply>;

export const released = z.object({
  leaseId: z.string(),
  used: count,
  returned: count,
}) satisfies z.ZodType<ReleaseReply>;

export const withdrawn = z.object({ withdrawn: z.boolean() });

export const reported = z.object({
  accepted: count,
  ignored: z.array(
    z.object({
      leaseId: z.string(),
      n: count,
      why: z.enum(whysIgnored),
    }),
  ),
  stop: z
    .array(z.object({ leaseId: z.string(), until: instant }))
    .describe("their proxies have begun to rest: make no further use of them"),
}) satisfies z.ZodType<ReportReply>;

export const added = z.object({
  added: count,
  already: count,
  updated: count,
  rejected: z.array(z.object({ line: count, input: z.string(), why: z.string() })).describe("at most 100"),
  rejectedCount: count,
}) satisfies z.ZodType<AddReply>;

export const changed = z.object({ changed: count, unknown: z.array(z.string()) }) satisfies z.ZodType<ChangedReply>;

export const proxy = z
  .object({
    id: z.string(),
    scheme: z.enum(schemes),
    host: z.string(),
    port: z.int(),
    username: z.string().exactOptional(),
    exit: z.string().describe("the address that targets see"),
    labels: labelsSchema,
    limits: limitsSchema.exactOptional(),
    state: z.enum(proxyStates),
    until: instant.exactOptional().describe("the end of its rest (cooldown)"),
    reasons: z.array(z.enum(restReasons)).exactOptional(),
    leasableAt: instant.exactOptional(),
    epoch: count,
    score: z.int(),
    streak: count,
    usesInStint: count,
    usesInWindow: count,
    openLeases: count,
    totals: z.object({ granted: count, succeeded: count, failed: count, neutral: count, unreported: count }),
    addedAt: instant,
    lastUsedAt: instant.exactOptional(),
  })
  .meta({ id: "Proxy" }) satisfies z.ZodType<ProxyReply>;

export const proxies = z.object({ proxies: z.array(proxy), next: z.string().exactOptional() });

export const pool = z
  .object({
    pool: z.string(),
    policy: (policySchema satisfies z.ZodType<Policy>).meta({ id: "Policy" }),
    version: count,
    openedAt: instant,
    warnings: z.array(z.string()).exactOptional(),
  })
  .meta({ id: "Pool" }) satisfies z.ZodType<PoolReply>;

export const pools = z.object({ pools: z.array(pool) });

export const stats = z
  .object({
    pool: z.string(),
    at: instant,
    sequence: count,
    commits: count,
    proxies: z.record(z.enum([...proxyStates, "leasable"]), count),
    leases: z.object({ open: count, granted: count, expired: count }),
    outcomes: z.object({ succeeded: count, failed: count, neutral: count, ignored: count }),
    refused: z.partialRecord(z.enum(words), count),
    waiting: count,
    leader: z.object({ id: z.string(), term: count }),
  })
  .meta({ id: "Stats" });
({}) as z.infer<typeof stats> satisfies StatsReply;

const refusals: Readonly<Record<number, string>> = {
  400: "invalid-request: `field` says which",
  401: "invalid-request: beyond loopback a key is needed, `Authorization: Bearer <key>`",
  403: "invalid-request: `Host` or `Origin` is foreign",
  404: "unknown-pool, or what is named in the path is unknown, or no proxy can ever match",
  413: "too-large",
  429: "pool-exhausted: `limitedBy` says what holds the proxies back",
  503: "unavailable or overloaded: try again after `retryAfterMs`",
};

/** The answers of a route, with the refusals that any may give and those named. */
export function answers(
  good: Record<number, z.ZodType>,
  ...more: (keyof typeof refusals)[]
): Record<number, z.ZodType> {
  const numbers = [400, 401, 403, 404, 413, 503, ...more];
  return {
    ...good,
    ...Object.fromEntries(numbers.map((number) => [number, refusal.describe(refusals[number] ?? "")])),
  };
}
