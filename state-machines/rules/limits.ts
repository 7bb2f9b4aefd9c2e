// The limits of an exit: the policy's, and its proxies' own. Those of a retired proxy hold until it is forgotten, or
// retiring would bypass them.
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

/** Each rule's strictest limit among these proxies' own, or the policy's if none has one. */
function compileLimits(policy: Policy, own: readonly Limits[]): ExitLimits {
  return {
    rates: strictestRates(policy, own),
    concurrency: strictestConcurrency(policy, own),
    usage: strictestUsage(policy, own),
  };
}

export function limitExit(state: PoolState, exit: Exit): void {
  setLimits(state, exit);
  state.exitChanged(exit);
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

export function lookAtPast(state: PoolState, moved: Moved): void {
  moved.fadesAt = 0;
  state.fading.set(moved);
}
