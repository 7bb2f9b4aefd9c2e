// Usage: an exit has a quota of uses. When the quota is used up and no lease is open, the whole exit rests, and the
// count starts anew. A use counts when it is granted. A returned use no longer counts.
import type { Limits, Policy } from "../../events/policy.ts";
import { lastClosedOf, leasesOf, usesSinceRestOf } from "../fold/past.ts";
import type { Exit, PoolState } from "../fold/state.ts";
import type { Cause, ExitRule, RestRule } from "./rule.ts";

export const usage = {
  name: "usage",
  holdsBack: "proxies whose exit has too few uses left in its quota, while a lease is open",
  reason: "usage",
  holds: (_state, exit, minUses) =>
    exit.limits.usage !== null && usesSinceRestOf(exit) + minUses > exit.limits.usage.limit,
  roomAt: (_state, exit, minUses) => quotaRoomAt(exit, minUses),
  usesLeft: (_state, exit) => (exit.limits.usage === null ? Infinity : exit.limits.usage.limit - usesSinceRestOf(exit)),
  canServe: (limits, minUses) => limits.usage === null || minUses <= limits.usage.limit,
  /** An exit that was idle for the length of its usage rest has had its rest. Its quota starts anew. */
  tracesEnd: (_state, exit) => (usesSinceRestOf(exit) > 0 ? lastClosedOf(exit) + (exit.limits.usage?.restMs ?? 0) : 0),
  taken(_state, exit) {
    const { usage: rule } = exit.limits;
    return [`${usesSinceRestOf(exit)}${rule === null ? "" : ` of ${rule.limit}`} uses in the usage quota`];
  },
  held(state, exit, minUses) {
    const due = isRestDue(state, exit, minUses) ? ", and its rest was due" : "";
    return [`${usesSinceRestOf(exit)} of ${exit.limits.usage?.limit} uses in its usage quota${due}`];
  },
  sentence({ rest, at, exit, usage: rule }, { counted, span, instant }) {
    if (rule === null) return `usage: the usage quota of its exit ${exit} was over.`;
    if (rest.exitUntil === undefined)
      return `usage: its exit ${exit} rests after its usage quota, and all its proxies with it.`;
    const idleAt = rest.exitUntil - rule.restMs;
    const quota = counted(rule.limit, "use");
    return idleAt === at
      ? `usage: its exit ${exit} had used up its usage quota of ${quota}, which calls for a rest of ${span(rule.restMs)}. A new usage quota begins.`
      : `usage: its exit ${exit} had fewer uses left in its usage quota of ${quota} than a lease request needed, which calls for a rest of ${span(rule.restMs)} from when the exit became idle, ${instant(idleAt)}. A new usage quota begins.`;
  },
} satisfies ExitRule & RestRule;

/** The quota with the lowest limit. If limits are equal, the one with the longer rest. */
export function strictestUsage(policy: Policy, own: readonly Limits[]): Policy["usage"] {
  let strictest: Policy["usage"] = null;
  for (const { usage: each = policy.usage } of own) {
    if (each === null) continue;
    const isStricter =
      strictest === null ||
      each.limit < strictest.limit ||
      (each.limit === strictest.limit && each.restMs > strictest.restMs);
    if (isStricter) strictest = each;
  }
  return strictest;
}

/** No lease is open on the exit, and too few uses are left. The next request that chooses the exit begins its rest. */
export function isRestDue(state: PoolState, exit: Exit, minUses: number): boolean {
  const { usage: rule } = exit.limits;
  if (rule === null || minUses > rule.limit || exit.restUntil > state.at || leasesOf(exit).length > 0) return false;
  const uses = usesSinceRestOf(exit);
  return uses > 0 && uses + minUses > rule.limit;
}

/** Whether its quota is used up and only an open lease delays the rest. */
export function isSpent(exit: Exit): boolean {
  const { usage: rule } = exit.limits;
  return rule !== null && usesSinceRestOf(exit) >= rule.limit && leasesOf(exit).length > 0;
}

/** The rest of an exit whose quota is used up and which has no open lease. */
export function spentRest(state: PoolState, exit: Exit): Cause | undefined {
  const { usage: rule } = exit.limits;
  if (rule === null || usesSinceRestOf(exit) < rule.limit || leasesOf(exit).length > 0) return undefined;
  return { reason: "usage", until: state.at + rule.restMs };
}

/** When the quota has room for `minUses`: at once (0), or after a rest that counts from the end of the last lease. */
export function quotaRoomAt(exit: Exit, minUses: number): number {
  const { usage: rule } = exit.limits;
  if (rule === null || usesSinceRestOf(exit) + minUses <= rule.limit) return 0;
  return minUses > rule.limit ? Infinity : idleFrom(exit) + rule.restMs;
}

/** The instant from which the exit has no open lease, past or future. */
export function idleFrom(exit: Exit): number {
  const open = leasesOf(exit);
  return open.length === 0 ? lastClosedOf(exit) : Math.max(...open.map((lease) => lease.expiresAt));
}
