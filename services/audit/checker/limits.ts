// The limits of an exit, from the policy and from its proxies' own limits. For each rule the strictest counts. The
// policy's limit counts for proxies without their own.
import type { Limits, Policy, RateWindow } from "../../../events/policy.ts";

/** Refusals are recorded within a second, but a process may be late. */
export const recordedWithinMs = 5000;

export interface Limited {
  rates: readonly RateWindow[];
  /** Infinity: off. */
  concurrency: number;
  usage: { limit: number; restMs: number } | undefined;
}

const shared = new WeakMap<Policy, Limited>();
const mosts = new WeakMap<Policy, number>();
const none: Limited = { rates: [], concurrency: Infinity, usage: undefined };

export function exitLimits(policy: Policy | undefined, own: readonly (Limits | undefined)[]): Limited {
  if (policy === undefined) return none;
  const named = own.filter((limits) => limits !== undefined);
  if (named.length === 0) {
    let limits = shared.get(policy);
    if (limits === undefined) {
      limits = strictest(policy, [{}]);
      shared.set(policy, limits);
    }
    return limits;
  }
  return strictest(policy, named.length < own.length ? [...named, {}] : named);
}

/** No proxy could ever serve a lease request for more uses. */
export function usesMaxOf(policy: Policy): number {
  let most = mosts.get(policy);
  if (most === undefined) {
    const { rates, usage } = exitLimits(policy, []);
    most = Math.min(policy.lease.usesMax, usage?.limit ?? Infinity, ...rates.map(({ limit }) => limit));
    mosts.set(policy, most);
  }
  return most;
}

function strictest(policy: Policy, each: readonly Limits[]): Limited {
  const limited: { rates: RateWindow[]; concurrency: number; usage: Limited["usage"] } = { ...none, rates: [] };
  for (const own of each) {
    const rate = own.rate === undefined ? policy.rate : own.rate;
    for (const window of rate === null ? [] : Array.isArray(rate) ? rate : [rate]) {
      const known = limited.rates.some((one) => one.limit === window.limit && one.windowMs === window.windowMs);
      if (!known) limited.rates.push(window);
    }
    const concurrency = own.concurrency === undefined ? policy.concurrency : own.concurrency;
    if (concurrency !== null) limited.concurrency = Math.min(limited.concurrency, concurrency);
    const usage = own.usage === undefined ? policy.usage : own.usage;
    if (usage === null) continue;
    const known = limited.usage;
    const isStricter = known === undefined || usage.limit < known.limit;
    if (isStricter || (usage.limit === known.limit && usage.restMs > known.restMs)) limited.usage = usage;
  }
  return limited;
}
