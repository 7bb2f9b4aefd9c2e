// The limits of an exit: the policy's, and those that its proxies define themselves. A retired proxy's own limits hold
// until it is forgotten. Otherwise retiring would bypass them.
import type { Limits, Policy } from "../../events/policy.ts";
import type { Exit, Moved, PoolState } from "../fold/state.ts";
import type { ExitLimits, Rules } from "../policy/rules.ts";
import { strictestConcurrency } from "./concurrency.ts";
import { strictestRates } from "./rate.ts";
import { strictestUsage } from "./usage.ts";

export function compileRules(policy: Policy): Rules {
  const limits = compileLimits(policy, [{}]);
  const { usesMax } = policy.lease;
  return {
    policy,
    limits,
    usesMax: Math.min(usesMax, policy.usage?.limit ?? Infinity, ...limits.rates.map((rate) => rate.limit)),
  };
}

/**
 * The limits of an exit with these proxies. For each rule: the strictest limit that its proxies define, or the policy's
 * if none defines one.
 */
function compileLimits(policy: Policy, own: readonly Limits[]): ExitLimits {
  return {
    rates: strictestRates(policy, own),
    concurrency: strictestConcurrency(policy, own),
    usage: strictestUsage(policy, own),
  };
}

export function limitExit(state: PoolState, exit: Exit): void {
  setLimits(state, exit);
  state.exitMoved(exit);
}

/** Applies a new policy. All proxies are reassessed anyway, so single exits are not reported as moved. */
export function limitExits(state: PoolState): void {
  for (const exit of state.exits.values()) setLimits(state, exit);
}

function setLimits(state: PoolState, exit: Exit): void {
  // Hardly any exit has limits of its own. The common case must not visit each of its proxies.
  const { policy, limits } = state.rules;
  const own = (): Limits[] => exit.members.map((proxy) => proxy.limits ?? {});
  exit.limits = exit.limited === 0 ? limits : compileLimits(policy, own());
  if (exit.moved !== null) lookAtPast(state, exit.moved);
}

/** Counted uses may now run out sooner or later than planned. */
export function lookAtPast(state: PoolState, moved: Moved): void {
  moved.fadesAt = 0;
  state.fading.set(moved);
}
