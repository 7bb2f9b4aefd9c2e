// Whether the bandit chooses better: `npm run bench -- bandit [seeds] [--first seed] [--threads n]`. It compares the
// success shares of four strategies in worlds that change (bench/worlds.ts), through the real decisions in virtual
// time, on all cores. It prints a table and draws docs/bandit.svg. The bandit was tuned with the seeds from 1 on: for a
// proof begin elsewhere.
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { type Random, randomOf } from "../demo/random.ts";
import { leaseRequestSchema } from "../protocol/lease.ts";
import { Candidates } from "../state-machines/candidates/candidates.ts";
import { tick } from "../state-machines/decide/timers.ts";
import { Turn } from "../state-machines/decide/turn.ts";
import { decide } from "../state-machines/decide.ts";
import { PoolState } from "../state-machines/fold/state.ts";
import { plotOf } from "./plot.ts";
import { lastsMs, type Scenario, scenarios, spread, worldOf } from "./worlds.ts";

export const compared = ["bandit", "best", "round-robin", "random"] as const;
type Compared = (typeof compared)[number];

/** For one seed and each strategy: the share of granted leases that succeeded, and the number of refused requests. */
type Run = Record<Compared, { share: number; refused: number }>;

const stepMs = 500;
const startAt = 1_000_000;

export async function benchBandit(): Promise<void> {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(3),
    allowPositionals: true,
    options: { first: { type: "string", default: "1" }, threads: { type: "string" } },
  });
  const seeds = Number(positionals[0] ?? 200);
  const first = Number(values.first);
  const threads = Math.min(Number(values.threads ?? availableParallelism()), seeds);
  const which = `seeds ${first} to ${first + seeds - 1}`;
  console.log(`${cpus()[0]?.model ?? "?"}, node ${process.version}; ${which}, ${lastsMs / 3_600_000} h each`);
  const summaries = [];
  for (const [index, scenario] of scenarios.entries()) {
    const runs = await runsOf(index, { first, seeds, threads });
    console.log(`\n${scenario.name}: ${scenario.what}`);
    console.log("  strategy       p5     median  p95     refused   bandit ahead by (p5, median)");
    const rows = compared.map((strategy) => {
      const shares = percentiles(runs.map((run) => run[strategy].share));
      const ahead = percentiles(runs.map((run) => run.bandit.share - run[strategy].share));
      const refused = runs.reduce((sum, run) => sum + run[strategy].refused, 0) / runs.length;
      const shown = [shares.p5, shares.median, shares.p95, refused].map((share) => percent(share).padEnd(8)).join("");
      const against = strategy === "bandit" ? "" : `  ${points(ahead.p5)}, ${points(ahead.median)}`;
      console.log(`  ${strategy.padEnd(14)} ${shown}${against}`);
      return { strategy, ...shares };
    });
    summaries.push({ name: scenario.name, rows });
  }
  writeFileSync(new URL("../docs/bandit.svg", import.meta.url), plotOf(summaries, seeds));
  console.log("\nwritten: docs/bandit.svg");
}

interface Part {
  scenario: number;
  /** Takes every n-th of the seeds. */
  first: number;
  every: number;
  last: number;
}

function runsOf(scenario: number, of: { first: number; seeds: number; threads: number }): Promise<Run[]> {
  const parts = Array.from({ length: of.threads }, (_, i) => {
    const part: Part = { scenario, first: of.first + i, every: of.threads, last: of.first + of.seeds - 1 };
    const worker = new Worker(new URL(import.meta.url), { workerData: part });
    return new Promise<Run[]>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  });
  return Promise.all(parts).then((runs) => runs.flat());
}

function simulate(scenario: Scenario, strategy: Compared, seed: number): { share: number; refused: number } {
  const world = worldOf(scenario, seed);
  const random = randomOf((seed + 1_000_003) * spread);
  const state = new PoolState("bench");
  const candidates = new Candidates(state);
  const shares = [...world.shares];
  const request = leaseRequestSchema.parse({});
  const inUse: { leaseId: string; proxy: number; endsAt: number }[] = [];
  const numbers = new Map<string, number>();
  let [succeeded, failed, refused, changed, leases] = [0, 0, 0, 0, 0];
  const first = new Turn(state, { at: startAt, chance: chanceOf(random), candidates });
  const policy = { ...scenario.policy, strategy: { kind: strategy } };
  decide(first, { type: "open", policy, keyFingerprint: "bench" });
  for (let i = 0; i < world.proxies; i++) {
    const id = `p_${String(i).padStart(16, "0")}`;
    numbers.set(id, i);
    const address = { scheme: "http", host: `10.0.${i >> 8}.${i & 255}`, port: 8080 } as const;
    decide(first, { type: "add", newcomer: { id, address, labels: {}, allLabels: true } });
  }
  for (let passed = stepMs; passed <= lastsMs; passed += stepMs) {
    for (let change = world.changes[changed]; change !== undefined && change.at <= passed; ) {
      for (const proxy of change.proxies) shares[proxy] = change.share;
      change = world.changes[++changed];
    }
    const turn = new Turn(state, { at: startAt + passed, chance: chanceOf(random), candidates });
    for (let i = inUse.length - 1; i >= 0; i--) {
      const { leaseId, proxy, endsAt } = inUse[i]!; // The index is within the list.
      if (endsAt > turn.at) continue;
      inUse[i] = inUse.at(-1)!;
      inUse.pop();
      const good = random() < shares[proxy]!; // Every proxy has a share.
      const seen = good ? { status: 200 } : random() < 0.5 ? { status: 403 } : { error: "ECONNRESET" };
      decide(turn, { type: "report", outcome: { leaseId, ...seen, latencyMs: world.latencies[proxy] } });
      if (good) succeeded++;
      else failed++;
    }
    while (!tick(turn));
    for (let i = 0; i < (scenario.requestsPerSecond * stepMs) / 1000; i++) {
      const leaseId = `l_${String(++leases).padStart(22, "0")}`;
      const answer = decide(turn, { type: "lease", request, leaseId, deadline: 0 });
      if (answer === "later" || !("lease" in answer)) refused++;
      else {
        const { id, proxy } = answer.lease;
        const number = numbers.get(proxy.id)!; // Each was numbered when added.
        inUse.push({ leaseId: id, proxy: number, endsAt: turn.at + world.latencies[number]! });
      }
    }
  }
  return { share: succeeded / (succeeded + failed), refused: refused / leases };
}

function chanceOf(random: Random): string {
  return Array.from({ length: 4 }, () =>
    Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, "0"),
  ).join("");
}

function percentiles(values: number[]): { p5: number; median: number; p95: number } {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))]!; // Never empty.
  return { p5: at(0.05), median: at(0.5), p95: at(0.95) };
}

const percent = (share: number): string => (share * 100).toFixed(1);
const points = (share: number): string => `${share < 0 ? "" : "+"}${(share * 100).toFixed(1)}`;

if (!isMainThread && parentPort !== null) {
  const { scenario, first, every, last } = workerData as Part;
  const runs: Run[] = [];
  for (let seed = first; seed <= last; seed += every) {
    const of = (strategy: Compared) => simulate(scenarios[scenario]!, strategy, seed); // Named by the caller.
    runs.push({ bandit: of("bandit"), best: of("best"), "round-robin": of("round-robin"), random: of("random") });
  }
  parentPort.postMessage(runs);
}
