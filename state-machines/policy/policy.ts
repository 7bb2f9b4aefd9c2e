// The policy: a partial document is merged and validated, and contradictions are refused. Every number has its name,
// unit and default in events/policy.ts. The relations between numbers are checked here.
import { defaultPolicy, type Policy, policySchema } from "../../events/policy.ts";
import { invalid, type Refusal } from "../../protocol/refusal.ts";
import { readAs } from "../../protocol/request.ts";
import { strategies } from "../candidates/strategies.ts";
import { exitRules } from "../rules/exit.ts";
import { windowsOf } from "../rules/rate.ts";
import { restRules } from "../rules/rests.ts";
import { merge } from "./merge.ts";
import { type Contradictions, contradictionsInToken, tokenWarnings } from "./token.ts";

const policyDepthMax = 16;
const policyCharsMax = 65_536;

type PolicyRead = { policy: Policy; warnings: string[] } | { refusal: Refusal };

/** Merges a partial document over the present one (or the defaults) and validates the result. */
export function readPolicy(patch: Record<string, unknown>, present: Policy = defaultPolicy): PolicyRead {
  const strange = strangeField(patch, "policy");
  if (strange !== undefined) return { refusal: invalid(strange, "is an unknown field") };
  const read = readAs(policySchema, merge(present, patch, defaultPolicy), ["policy"]);
  if ("refusal" in read) return read;
  if (JSON.stringify(read.value).length > policyCharsMax) {
    const why = `has more than ${policyCharsMax} characters. Every change of it is a commit: keep its tables short`;
    return { refusal: invalid("policy", why) };
  }
  for (const [isContradiction, field, why] of contradictionsIn(read.value))
    if (isContradiction) return { refusal: invalid(`policy.${field}`, why) };
  return { policy: read.value, warnings: warningsFor(read.value) };
}

/** Finds a field named `__proto__`, which a copy would lose, or one nested too deeply for the stack. */
function strangeField(value: unknown, path: string, depth = 0): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (depth > policyDepthMax) return path;
  for (const [key, each] of Object.entries(value)) {
    const strange = key === "__proto__" ? `${path}.${key}` : strangeField(each, `${path}.${key}`, depth + 1);
    if (strange !== undefined) return strange;
  }
  return undefined;
}

/** Warnings about parts of a policy that can never take effect, by its numbers alone. Each begins with the field. */
function warningsFor(policy: Policy): string[] {
  return [
    ...tokenWarnings(policy),
    ...exitRules.flatMap((rule) => rule.warnings?.(policy) ?? []),
    ...(strategies[policy.strategy.kind].warnings?.(policy) ?? []),
    ...Object.values(restRules).flatMap((rule) => rule.restWarnings?.(policy) ?? []),
  ];
}

function contradictionsIn({ rate, lease, backoff, token, marginMs }: Policy): Contradictions {
  const { ttlMs, ttlMsMax } = lease;
  const widths = windowsOf(rate).map(({ windowMs }) => windowMs);
  const { baseMs, maxMs } = backoff.kind === "exponential" ? backoff : { baseMs: 0, maxMs: 0 };
  return [
    [ttlMs > ttlMsMax, "lease.ttlMs", `the default (${ttlMs}) is above the maximum ttlMsMax (${ttlMsMax})`],
    [maxMs < baseMs, "backoff.maxMs", `the longest rest (${maxMs}) is below baseMs (${baseMs})`],
    [new Set(widths).size < widths.length, "rate", "two windows have the same windowMs"],
    ...(token === null ? [] : contradictionsInToken(token, ttlMsMax, marginMs)),
  ];
}
