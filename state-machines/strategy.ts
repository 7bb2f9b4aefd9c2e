// The order in which a strategy takes proxies, as three numbers: the lowest first, each breaking the ties of the one
// before. The last is unique, so that the order is total and a replay of the same state chooses the same proxy.
import type { Policy } from "../events/policy.ts";
import { type Exit, isOccupied, type PoolState, type Proxy } from "./state.ts";

export type Rank = readonly [number, number, number];

export function rankOf(state: PoolState, proxy: Proxy): Rank {
  const used = proxy.granted > 0 ? 1 : 0;
  const leastRecentlyUsed = used === 1 ? proxy.usedOrder : proxy.addedOrder;
  switch (state.rules.policy.strategy.kind) {
    case "best":
      return [used, -proxy.score, leastRecentlyUsed];
    case "lifo":
      return [0, 0, -proxy.stackOrder];
    case "round-robin":
      return [used, 0, leastRecentlyUsed];
    case "drain":
      // Exactly n, then the next: one whose window was filled comes last until that window is empty again.
      return [isSpent(state, proxy.account) ? 1 : 0, 0, proxy.addedOrder];
    default:
      throw new Error(`no order for the strategy ${state.rules.policy.strategy.kind}`); // The policy refuses it.
  }
}

/** What a grant records of its choice: the figures that the strategy ranked by. */
export function rankedBy(state: PoolState, proxy: Proxy): Record<string, number> {
  switch (state.rules.policy.strategy.kind) {
    case "best":
      return { granted: proxy.granted, score: proxy.score, lastUsedAt: proxy.lastUsedAt };
    case "lifo":
      return { order: proxy.stackOrder };
    case "drain":
      return { order: proxy.addedOrder, spent: isSpent(state, proxy.account) ? 1 : 0 };
    default:
      return { lastUsedAt: proxy.lastUsedAt };
  }
}

/** From which instant time alone changes the rank; Infinity: never. */
export function rankChangesAt(state: PoolState, exit: Exit, kind: Policy["strategy"]["kind"]): number {
  if (kind !== "drain" || exit.limits.rates.length === 0) return Infinity;
  if (!isSpent(state, exit) || exit.openUses > 0) return Infinity;
  const widest = Math.max(...exit.limits.rates.map((rate) => rate.windowMs));
  return exit.slots.last + widest + state.rules.policy.marginMs + 1;
}

function isSpent(state: PoolState, exit: Exit): boolean {
  return exit.spent && isOccupied(state, exit);
}
