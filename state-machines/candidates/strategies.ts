// The strategies: one object for each kind that a policy names. A strategy orders proxies by three numbers, the lowest
// first. Each number breaks the ties of the one before, and the last is unique, so the order is total. A strategy that
// draws uses this order as its base. Fields and defaults are in events/policy.ts.
import type { Policy } from "../../events/policy.ts";
import { lastSlotOf, leasesOf, nthSlot, openUsesOf, slotsFrom } from "../fold/past.ts";
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import { occupied, occupiedFrom, windowsOf } from "../rules/rate.ts";
import { discounted, fadesAt, meanOf } from "./evidence.ts";
import { spentWindow } from "./spent.ts";

export type Rank = readonly [number, number, number];
export type StrategyKind = Policy["strategy"]["kind"];

export interface Strategy {
  /** Its choice, in words. */
  order: string;
  rank(state: PoolState, proxy: Proxy): Rank;
  /** The figures that a grant records for the choice. A strategy that draws records its draw. */
  figures(state: PoolState, proxy: Proxy): Record<string, number>;
  /** The first number is one of the exit, and does not order its proxies among themselves. */
  ranksExits?: true;
  /** When time alone changes the rank of an exit whose best proxy this is. Absent: never. */
  changesAt?(state: PoolState, proxy: Proxy): number;
  /** It draws a lot, or a sample of the evidence. Then a sampler keeps the proxies that can be leased. */
  draws?: "lot" | "sample";
  /** Warnings about settings of the policy that can never take effect. */
  warnings?(policy: Policy): string[];
}

/** All orders are below it: proxies that were never used come first, in the order of adding. */
const neverUsed = 2 ** 52;

export const strategies: Readonly<Record<StrategyKind, Strategy>> = {
  best: {
    order: "never used first, then the highest score, then the least recently used",
    rank: (_state, proxy) => [proxy.granted > 0 ? 1 : 0, -proxy.score, leastRecentlyUsed(proxy)],
    figures: (_state, { granted, score, lastUsedAt }) => ({ granted, score, lastUsedAt }),
  },
  lifo: {
    order: "the one added or returned last",
    rank: (_state, proxy) => [0, 0, -proxy.stackOrder],
    figures: (_state, proxy) => ({ order: proxy.stackOrder }),
  },
  "round-robin": {
    order: "never used first, then the least recently used",
    rank: (_state, proxy) => [0, 0, leastRecentlyUsed(proxy)],
    figures: (_state, { lastUsedAt }) => ({ lastUsedAt }),
  },
  random: {
    order: "at random",
    rank: (_state, proxy) => [0, 0, proxy.addedOrder],
    figures: () => ({}),
    draws: "lot",
  },
  "least-used": {
    order: "the fewest uses in the window, then the least recently used",
    rank: (state, proxy) => [usesInWindow(state, proxy.account), 0, leastRecentlyUsed(proxy)],
    figures: (state, proxy) => ({ usesInWindow: usesInWindow(state, proxy.account), lastUsedAt: proxy.lastUsedAt }),
    ranksExits: true,
    changesAt(state, { account: exit }) {
      const [first] = exit.limits.rates;
      if (first === undefined) return Infinity;
      const from = occupiedFrom(state, first.windowMs);
      if (slotsFrom(exit, from) === 0) return Infinity;
      return nthSlot(exit, 1, from) + first.windowMs + state.rules.policy.marginMs + 1;
    },
    warnings: ({ rate }) =>
      windowsOf(rate).length > 0
        ? []
        : ["strategy: with no rate there is no window, so least-used takes the least recently used"],
  },
  "least-connections": {
    order: "the fewest open leases, then the least recently used",
    rank: (_state, proxy) => [leasesOf(proxy.account).length, proxy.openLeases, leastRecentlyUsed(proxy)],
    figures: (_state, { account, openLeases, lastUsedAt }) => ({
      openLeases: leasesOf(account).length,
      openLeasesOwn: openLeases,
      lastUsedAt,
    }),
    ranksExits: true,
  },
  // A proxy whose window was filled comes last until that window is empty.
  drain: {
    order: "the first in order whose window has not been filled",
    rank: (state, proxy) => [spentWindow(state, proxy.account) === null ? 0 : 1, 0, proxy.addedOrder],
    figures: (state, proxy) => ({
      order: proxy.addedOrder,
      spent: spentWindow(state, proxy.account) === null ? 0 : 1,
    }),
    ranksExits: true,
    changesAt(state, { account: exit }) {
      const spent = spentWindow(state, exit);
      if (spent === null || openUsesOf(exit) > 0) return Infinity;
      return lastSlotOf(exit) + spent.windowMs + state.rules.policy.marginMs + 1;
    },
  },
  // The proxy that was used in this interval goes on. Then comes the one whose turn was longest ago.
  "time-based": {
    order: "the one used in this interval, then the one whose turn was longest ago",
    rank: (state, proxy) => [
      hasTurn(state, proxy) ? 0 : 1,
      0,
      proxy.granted > 0 ? proxy.turnOrder : proxy.addedOrder - neverUsed,
    ],
    figures: (state, { lastUsedAt }) => ({ intervalAt: intervalAt(state), lastUsedAt }),
    changesAt: (state, proxy) => (hasTurn(state, proxy) ? intervalAt(state) + intervalMsOf(state) : Infinity),
  },
  bandit: {
    order: "a success share drawn for each candidate from its past outcomes; the highest wins",
    rank: (state, proxy) => [-meanOf(discounted(state, proxy.evidence)), 0, leastRecentlyUsed(proxy)],
    figures: () => ({}),
    changesAt: (state, proxy) => fadesAt(state, proxy.evidence),
    draws: "sample",
  },
};

export function strategyOf(state: PoolState): Strategy {
  return strategies[state.rules.policy.strategy.kind];
}

/** Its rank among the proxies of its exit. */
export function rankInExit(state: PoolState, proxy: Proxy): Rank {
  const strategy = strategyOf(state);
  const rank = strategy.rank(state, proxy);
  return strategy.ranksExits === true ? [0, rank[1], rank[2]] : rank;
}

/** `time-based`: whether it was used in the present interval. Other strategies have no intervals. */
export function hasTurn(state: PoolState, proxy: Proxy): boolean {
  return (
    state.rules.policy.strategy.kind === "time-based" && proxy.granted > 0 && proxy.lastUsedAt >= intervalAt(state)
  );
}

/** When the present interval began. Intervals are counted from the opening of the pool. */
function intervalAt(state: PoolState): number {
  return state.at - ((state.at - state.openedAt) % intervalMsOf(state));
}

function intervalMsOf(state: PoolState): number {
  const { strategy } = state.rules.policy;
  return strategy.kind === "time-based" ? strategy.intervalMs : 1;
}

/** The uses in the first of its windows, like the proxy's `usesInWindow`. */
function usesInWindow(state: PoolState, exit: Exit): number {
  const [first] = exit.limits.rates;
  return first === undefined ? 0 : occupied(state, exit, first.windowMs);
}

function leastRecentlyUsed(proxy: Proxy): number {
  return proxy.granted > 0 ? proxy.usedOrder : proxy.addedOrder - neverUsed;
}
