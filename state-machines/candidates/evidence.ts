// What the outcomes so far say of a proxy, the old ones less: successes and failures, discounted by half-life. For the
// `bandit`, and kept only while it is the pool's strategy. Recorded from facts alone, in whole 65 536ths of an outcome
// and by whole eighths of a half-life, so that every machine folds the same numbers.
//
// By target the same is kept for pairs of a proxy and a target, at most `pairsMax` of them in a pool: of a further one
// the pair that learned longest ago is forgotten, and judged by what is known of its proxy elsewhere.
import type { UseReported } from "../../events/outcome.ts";
import type { Policy } from "../../events/policy.ts";
import type { Evidence, Pair, PoolState, Proxy } from "../fold/state.ts";
import { Heap } from "../structures/heap.ts";

/** One outcome. */
export const one = 65_536;
export const pairsMax = 100_000;

/** Older outcomes give way to newer ones beyond so many, or a proxy that has died would live long on its past. */
const weightMax = 50 * one;
/** A proxy is a newcomer, or as good as one, while no more than this is known of it. */
const newcomerBelow = one;
/** 2^20 · 2^(−k/8): what is left after k eighths of a half-life. */
const leftAfter = [1_048_576, 961_548, 881_744, 808_563, 741_455, 679_917, 623_487, 571_740] as const;

type Bandit = Extract<Policy["strategy"], { kind: "bandit" }>;

/** A use was reported. An outcome that is nobody's fault says nothing of the proxy. */
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

/** After a change of policy: what no rule asks for any more is dropped. */
export function dropEvidence(state: PoolState): void {
  const { strategy } = state.rules.policy;
  if (strategy.kind === "bandit" && strategy.by === "target") return;
  state.pairs.clear();
  state.targets.clear();
  if (strategy.kind === "bandit") return;
  state.newcomers = null;
  for (const proxy of state.proxies.values()) proxy.evidence = null;
}

/** As it counts at the state's time. */
export function discounted(state: PoolState, evidence: Evidence | null): Evidence {
  const { strategy } = state.rules.policy;
  if (evidence === null || strategy.kind !== "bandit") return { successes: 0, failures: 0, at: state.at };
  const { halfLifeMs } = strategy;
  const steps = Math.floor(((state.at - evidence.at) * 8) / halfLifeMs);
  const at = evidence.at + Math.floor((steps * halfLifeMs) / 8);
  return { successes: after(steps, evidence.successes), failures: after(steps, evidence.failures), at };
}

/** The mean of what its success share may be, from a uniform prior, in millionths: what the index is ordered by. */
export function meanOf({ successes, failures }: Evidence): number {
  return Math.floor(((successes + one) * 1_000_000) / (successes + failures + 2 * one));
}

/** When the discount will have changed its mean so much that its rank is to be looked at again. Infinity: never. */
export function fadesAt(state: PoolState, evidence: Evidence | null): number {
  const { strategy } = state.rules.policy;
  if (strategy.kind !== "bandit" || evidence === null) return Infinity;
  const { successes, failures } = discounted(state, evidence);
  return successes + failures < one / 8 ? Infinity : state.at + strategy.halfLifeMs;
}

export function evidenceAt(state: PoolState, proxy: Proxy, target: string): Evidence {
  return discounted(state, state.pairs.get(pairKey(proxy, target))?.evidence ?? null);
}

/** Proxies known at the target, the best first. Some may have been retired since. */
export function* bestAt(state: PoolState, target: string): Generator<Proxy> {
  for (const pair of state.targets.get(target)?.inOrder() ?? []) {
    if (pair.order === pair.proxy.addedOrder) yield pair.proxy;
  }
}

/** A slow success is worth less: half of one at `slowMs`. One without a latency is worth a whole one. */
function worthOf({ slowMs }: Bandit, latencyMs: number | undefined): number {
  return slowMs === null || latencyMs === undefined ? one : Math.floor((one * slowMs) / (slowMs + latencyMs));
}

function learnPair(state: PoolState, proxy: Proxy, target: string, success: number): void {
  const key = pairKey(proxy, target);
  const known = state.pairs.get(key);
  const pair = known ?? {
    proxy,
    order: proxy.addedOrder,
    target,
    evidence: discounted(state, null),
    mean: 0,
    place: -1,
  };
  pair.evidence = add(discounted(state, pair.evidence), success);
  pair.mean = meanOf(pair.evidence);
  keepPair(state, pair);
  if (state.pairs.size > pairsMax) forgetOldest(state);
}

/** As the one that has learned last. */
export function keepPair(state: PoolState, pair: Pair): void {
  const { target } = pair;
  const key = `${pair.order} ${target}`;
  // The map's order is the order of learning: the first is the one that learned longest ago.
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
  for (const [key, pair] of state.pairs) {
    state.pairs.delete(key);
    const best = state.targets.get(pair.target);
    best?.delete(pair);
    if (best?.size === 0) state.targets.delete(pair.target);
    return;
  }
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
