// Failures: a proxy with more than `limit` failures within a rolling window rests. Report times count, including those
// of outcomes of older epochs. Failures that come in during a rest are checked at its end.
import type { PoolState, Proxy } from "../fold/state.ts";
import { mostIn, windowsOf } from "./rate.ts";
import type { Cause, RestRule } from "./rule.ts";

export const failures = {
  reason: "failures",
  causeOf: (state, proxy, { counts }) => (counts ? failuresRest(state, proxy, state.at) : undefined),
  reset(proxy) {
    proxy.failures = [];
  },
  restWarnings({ countFrom, failures: rule, outcomes, rate, streak }) {
    const countsAtAll = Object.values(outcomes).some((each) => each.counts);
    if (!countsAtAll && (rule !== null || streak !== null))
      return ["outcomes: no outcome counts as a failure, so the failures and streak rules can never fire"];
    const windows = windowsOf(rate);
    // If the rate counts from the grant, the uses of an hour may all be reported in one minute.
    if (rule === null || windows.length === 0 || countFrom === "grant") return [];
    const most = Math.min(...windows.map((each) => mostIn(each, rule.windowMs)));
    if (most > rule.limit) return [];
    const fit = `at most ${most} uses fit into ${rule.windowMs} ms`;
    return [`failures: ${fit}, so more than ${rule.limit} failures can never occur`];
  },
  sentence({ rest, at, policy: { failures: rule }, cause, failedAt }, { counted, span }) {
    if (rule === null) return "failures.";
    // Failures that came in during an earlier rest were checked at its end.
    const asOf = cause === undefined ? Math.min(at, rest.until - rule.restMs) : at;
    const count = failedAt.filter((failed) => failed > asOf - rule.windowMs).length;
    return `failures: ${counted(count, "failure")} within ${span(rule.windowMs)}; more than ${rule.limit} call for a rest of ${span(rule.restMs)}. The count starts again at 0.`;
  },
} satisfies RestRule;

/** In the order of their times: an old failure that is ingested late must not push out a newer one. */
export function addFailure(state: PoolState, proxy: Proxy, failedAt: number): void {
  const known = proxy.failures;
  known.splice(known.findLastIndex((at) => at <= failedAt) + 1, 0, failedAt);
  const most = (state.rules.policy.failures?.limit ?? 0) + 1;
  if (known.length > most) known.splice(0, known.length - most);
}

/** Failures within the rule's window; at most one more than the limit. */
export function failuresInWindow(state: PoolState, proxy: Proxy, at = state.at): number {
  const rule = state.rules.policy.failures;
  if (rule === null) return 0;
  return proxy.failures.filter((failedAt) => failedAt > at - rule.windowMs).length;
}

/** The rest that its failures call for at an instant. Undefined: none, or it is over by now. */
export function failuresRest(state: PoolState, proxy: Proxy, asOf: number): Cause | undefined {
  const rule = state.rules.policy.failures;
  if (rule === null || asOf + rule.restMs <= state.at) return undefined;
  if (failuresInWindow(state, proxy, asOf) <= rule.limit) return undefined;
  return { reason: "failures", until: asOf + rule.restMs };
}

/** When the proxy's rest until `until` is over, with the rest for failures that follows. The exit may rest longer. */
export function restOver(state: PoolState, proxy: Proxy, until = proxy.until): number {
  const rule = state.rules.policy.failures;
  if (rule !== null && failuresInWindow(state, proxy, until) > rule.limit) return until + rule.restMs;
  return until;
}

export function failuresTracesEnd(state: PoolState, proxy: Proxy): number {
  return (proxy.failures.at(-1) ?? 0) + (state.rules.policy.failures?.windowMs ?? 0);
}
