// Backoff: a rest after each failure, with jitter. It is longer the more failures there are in a row. Throttle: the
// target's `retryAfterMs`, which may also lengthen a rest that is running.
import type { OutcomeClass } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import { reasons } from "../../events/words.ts";
import type { RestRule, RestTold, Words } from "./rule.ts";

export const backoff = {
  reason: "backoff",
  causeOf(state, proxy, { class: kind, draw }) {
    const { backoff: rule, outcomes } = state.rules.policy;
    if (rule.kind === "none" || outcomes[kind].rest !== "backoff") return undefined;
    const { leastMs, jitterMs } = spanOf(rule, kind, Math.max(proxy.streak, 1));
    const restMs = leastMs + (jitterMs > 0 ? draw().upTo(jitterMs) : 0);
    return restMs > 0 ? { reason: "backoff", until: state.at + restMs } : undefined;
  },
  restWarnings({ backoff: rule, outcomes }) {
    if (rule.kind === "none") return [];
    if (Object.values(outcomes).every(({ rest }) => rest === "none"))
      return ["backoff: no class of outcome leads to it, so it can never fire"];
    if (rule.kind === "fixed") return [];
    const unused = reasons.filter((reason) => rule.baseMsBy[reason] !== undefined && outcomes[reason].rest === "none");
    return unused.map(
      (reason) => `backoff.baseMsBy.${reason}: outcomes.${reason}.rest is "none", so it can never fire`,
    );
  },
  sentence(told, words) {
    if (told.cause === undefined) return "backoff: after a failure.";
    const { backoff: rule } = told.policy;
    const { class: kind, streak } = told.cause;
    const n = Math.max(streak, 1);
    const nth = `backoff: failure ${n} in a row (${kind})`;
    if (rule.kind === "none") return `${nth}.`;
    const { span } = words;
    const { baseMs, doubledMs, leastMs, jitterMs } = spanOf(rule, kind, n);
    const drawn = drawnOf(told, { leastMs, jitterMs }, words);
    if (rule.kind === "fixed") return `${nth}: a rest of ${span(leastMs)} after each failure${drawn}.`;
    const bound = doubledMs > leastMs ? `, but at most ${span(leastMs)}` : "";
    return `${nth}: ${span(baseMs)} · 2^${n} = ${span(doubledMs)}${bound}${drawn}.`;
  },
} satisfies RestRule;

/** A target's `retryAfterMs` counts for at most an hour. */
export const retryAfterMsMax = 3_600_000;

export const throttle = {
  reason: "throttle",
  causeOf: (state, _proxy, { class: kind, retryAfterMs }) => {
    const restMs = kind === "throttled" ? Math.min(retryAfterMs ?? 0, retryAfterMsMax) : 0;
    return restMs > 0 ? { reason: "throttle", until: state.at + restMs } : undefined;
  },
  sentence({ rest, at, cause }, { span }) {
    const askedMs = cause?.retryAfterMs ?? 0;
    const bound = askedMs > retryAfterMsMax ? `, of which ${span(retryAfterMsMax)} count` : "";
    return `throttle: the target asked to be left alone for ${span(cause?.retryAfterMs ?? rest.until - at)}${bound}.`;
  },
} satisfies RestRule;

type Rule = Exclude<Policy["backoff"], { kind: "none" }>;

/**
 * The rest after the n-th failure in a row: base · 2^n, at most the longest (or the first of its class), plus chance.
 */
function spanOf(
  rule: Rule,
  kind: OutcomeClass,
  n: number,
): Record<"baseMs" | "doubledMs" | "leastMs" | "jitterMs", number> {
  if (rule.kind === "fixed") {
    const { restMs, jitterMs } = rule;
    return { baseMs: restMs, doubledMs: restMs, leastMs: restMs, jitterMs };
  }
  const baseMs = (kind === "success" ? undefined : rule.baseMsBy[kind]) ?? rule.baseMs;
  const doubledMs = baseMs * 2 ** Math.min(n, 40);
  const leastMs = Math.min(doubledMs, Math.max(rule.maxMs, baseMs * 2));
  return { baseMs, doubledMs, leastMs, jitterMs: Math.max(rule.jitterMs, Math.floor(leastMs * rule.jitterShare)) };
}

/** The end of a rest shows the draw only if the rest has no other reason. Otherwise this gives the draw's bound. */
function drawnOf(
  { rest, at }: RestTold,
  { leastMs, jitterMs }: { leastMs: number; jitterMs: number },
  words: Words,
): string {
  const drawnMs = rest.until - at - leastMs;
  if (rest.reasons.length === 1) return drawnMs > 0 ? `, plus ${words.span(drawnMs)} of jitter` : "";
  return jitterMs > 0 ? `, plus up to ${words.span(jitterMs)} of jitter` : "";
}
