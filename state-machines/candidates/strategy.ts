// The order in which a strategy takes proxies, as three numbers: the lowest first, each breaking the ties of the one
// before. The last is unique, so that the order is total. `random` and `bandit` draw; their order is what they draw from.
import type { Policy } from "../../events/policy.ts";
import { lastSlotOf, leasesOf, nthSlot, openUsesOf, slotsFrom } from "../fold/past.ts";
import type { Exit, PoolState, Proxy } from "../fold/state.ts";
import { occupied, occupiedFrom } from "../rules/rate.ts";
import { discounted, fadesAt, meanOf } from "./evidence.ts";
import { spentWindow } from "./spent.ts";

export type Rank = readonly [number, number, number];
type Kind = Policy["strategy"]["kind"];

/** Orders are below it: what was never used comes before all that was, in the order of adding. */
const neverUsed = 2 ** 52;

export function rankOf(state: PoolState, proxy: Proxy): Rank {
  const { account: exit } = proxy;
  const { strategy } = state.rules.policy;
  switch (strategy.kind) {
    case "best":
      return [proxy.granted > 0 ? 1 : 0, -proxy.score, leastRecentlyUsed(proxy)];
    case "lifo":
      return [0, 0, -proxy.stackOrder];
    case "round-robin":
      return [0, 0, leastRecentlyUsed(proxy)];
    case "random":
      return [0, 0, proxy.addedOrder];
    case "least-used":
      return [usesInWindow(state, exit), 0, leastRecentlyUsed(proxy)];
    case "least-connections":
      return [leasesOf(exit).length, proxy.openLeases, leastRecentlyUsed(proxy)];
    case "drain":
      // Exactly n, then the next: one whose window was filled comes last until that window is empty again.
      return [spentWindow(state, exit) === null ? 0 : 1, 0, proxy.addedOrder];
    case "time-based":
      // Who has been used in this interval goes on; then whoever's turn was longest ago.
      return [hasTurn(state, proxy) ? 0 : 1, 0, proxy.granted > 0 ? proxy.turnOrder : proxy.addedOrder - neverUsed];
    case "bandit":
      return [-meanOf(discounted(state, proxy.evidence)), 0, leastRecentlyUsed(proxy)];
  }
}

/** What the first number says of an exit as a whole, never orders its proxies among themselves. */
export function rankInExit(state: PoolState, proxy: Proxy): Rank {
  const [first, second, third] = rankOf(state, proxy);
  return ofTheExit.includes(state.rules.policy.strategy.kind) ? [0, second, third] : [first, second, third];
}

const ofTheExit: readonly Kind[] = ["least-used", "least-connections", "drain"];

/** Does it draw lots or samples, so that the proxies that can be leased are kept in a sampler? */
export function drawsLots(kind: Kind): boolean {
  return kind === "random" || kind === "bandit";
}

/** What a grant records of its choice: the figures that the strategy ranked by. Those that draw say what they drew. */
export function rankedBy(state: PoolState, proxy: Proxy): Record<string, number> {
  const { account: exit, lastUsedAt } = proxy;
  switch (state.rules.policy.strategy.kind) {
    case "best":
      return { granted: proxy.granted, score: proxy.score, lastUsedAt };
    case "lifo":
      return { order: proxy.stackOrder };
    case "round-robin":
      return { lastUsedAt };
    case "least-used":
      return { usesInWindow: usesInWindow(state, exit), lastUsedAt };
    case "least-connections":
      return { openLeases: leasesOf(exit).length, openLeasesOwn: proxy.openLeases, lastUsedAt };
    case "drain":
      return { order: proxy.addedOrder, spent: spentWindow(state, exit) === null ? 0 : 1 };
    case "time-based":
      return { intervalAt: intervalAt(state), lastUsedAt };
    case "random":
    case "bandit":
      return {};
  }
}

/** From which instant time alone changes the rank of an exit whose best proxy this is; Infinity: never. */
export function rankChangesAt(state: PoolState, proxy: Proxy): number {
  const { account: exit } = proxy;
  const { strategy, marginMs } = state.rules.policy;
  const { rates } = exit.limits;
  if (strategy.kind === "drain") {
    const spent = spentWindow(state, exit);
    return spent === null || openUsesOf(exit) > 0 ? Infinity : lastSlotOf(exit) + spent.windowMs + marginMs + 1;
  }
  if (strategy.kind === "least-used" && rates[0] !== undefined) {
    const from = occupiedFrom(state, rates[0].windowMs);
    return slotsFrom(exit, from) === 0 ? Infinity : nthSlot(exit, 1, from) + rates[0].windowMs + marginMs + 1;
  }
  if (strategy.kind === "time-based") return hasTurn(state, proxy) ? intervalAt(state) + strategy.intervalMs : Infinity;
  if (strategy.kind === "bandit") return fadesAt(state, proxy.evidence);
  return Infinity;
}

/** `time-based`: was it used in the interval that runs now? Other strategies have no intervals. */
export function hasTurn(state: PoolState, proxy: Proxy): boolean {
  return (
    state.rules.policy.strategy.kind === "time-based" && proxy.granted > 0 && proxy.lastUsedAt >= intervalAt(state)
  );
}

/** When the interval that runs now began: they are counted from the opening of the pool. */
function intervalAt(state: PoolState): number {
  const { strategy } = state.rules.policy;
  return strategy.kind === "time-based" ? state.at - ((state.at - state.openedAt) % strategy.intervalMs) : state.at;
}

/** In the first of its windows, as the proxy's `usesInWindow` shows them. */
function usesInWindow(state: PoolState, exit: Exit): number {
  const [first] = exit.limits.rates;
  return first === undefined ? 0 : occupied(state, exit, first.windowMs);
}

function leastRecentlyUsed(proxy: Proxy): number {
  return proxy.granted > 0 ? proxy.usedOrder : proxy.addedOrder - neverUsed;
}
