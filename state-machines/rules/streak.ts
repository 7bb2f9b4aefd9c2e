// Streak: a proxy with more than `limit` failures in a row rests. After a number of such rests it is retired.
import type { PoolState, Proxy } from "../fold/state.ts";
import type { RestRule } from "./rule.ts";

export const streak = {
  reason: "streak",
  causeOf(state, proxy, { counts }) {
    const { streak: rule } = state.rules.policy;
    if (!counts || rule === null || proxy.streak <= rule.limit) return undefined;
    return { reason: "streak", until: state.at + rule.restMs };
  },
  reset(proxy) {
    proxy.streak = 0;
    proxy.streakRests++;
  },
  sentence({ policy: { streak: rule }, cause }, { span }) {
    if (rule === null) return "streak.";
    return `streak: ${cause?.streak ?? "too many"} failures in a row; more than ${rule.limit} call for a rest of ${span(rule.restMs)}. The count starts again at 0.`;
  },
} satisfies RestRule;

/** Call it after a rest for the proxy's streak has begun. */
export function mustRetire(state: PoolState, proxy: Proxy): boolean {
  return proxy.streakRests >= (state.rules.policy.streak?.retireAfter ?? Infinity);
}
