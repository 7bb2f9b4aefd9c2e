// The cost of picking a proxy, against the number of proxies: `npm run bench -- decide [strategy…]`. A step is a grant
// and its report (three events), decided and folded, with nothing stored. Figures are ratios within one run. The
// machine is named with them.
import { cpus } from "node:os";
import { leaseRequestSchema } from "../protocol/lease.ts";
import { Candidates } from "../state-machines/candidates/candidates.ts";
import { Turn } from "../state-machines/decide/turn.ts";
import { decide } from "../state-machines/decide.ts";
import { PoolState } from "../state-machines/fold/state.ts";
import { everyStrategy } from "./strategies.ts";

const sizes = [100, 10_000, 1_000_000];
const strategies = everyStrategy({ intervalMs: 500, halfLifeMs: 1000 });
type Strategy = (typeof strategies)[number];
const steps = 100_000;
const plain = leaseRequestSchema.parse({});
const labelled = leaseRequestSchema.parse({ labels: { country: "DE" }, schemes: ["http"], target: "example.org" });
const chance = "0123456789abcdef0123456789abcdef";

export function benchDecide(): void {
  console.log(
    `${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}; ${steps} grants and reports each`,
  );
  console.log(`an open lease: ${openLeaseBytes().toFixed(0)} bytes of heap`);
  console.log("strategy            proxies    µs a step   against 100 proxies   bytes a proxy");
  const wanted = process.argv.slice(3);
  for (const strategy of strategies) {
    if (wanted.length > 0 && !wanted.includes(strategy.kind)) continue;
    let base = 0;
    for (const size of sizes) {
      const { us, bytes } = measure(strategy, size);
      if (base === 0) base = us;
      const ratio = (us / base).toFixed(2);
      const shown = [
        String(size).padStart(8),
        us.toFixed(2).padStart(12),
        ratio.padStart(21),
        (size < 10_000 ? "–" : bytes.toFixed(0)).padStart(15),
      ];
      console.log(`${nameOf(strategy).padEnd(18)} ${shown.join(" ")}`);
    }
  }
}

function nameOf(strategy: Strategy): string {
  return strategy.kind === "bandit" && strategy.by === "target" ? `${strategy.kind} by ${strategy.by}` : strategy.kind;
}

/** In a separate function, so that one pool is garbage before the next is measured. */
function measure(strategy: Strategy, size: number): { us: number; bytes: number } {
  const before = heapUsed();
  const bench = build(strategy, size);
  const bytes = (heapUsed() - before) / size;
  run(bench, steps / 10);
  return { us: Math.min(run(bench, steps), run(bench, steps)), bytes };
}

/** Of leases that are not reported, two on each proxy. */
function openLeaseBytes(): number {
  const bench = build(strategies[0], steps / 2);
  const before = heapUsed();
  for (let done = 0; done < steps; done += 50) {
    const turn = new Turn(bench.state, { at: bench.at, chance, candidates: bench.candidates });
    for (let i = 0; i < 50; i++) lease(bench, turn, plain);
  }
  bench.held = [];
  return (heapUsed() - before) / steps;
}

interface Bench {
  state: PoolState;
  candidates: Candidates;
  at: number;
  leases: number;
  held: string[];
}

function build(strategy: Strategy, size: number): Bench {
  const state = new PoolState("bench");
  const bench: Bench = { state, candidates: new Candidates(state), at: 1_000_000, leases: 0, held: [] };
  const turn = new Turn(state, { at: bench.at, chance, candidates: bench.candidates });
  // A rate that a hundred proxies can sustain at this pace. No other limit applies.
  const policy = { strategy, rate: { limit: 60, windowMs: 1000 }, usage: null, concurrency: 2 };
  decide(turn, { type: "open", policy, keyFingerprint: "bench" });
  for (let i = 0; i < size; i++) {
    const host = `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
    const address = { scheme: "http", host, port: 8080 } as const;
    const id = `p_${String(i).padStart(16, "0")}`;
    const labels = { country: i % 2 === 0 ? "DE" : "FR" };
    decide(turn, { type: "add", newcomer: { id, address, labels, allLabels: true } });
  }
  bench.candidates.indexFor(plain);
  bench.candidates.indexFor(labelled);
  return bench;
}

/**
 * Microseconds of processor time per step, including the garbage collector's, because other programs may run. A turn
 * has fifty grants, as a busy loop's commits do. 25 ms pass between turns, so that windows expire.
 */
function run(bench: Bench, count: number): number {
  const { state, candidates } = bench;
  const before = process.cpuUsage();
  for (let done = 0; done < count; ) {
    bench.at += 25;
    const turn = new Turn(state, { at: bench.at, chance, candidates });
    decide(turn, { type: "tick" });
    for (const leaseId of bench.held) decide(turn, { type: "report", outcome: { leaseId, status: 200 } });
    bench.held = [];
    for (let i = 0; i < 50; i++, done++) {
      lease(bench, turn, i % 2 === 0 ? plain : labelled);
    }
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

function lease(bench: Bench, turn: Turn, request: typeof plain): void {
  const leaseId = `l_${String(++bench.leases).padStart(22, "0")}`;
  const answer = decide(turn, { type: "lease", request, leaseId, deadline: 0 });
  if (answer === "later" || !("lease" in answer)) throw new Error(`the benchmark ran dry: ${JSON.stringify(answer)}`);
  bench.held.push(leaseId);
}

function heapUsed(): number {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}
