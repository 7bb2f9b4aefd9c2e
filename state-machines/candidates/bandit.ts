// The `bandit` chooses among a few candidates by Thompson sampling (W. R. Thompson, Biometrika 25, 1933): a success
// share is drawn from the evidence about each (a Beta posterior over discounted outcomes), and the highest draw wins.
// Good proxies win mostly, and little-known ones sometimes, so recoveries and failures are noticed. The prior for new
// proxies is learnt too: where most proxies are dead, trials are expensive. The floating-point draws are made once, and
// the choice is recorded.
import { randomBeta } from "d3-random";
import type { Draw } from "../decide/chance.ts";
import type { Evidence, PoolState, Proxy } from "../fold/state.ts";
import { bestAt, discounted, evidenceAt, meanOf, one } from "./evidence.ts";
import { type Lots, proxyOfLot } from "./lots.ts";

/**
 * The candidates are this many proxies with the best mean, and as many with the best mean at the target. More would cost
 * more than they gain (`bench -- bandit`).
 */
export const candidatesBest = 8;
export const candidatesByLot = 1;
/** At most this many proxies known at a target are checked for one that can be leased. */
export const lookedAtMax = 32;
/** The prior for unknown proxies has the weight of this many outcomes. */
const priorWeight = 2;
/** Evidence from other targets has at most the weight of this many outcomes. */
const elsewhereMax = 4 * one;

/** The inputs of a choice besides the state. */
export interface Chance {
  /** The chance of the grant's event. Only strategies that draw call it. */
  draw: () => Draw;
  target: string | undefined;
}

interface Winner {
  proxy: Proxy;
  /** The reasons of the choice: counts, and the draw in thousandths. */
  ranked: Record<string, number>;
}

/** @param from.inOrder proxies that can be leased, the best first, one of each exit. Undefined: there is none. */
export function sample(
  state: PoolState,
  from: { inOrder: Iterable<Proxy>; isFree: (proxy: Proxy) => boolean; lots: Lots },
  chance: Chance,
): Winner | undefined {
  const { strategy } = state.rules.policy;
  const target = strategy.kind === "bandit" && strategy.by === "target" ? chance.target : undefined;
  const candidates = new Set<Proxy>();
  for (const proxy of from.inOrder) {
    candidates.add(proxy);
    if (candidates.size === candidatesBest) break;
  }
  if (candidates.size === 0) return undefined;
  if (target !== undefined) addKnown(state, candidates, from.isFree, target);
  const draw = chance.draw();
  for (let i = 0; i < candidatesByLot; i++) {
    const { proxy } = proxyOfLot(from.lots, draw.upTo(from.lots.lots - 1));
    if (from.isFree(proxy)) candidates.add(proxy); // It may be excluded.
  }
  return bestOf(state, candidates, target, draw);
}

function addKnown(state: PoolState, candidates: Set<Proxy>, isFree: (proxy: Proxy) => boolean, target: string): void {
  let lookedAt = 0;
  let added = 0;
  for (const proxy of bestAt(state, target)) {
    if (lookedAt++ === lookedAtMax || added === candidatesBest) return;
    if (!isFree(proxy)) continue;
    candidates.add(proxy);
    added++;
  }
}

/** @param candidates at least one. @param target the request's, where the pool learns by target. */
function bestOf(
  state: PoolState,
  candidates: Iterable<Proxy>,
  target: string | undefined,
  draw: Draw,
): Winner | undefined {
  const shareOf = randomBeta.source(draw.unit);
  const expected = (priorWeight * meanOf(discounted(state, state.newcomers))) / 1_000_000;
  let winner: { proxy: Proxy; evidence: Evidence; drawn: number } | undefined;
  let count = 0;
  for (const proxy of candidates) {
    count++;
    const evidence = knownOf(state, proxy, target);
    const drawn = shareOf(expected + evidence.successes / one, priorWeight - expected + evidence.failures / one)();
    if (winner === undefined || drawn > winner.drawn) winner = { proxy, evidence, drawn };
  }
  if (winner === undefined) return undefined;
  const { proxy, evidence, drawn } = winner;
  const ranked = {
    successesMilli: Math.floor((evidence.successes * 1000) / one),
    failuresMilli: Math.floor((evidence.failures * 1000) / one),
    drawnMilli: Math.floor(drawn * 1000),
    expectedMilli: Math.floor((expected * 1000) / priorWeight),
    candidates: count,
  };
  return { proxy, ranked };
}

function knownOf(state: PoolState, proxy: Proxy, target: string | undefined): Evidence {
  const all = discounted(state, proxy.evidence);
  if (target === undefined) return all;
  const here = evidenceAt(state, proxy, target);
  const share = Math.min(1, elsewhereMax / Math.max(1, all.successes + all.failures));
  return {
    successes: here.successes + Math.floor(all.successes * share),
    failures: here.failures + Math.floor(all.failures * share),
    at: state.at,
  };
}
