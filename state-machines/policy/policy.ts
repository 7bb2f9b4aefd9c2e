// The policy: partial documents merged, contradictions named, and the document compiled into the rules that the
// decisions read. Every number has its name, unit and default in events/policy.ts; the relations between them are here.
import type { OutcomeClass } from "../../events/outcome.ts";
import { defaultPolicy, type Limits, type Policy, policySchema, type RateWindow } from "../../events/policy.ts";
import type { TokenPolicy } from "../../events/token-policy.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import { warningsFor } from "./warnings.ts";

/** What limits an exit: the policy's numbers, or those of its proxies' own. */
export interface ExitLimits {
  rates: readonly RateWindow[];
  /** Infinity: off. */
  concurrency: number;
  usage: { limit: number; restMs: number } | null;
}

export interface Rules {
  policy: Policy;
  limits: ExitLimits;
  /** The most uses that one lease could ever have. */
  usesMax: number;
}

const policyDepthMax = 16;
const policyCharsMax = 65_536;

export type PolicyRead = { policy: Policy; warnings: string[] } | { refusal: Refusal };

/** Merges a partial document over the present one (or the defaults) and judges the whole. */
export function readPolicy(patch: Record<string, unknown>, present: Policy = defaultPolicy): PolicyRead {
  const strange = strangeField(patch, "policy");
  if (strange !== undefined)
    return { refusal: refuse("invalid-request", `${strange}: is not a field known here.`, { field: strange }) };
  const read = readAs(policySchema, merge(present, patch, defaultPolicy), ["policy"]);
  if ("refusal" in read) return read;
  if (JSON.stringify(read.value).length > policyCharsMax) {
    const message = `policy: has more than ${policyCharsMax} characters. Every change of it is a commit: keep its tables short.`;
    return { refusal: refuse("invalid-request", message, { field: "policy" }) };
  }
  const contradiction = contradictionIn(read.value);
  if (contradiction !== undefined) {
    const field = `policy.${contradiction.field}`;
    return { refusal: refuse("invalid-request", `${field}: ${contradiction.why}.`, { field }) };
  }
  return { policy: read.value, warnings: warningsFor(read.value, ratesOf(read.value.rate)) };
}

export function compileRules(policy: Policy): Rules {
  const limits = compileLimits(policy, []);
  return {
    policy,
    limits,
    usesMax: Math.min(policy.lease.usesMax, policy.usage?.limit ?? Infinity, ...limits.rates.map((rate) => rate.limit)),
  };
}

/**
 * The limits of an exit with these proxies: for each rule the strictest of those that its proxies name, and the
 * policy's where one names none.
 */
export function compileLimits(policy: Policy, own: readonly Limits[]): ExitLimits {
  const each: readonly Limits[] = own.length === 0 ? [{}] : own;
  const rates = each.map(({ rate = policy.rate }) => rate);
  const concurrencies = each.map(({ concurrency = policy.concurrency }) => concurrency ?? Infinity);
  return {
    rates: [...new Map(rates.flatMap(ratesOf).map((rate) => [`${rate.limit} ${rate.windowMs}`, rate])).values()],
    concurrency: Math.min(...concurrencies),
    usage: strictestUsage(each.map(({ usage = policy.usage }) => usage)),
  };
}

export function keepMs(rates: readonly RateWindow[], marginMs: number): number {
  return rates.length === 0 ? 0 : Math.max(...rates.map((rate) => rate.windowMs)) + marginMs;
}

/** The policy's reading of what a worker saw. A reason or result that it names itself counts for more than a status. */
export function classify(
  policy: Policy,
  seen: {
    result?: "success" | "failure" | undefined;
    reason?: OutcomeClass | undefined;
    status?: number | undefined;
    error?: string | undefined;
    tokenRejected?: boolean | undefined;
  },
): OutcomeClass | undefined {
  if (seen.tokenRejected === true) return "success";
  if (seen.reason !== undefined) return seen.reason;
  if (seen.result === "success") return "success";
  const byError = seen.error === undefined ? undefined : (inTable(policy.classify.error, seen.error) ?? "proxy-error");
  if (byError !== undefined && (byError !== "success" || seen.result === undefined)) return byError;
  const byStatus = seen.status === undefined ? undefined : statusClass(policy, seen.status);
  if (seen.result === undefined) return byStatus;
  if (byStatus === undefined) return "proxy-error";
  // The target answered, and yet the worker calls it a failure: a captcha, or another page than was asked for.
  return byStatus === "success" ? "blocked" : byStatus;
}

/** Codes come from outside: one that is called like something every object has is not in the table. */
function inTable(table: Record<string, OutcomeClass>, key: string): OutcomeClass | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function statusClass(policy: Policy, status: number): OutcomeClass {
  const { status: table } = policy.classify;
  return table[String(status)] ?? table[`${Math.floor(status / 100)}xx`] ?? "target-error";
}

function ratesOf(rate: Policy["rate"]): readonly RateWindow[] {
  if (rate === null) return [];
  return Array.isArray(rate) ? rate : [rate];
}

function strictestUsage(usages: readonly Policy["usage"][]): Policy["usage"] {
  const named = usages.filter((usage) => usage !== null);
  const isStricter = (a: { limit: number; restMs: number }, b: { limit: number; restMs: number }): boolean =>
    a.limit !== b.limit ? a.limit < b.limit : a.restMs > b.restMs;
  return named.length === 0 ? null : named.reduce((a, b) => (isStricter(b, a) ? b : a));
}

/**
 * A field that the schema would pass over (its value would become the prototype of whatever copies it), or that is
 * nested deeper than any field of a policy, so that walking there could run out of stack.
 */
function strangeField(value: unknown, path: string, depth = 0): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (depth > policyDepthMax) return path;
  for (const [key, each] of Object.entries(value)) {
    const strange = key === "__proto__" ? `${path}.${key}` : strangeField(each, `${path}.${key}`, depth + 1);
    if (strange !== undefined) return strange;
  }
  return undefined;
}

/** They say one thing as a whole: merged with another they would say two. */
const replaced = [".token.source.value", ".token.source.life", ".token.source.headers"];

/** Objects are merged field by field; lists and null replace; another `kind` starts from that kind's defaults. */
function merge(present: unknown, patch: unknown, defaults: unknown, path = ""): unknown {
  if (!isDocument(patch) || replaced.includes(path)) return patch;
  const base = [present, defaults].find((each) => isDocument(each) && sameKind(each, patch)) ?? kindDefaults(patch);
  const merged = new Map(Object.entries(base as Record<string, unknown>)); // A document either way.
  for (const [key, value] of Object.entries(patch)) {
    merged.set(key, merge(merged.get(key), value, isDocument(defaults) ? defaults[key] : undefined, `${path}.${key}`));
  }
  return Object.fromEntries(merged);
}

function sameKind(present: Record<string, unknown>, patch: Record<string, unknown>): boolean {
  return patch["kind"] === undefined || patch["kind"] === present["kind"];
}

function kindDefaults(patch: Record<string, unknown>): Record<string, unknown> {
  if (patch["kind"] === "exponential") return { ...defaultPolicy.backoff };
  if (patch["kind"] === "fixed") return { restMs: 300_000, jitterMs: 0 };
  if (patch["kind"] === "time-based") return { intervalMs: 120_000 };
  if (patch["kind"] === "bandit") return { halfLifeMs: 600_000, by: "proxy", slowMs: 60_000 };
  return {};
}

function isDocument(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function contradictionIn(policy: Policy): { field: string; why: string } | undefined {
  const { lease, backoff, token, marginMs } = policy;
  if (lease.ttlMs > lease.ttlMsMax) {
    return {
      field: "lease.ttlMs",
      why: `the default (${lease.ttlMs}) is above the maximum ttlMsMax (${lease.ttlMsMax})`,
    };
  }
  if (backoff.kind === "exponential" && backoff.maxMs < backoff.baseMs) {
    return { field: "backoff.maxMs", why: `the longest rest (${backoff.maxMs}) is below baseMs (${backoff.baseMs})` };
  }
  const rates = ratesOf(policy.rate);
  const widths = new Set(rates.map((rate) => rate.windowMs));
  if (widths.size < rates.length) return { field: "rate", why: "two windows have the same windowMs" };
  return token === null ? undefined : contradictionInToken(token, lease.ttlMsMax, marginMs);
}

function contradictionInToken(
  token: TokenPolicy,
  ttlMsMax: number,
  marginMs: number,
): { field: string; why: string } | undefined {
  const { source, retry, deadlineMs, refreshAheadMs } = token;
  if (deadlineMs > ttlMsMax) {
    const why = `a refresh takes a lease of ${deadlineMs} ms, and the longest one is lease.ttlMsMax (${ttlMsMax})`;
    return { field: "token.deadlineMs", why };
  }
  if (deadlineMs <= marginMs) {
    const why = `the whole refresh (${deadlineMs} ms) must be longer than marginMs (${marginMs}), by which its request ends before it`;
    return { field: "token.deadlineMs", why };
  }
  if (source.timeoutMs > deadlineMs) {
    const why = `the request may take longer (${source.timeoutMs} ms) than the whole refresh, deadlineMs (${deadlineMs})`;
    return { field: "token.source.timeoutMs", why };
  }
  if (retry.maxMs < retry.baseMs) {
    const why = `the longest pause (${retry.maxMs}) is below baseMs (${retry.baseMs})`;
    return { field: "token.retry.maxMs", why };
  }
  if (source.life?.ms !== undefined && source.life.ms <= refreshAheadMs) {
    const why = `a token lives ${source.life.ms} ms, so that it would be fetched again as soon as it is there`;
    return { field: "token.refreshAheadMs", why };
  }
  if (source.method === "GET" && source.body !== null) {
    return { field: "token.source.body", why: "a GET request has none" };
  }
  return undefined;
}
