// Events that time alone causes: leases end, rests end, token refreshes reach their deadlines. `wakeAt` is a pure query
// for the next instant. The events are recorded decisions.
import type { PoolState } from "../fold/state.ts";
import { expire } from "./lease.ts";
import { endRests, spreadUsageRest } from "./rest.ts";
import { refuseRefresh } from "./token.ts";
import type { Turn } from "./turn.ts";

/** The most tick events in one commit, so that a pool with much to do at once does not keep requests waiting. */
export const tickEventsMax = 500;

/** Does everything that is due, within the bound. Returns whether nothing due is left. */
export function tick(turn: Turn): boolean {
  const { state } = turn;
  const { expiries, deadlines } = state;
  const most = turn.events.length + tickEventsMax;
  for (let lease = expiries.top; lease !== undefined && lease.expiresAt <= turn.at; lease = expiries.top) {
    if (turn.events.length >= most) return false;
    expire(turn, lease);
  }
  for (let token = deadlines.top; token !== undefined && token.deadlineAt <= turn.at; token = deadlines.top) {
    if (turn.events.length >= most) return false;
    refuseRefresh(turn, token, { why: "deadline" });
  }
  if (!endRests(turn, () => turn.events.length < most)) return false;
  for (const exit of state.spreading) {
    if (turn.events.length >= most) return false;
    spreadUsageRest(turn, exit, most - turn.events.length);
  }
  return state.spreading.size === 0;
}

/** When the next tick is due; Infinity: none. */
export function wakeAt(state: PoolState): number {
  if (state.spreading.size > 0) return state.at;
  return Math.min(
    state.at < state.restored.until ? state.restored.until : Infinity,
    state.expiries.top?.expiresAt ?? Infinity,
    state.rests.top?.until ?? Infinity,
    state.deadlines.top?.deadlineAt ?? Infinity,
  );
}
