// The evidence about a proxy: its successes and failures, where old ones count less by a half-life. Kept while the
// strategy is `bandit`. It is made of facts alone, in whole 65 536ths of an outcome and whole eighths of a half-life,
// so every machine folds the same numbers.
//
// With `by: target`, the same is kept for at most `pairsMax` pairs of a proxy and a target. A further pair replaces the
// one that was updated longest ago. For the replaced pair, the evidence from the proxy's other targets is used.
import type { UseReported } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import type { Evidence, Pair, PoolState, Proxy } from "../fold/state.ts";
import { Heap } from "../structures/heap.ts";

/** One outcome. */
export const one = 65_536;
export const pairsMax = 100_000;

/**
 * Newer outcomes replace older ones beyond this weight. Otherwise a proxy that stops working would rank high too long.
 */
const weightMax = 50 * one;
/** A proxy with no more evidence than this counts as new. */
const newcomerBelow = one;
/** 2^20 · 2^(−k/8): the part left after k eighths of a half-life. */
const leftAfter = [1_048_576, 961_548, 881_744, 808_563, 741_455, 679_917, 623_487, 571_740] as const;

type Bandit = Extract<Policy["strategy"], { kind: "bandit" }>;

/** A use was reported. Neutral outcomes are ignored. */
export function learn(state: PoolState, proxy: Proxy, event: UseReported): void {
  const { strategy } = state.rules.policy;
  if (strategy.kind !== "bandit" || event.result === "neutral") return;
  const success = event.result === "success" ? worthOf(strategy, event.latencyMs) : 0;
  const known = discounted(state, proxy.evidence);
  if (known.successes + known.failures < newcomerBelow) {
    state.newcomers = add(discounted(state, state.newcomers), success);
  }
  proxy.evidence = add(known, success);
  if (strategy.by === "target" && event.target !== undefined) learnPair(state, proxy, event.target, success);
}

/** After a change of policy: drops the evidence that no strategy uses any more. */
export function dropEvidence(state: PoolState): void {
  const { strategy } = state.rules.policy;
  if (strategy.kind === "bandit" && strategy.by === "target") return;
  state.pairs.clear();
  state.targets.clear();
  if (strategy.kind === "bandit") return;
  state.newcomers = null;
  for (const proxy of state.proxies.values()) proxy.evidence = null;
}

/** Its value at the state's time. */
export function discounted(state: PoolState, evidence: Evidence | null): Evidence {
  const { strategy } = state.rules.policy;
  if (evidence === null || strategy.kind !== "bandit") return { successes: 0, failures: 0, at: state.at };
  const { halfLifeMs } = strategy;
  const steps = Math.floor(((state.at - evidence.at) * 8) / halfLifeMs);
  const at = evidence.at + Math.floor((steps * halfLifeMs) / 8);
  return { successes: after(steps, evidence.successes), failures: after(steps, evidence.failures), at };
}

/** The mean of its success share, from a uniform prior, in millionths. The index is ordered by it. */
export function meanOf({ successes, failures }: Evidence): number {
  return Math.floor(((successes + one) * 1_000_000) / (successes + failures + 2 * one));
}

/** When the discount has changed the mean enough for the rank to be checked again. Infinity: never. */
export function fadesAt(state: PoolState, evidence: Evidence | null): number {
  const { strategy } = state.rules.policy;
  if (strategy.kind !== "bandit" || evidence === null) return Infinity;
  const { successes, failures } = discounted(state, evidence);
  return successes + failures < one / 8 ? Infinity : state.at + strategy.halfLifeMs;
}

export function evidenceAt(state: PoolState, proxy: Proxy, target: string): Evidence {
  return discounted(state, state.pairs.get(pairKey(proxy, target))?.evidence ?? null);
}

/** Proxies known at the target, the best first. Some may be retired. */
export function* bestAt(state: PoolState, target: string): Generator<Proxy> {
  for (const pair of state.targets.get(target)?.inOrder() ?? []) {
    if (pair.order === pair.proxy.addedOrder) yield pair.proxy;
  }
}

/** A slow success counts less: half at `slowMs`. Without a latency it counts in full. */
function worthOf({ slowMs }: Bandit, latencyMs: number | undefined): number {
  return slowMs === null || latencyMs === undefined ? one : Math.floor((one * slowMs) / (slowMs + latencyMs));
}

function learnPair(state: PoolState, proxy: Proxy, target: string, success: number): void {
  const key = pairKey(proxy, target);
  const fresh = { proxy, order: proxy.addedOrder, target, evidence: discounted(state, null), mean: 0, place: -1 };
  const pair = state.pairs.get(key) ?? fresh;
  pair.evidence = add(discounted(state, pair.evidence), success);
  pair.mean = meanOf(pair.evidence);
  keepPair(state, pair);
  if (state.pairs.size > pairsMax) forgetOldest(state);
}

/** Makes it the pair that was updated last. */
export function keepPair(state: PoolState, pair: Pair): void {
  const { target } = pair;
  const key = `${pair.order} ${target}`;
  // The map's order is the order of learning.
  state.pairs.delete(key);
  state.pairs.set(key, pair);
  let best = state.targets.get(target);
  if (best === undefined) {
    best = new Heap("place", (a, b) => (a.mean !== b.mean ? a.mean > b.mean : a.order < b.order));
    state.targets.set(target, best);
  }
  best.set(pair);
}

function forgetOldest(state: PoolState): void {
  const [oldest] = state.pairs;
  if (oldest === undefined) return;
  const [key, pair] = oldest;
  state.pairs.delete(key);
  const best = state.targets.get(pair.target);
  best?.delete(pair);
  if (best?.size === 0) state.targets.delete(pair.target);
}

function pairKey(proxy: Proxy, target: string): string {
  return `${proxy.addedOrder} ${target}`;
}

function add({ successes, failures, at }: Evidence, success: number): Evidence {
  const weight = successes + failures;
  const kept = Math.min(weight, weightMax - one);
  const share = (count: number): number => (weight === kept ? count : Math.floor((count * kept) / weight));
  return { successes: share(successes) + success, failures: share(failures) + one - success, at };
}

function after(steps: number, count: number): number {
  const halves = Math.floor(steps / 8);
  if (halves > 30) return 0;
  return Math.floor((Math.floor(count / (1 << halves)) * leftAfter[(steps % 8) as 0]) / 1_048_576);
}
