// The policy: partial documents merged, contradictions named, and the document compiled into the rules that the
// decisions read. Every number has its name, unit and default in events/policy.ts; the relations between them are here.
import { defaultPolicy, type Policy, policySchema } from "../../events/policy.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import { strategies } from "../candidates/strategies.ts";
import { exitRules } from "../rules/exit.ts";
import { windowsOf } from "../rules/rate.ts";
import { restRules } from "../rules/rests.ts";
import { merge } from "./merge.ts";
import { contradictionInToken, tokenWarnings } from "./token.ts";

const policyDepthMax = 16;
const policyCharsMax = 65_536;

export type PolicyRead = { policy: Policy; warnings: string[] } | { refusal: Refusal };

/** Merges a partial document over the present one (or the defaults) and validates the result. */
export function readPolicy(patch: Record<string, unknown>, present: Policy = defaultPolicy): PolicyRead {
  const strange = strangeField(patch, "policy");
  if (strange !== undefined)
    return { refusal: refuse("invalid-request", `${strange}: is an unknown field.`, { field: strange }) };
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
  return { policy: read.value, warnings: warningsFor(read.value) };
}

/**
 * Finds a field that the schema would ignore because its value would become the prototype of a copy. Also finds a field
 * nested deeper than any field of a policy, which could exhaust the stack.
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

/**
 * Warnings about parts of a policy that can never take effect, each beginning with the field. Each is proven from the
 * numbers of the policy alone. Merely unlikely cases give no warning.
 */
function warningsFor(policy: Policy): string[] {
  return [
    ...tokenWarnings(policy),
    ...exitRules.flatMap((rule) => rule.warnings(policy)),
    ...(strategies[policy.strategy.kind].warnings?.(policy) ?? []),
    ...Object.values(restRules).flatMap((rule) => rule.restWarnings?.(policy) ?? []),
  ];
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
  const rates = windowsOf(policy.rate);
  const widths = new Set(rates.map((rate) => rate.windowMs));
  if (widths.size < rates.length) return { field: "rate", why: "two windows have the same windowMs" };
  return token === null ? undefined : contradictionInToken(token, lease.ttlMsMax, marginMs);
}
