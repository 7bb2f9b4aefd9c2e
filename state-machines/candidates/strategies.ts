// The strategies: one object each, by the kind that a policy names. A strategy orders proxies by three numbers: the
// lowest first, each breaking the ties of the one before. The last is unique, so that the order is total. Some draw:
// their order is what they draw from. Their fields and defaults are in events/policy.ts.
import type { Policy } from "../../events/policy.ts";
import { lastSlotOf, leasesOf, nthSlot, openUsesOf, slotsFrom } from "../fold/past.ts";
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import { occupied, occupiedFrom, windowsOf } from "../rules/rate.ts";
import { discounted, fadesAt, meanOf } from "./evidence.ts";
import { spentWindow } from "./spent.ts";

export type Rank = readonly [number, number, number];
export type StrategyKind = Policy["strategy"]["kind"];

export interface Strategy {
  /** What it takes, in words. */
  order: string;
  rank(state: PoolState, proxy: Proxy): Rank;
  /** What a grant records of its choice: the figures that it ranked by. A strategy that draws says what it drew. */
  figures(state: PoolState, proxy: Proxy): Record<string, number>;
  /** The first number says something of the exit as a whole, and does not order its proxies among themselves. */
  ranksExits?: true;
  /** From which instant time alone changes the rank of an exit whose best proxy this is. Absent: never. */
  changesAt?(state: PoolState, proxy: Proxy): number;
  /** It draws a lot, or a sample of what is known. The proxies that can be leased are then kept in a sampler. */
  draws?: "lot" | "sample";
  /** Sentences about what a policy says of it and can never happen. */
  warnings?(policy: Policy): string[];
}

/** Orders are below it: what was never used comes before all that was, in the order of adding. */
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
    order: "by lot",
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
  // Exactly n, then the next: one whose window was filled comes last until that window is empty again.
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
  // One that has been used in this interval goes on; then the one whose turn was longest ago.
  "time-based": {
    order: "whoever has been used in this interval, then whose turn was longest ago",
    rank: (state, proxy) => [
      hasTurn(state, proxy) ? 0 : 1,
      0,
      proxy.granted > 0 ? proxy.turnOrder : proxy.addedOrder - neverUsed,
    ],
    figures: (state, { lastUsedAt }) => ({ intervalAt: intervalAt(state), lastUsedAt }),
    changesAt: (state, proxy) => (hasTurn(state, proxy) ? intervalAt(state) + intervalMsOf(state) : Infinity),
  },
  bandit: {
    order: "a success share drawn for each candidate from what is known of it; the highest wins",
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

/** `time-based`: was it used in the interval that runs now? Other strategies have no intervals. */
export function hasTurn(state: PoolState, proxy: Proxy): boolean {
  return (
    state.rules.policy.strategy.kind === "time-based" && proxy.granted > 0 && proxy.lastUsedAt >= intervalAt(state)
  );
}

/** When the interval that runs now began: they are counted from the opening of the pool. */
function intervalAt(state: PoolState): number {
  return state.at - ((state.at - state.openedAt) % intervalMsOf(state));
}

function intervalMsOf(state: PoolState): number {
  const { strategy } = state.rules.policy;
  return strategy.kind === "time-based" ? strategy.intervalMs : 1;
}

/** In the first of its windows, as the proxy's `usesInWindow` shows them. */
function usesInWindow(state: PoolState, exit: Exit): number {
  const [first] = exit.limits.rates;
  return first === undefined ? 0 : occupied(state, exit, first.windowMs);
}

function leastRecentlyUsed(proxy: Proxy): number {
  return proxy.granted > 0 ? proxy.usedOrder : proxy.addedOrder - neverUsed;
}
