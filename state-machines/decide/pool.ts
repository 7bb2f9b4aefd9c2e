// Decisions about the pool itself: opening, its policy, closing, and its leader.
import { defaultPolicy, type Policy } from "../../events/policy.ts";
import { invalid, type Refusal } from "../../protocol/refusal.ts";
import type { Command } from "../command.ts";
import type { PoolState } from "../fold/state.ts";
import { readPolicy } from "../policy/policy.ts";
import { isOccupied } from "../rules/exit.ts";
import { canonical } from "../structures/canonical.ts";
import { doneBy, type Turn } from "./turn.ts";

type Settled = { warnings: string[] } | { refusal: Refusal };

/** Opens the pool. If it is open, merges the given policy over the present one. */
export function open(
  turn: Turn,
  given: { policy: Record<string, unknown> | undefined; keyFingerprint: string; by?: string | undefined },
): Settled {
  const { state } = turn;
  if (state.opened && !state.draining) return changePolicy(turn, { policy: given.policy ?? {}, by: given.by });
  const present = state.policyVersion === 0 ? defaultPolicy : state.rules.policy;
  const read = readFor(state, given.policy ?? {}, present);
  if ("refusal" in read) return read;
  const version = state.policyVersion + 1;
  const { keyFingerprint, by } = given;
  turn.emit({ type: "PoolOpened", pool: state.pool, policy: read.policy, version, keyFingerprint, ...doneBy(by) });
  return { warnings: read.warnings };
}

export function changePolicy(turn: Turn, given: Omit<Extract<Command, { type: "change-policy" }>, "type">): Settled {
  const { state } = turn;
  if (given.ifVersion !== undefined && given.ifVersion !== state.policyVersion) {
    const why = `the policy is at version ${state.policyVersion} by now. Read it again and decide anew`;
    return { refusal: invalid("ifVersion", why) };
  }
  if (given.policy === undefined && given.reset !== true)
    return { refusal: invalid("policy", "is missing; it must be an object") };
  const read = readFor(state, given.policy ?? {}, given.reset === true ? defaultPolicy : state.rules.policy);
  if ("refusal" in read) return read;
  if (canonical(read.policy) !== canonical(state.rules.policy)) {
    const version = state.policyVersion + 1;
    turn.emit({ type: "PolicyChanged", policy: read.policy, version, ...doneBy(given.by) });
  }
  return { warnings: read.warnings };
}

/** @param drain stop granting, and close when the last lease has ended. */
export function close(turn: Turn, given: { drain: boolean; by?: string | undefined }): void {
  const { state } = turn;
  if (given.drain && state.leases.size > 0) {
    if (!state.draining) turn.emit({ type: "PoolClosed", draining: true, ...doneBy(given.by) });
  } else turn.emit({ type: "PoolClosed", ...doneBy(given.by) });
}

/** A draining pool closes when its last lease has ended. */
export function closeWhenDrained(turn: Turn): void {
  const { state } = turn;
  if (state.opened && state.draining && state.leases.size === 0) turn.emit({ type: "PoolClosed" });
}

/** The merged policy, or why the pool cannot have it now. */
export function readFor(
  state: PoolState,
  patch: Record<string, unknown>,
  present: Policy,
): ReturnType<typeof readPolicy> {
  const read = readPolicy(patch, present);
  if ("refusal" in read || read.policy.limitBy === state.rules.policy.limitBy || !isAtWork(state)) return read;
  const why =
    "can be changed only while no lease is open and every window is empty: " +
    "uses counted by exit cannot be recounted by proxy, nor the reverse";
  return { refusal: invalid("policy.limitBy", why) };
}

/** True if time has nothing left to end: no lease, no occupied slot, no rest. */
export function isIdle(state: PoolState): boolean {
  return !isAtWork(state) && state.rests.size === 0;
}

function isAtWork(state: PoolState): boolean {
  return state.leases.size > 0 || [...state.exits.values()].some((exit) => isOccupied(state, exit));
}
