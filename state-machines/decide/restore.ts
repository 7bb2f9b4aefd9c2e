// A ledger that was restored from a backup. Leases that were granted after the backup are not known, and their uses may
// still reach the target. So all known leases end as used, and nothing is granted until the unknown uses can no longer
// count: for the longest lease, its grace, and the longest window.
import type { Backup } from "../../events/restore.ts";
import type { PoolState } from "../fold/state.ts";
import { windowsOf } from "../rules/rate.ts";
import { expire } from "./lease.ts";
import { tickEventsMax } from "./timers.ts";
import type { Turn } from "./turn.ts";

/** Returns whether all leases have ended. If not, it must be called again in the next turn. */
export function restoreLedger(turn: Turn, { last, sequence, backedUpAt }: Backup): boolean {
  const { state } = turn;
  if (state.restored.last !== last) {
    const closed = state.opened ? {} : { closed: true as const };
    turn.emit({ type: "LedgerRestored", last, sequence, backedUpAt, until: unknownUntil(state), ...closed });
  }
  // The last commit of a closed pool says that it is closed, so no other one follows.
  if (!state.opened) return true;
  const most = turn.events.length + tickEventsMax;
  for (const lease of [...state.leases.values()]) {
    if (turn.events.length >= most) return false;
    expire(turn, lease);
  }
  return true;
}

function unknownUntil(state: PoolState): number {
  const { policy } = state.rules;
  const { ttlMsMax, graceMs } = policy.lease;
  const limits = [...state.exits.values()].flatMap((exit) => exit.limits.rates);
  const windows = [...windowsOf(policy.rate), ...limits, ...(policy.bytes ? [policy.bytes] : [])];
  const windowMs = windows.reduce((widest, each) => Math.max(widest, each.windowMs), 0);
  const known = [...state.leases.values()].reduce((end, each) => Math.max(end, each.expiresAt + each.graceMs), 0);
  return Math.max(state.at + ttlMsMax + graceMs, known) + windowMs + policy.marginMs;
}
