// When the leader signs its head: at most once an hour across all leaders, and only if something was committed since.
// The core cannot sign. The signature comes in with the command.
import { headEveryMs } from "../../events/head.ts";
import type { PoolState } from "../fold/state.ts";

/** When the next signature is due; Infinity: nothing was committed since the last. */
export function headDueAt(state: PoolState): number {
  const { head } = state;
  // The commit that holds a signature does not itself call for a new one.
  if (!state.opened || state.commits <= (head.n === 0 ? 0 : head.n + 1)) return Infinity;
  return (head.n === 0 ? state.openedAt : head.at) + headEveryMs;
}
