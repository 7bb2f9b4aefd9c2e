// The limits of an exit: the policy's, and those that its proxies name for themselves. A retired proxy's own limits hold
// until it is forgotten, or retiring would be a way round them.
import type { Moved } from "../fold/past.ts";
import type { Exit, PoolState } from "../fold/state.ts";
import { compileLimits } from "../policy/policy.ts";

export function limitExit(state: PoolState, exit: Exit): void {
  setLimits(state, exit);
  state.exitMoved(exit);
}

/** By a policy that has just come to hold. Everything moves then, so that no exit is told of. */
export function limitExits(state: PoolState): void {
  for (const exit of state.exits.values()) setLimits(state, exit);
}

function setLimits(state: PoolState, exit: Exit): void {
  // Nearly no exit has limits of its own: then this must not cost a look at each of its proxies.
  exit.limits =
    exit.limited === 0
      ? state.rules.limits
      : compileLimits(
          state.rules.policy,
          exit.members.map((proxy) => proxy.limits ?? {}),
        );
  if (exit.moved !== null) lookAtPast(state, exit.moved);
}

/** What it counts may run out sooner or later than was planned. */
export function lookAtPast(state: PoolState, moved: Moved): void {
  moved.fadesAt = 0;
  state.fading.set(moved);
}
