// Chaos: real processes under load, one fault after the other, and an observer at the target that does not depend on
// the service. docs/chaos.md lists the faults and the checks.
//
//   npm run chaos -- --minutes 10 --seed 7
//
// A seed fixes the faults and their order, but not how they meet the load.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { messageOf } from "../../runtime/fault.ts";
import { dismiss, muster, settled } from "../e2e/exactness-run.ts";
import { readLedger, verdictOf } from "../e2e/exactness-verdict.ts";
import { monotonicMs, type Seen } from "../e2e/exactness-worker.ts";
import { runCommand } from "../kit/command.ts";
import { eventually } from "../kit/poll.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { seeded } from "../kit/seed.ts";
import { startTarget, type Target } from "../kit/target.ts";
import { describeFault, type Fault, faultsOf, servesWithinMs } from "./faults.ts";
import { Prober } from "./prober.ts";
import { Stage } from "./stage.ts";
import { type Struck, strike } from "./strike.ts";

/** Workers use its leases at the target. */
const pool = "limits";
/** Its leases are never used, and never run out. */
const probed = "open";
const workers = 8;
/** A window that is longer than a cold start takes: a limit that it forgets would show. */
const rules = { limit: 20, windowMs: 20_000, concurrency: 2, graceMs: 1500, exits: 4 };
/** All are held back by rate and concurrency alone. */
const free = { usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const policies = {
  [pool]: {
    ...free,
    rate: { limit: rules.limit, windowMs: rules.windowMs },
    concurrency: rules.concurrency,
    lease: { ttlMs: 1500, graceMs: rules.graceMs },
  },
  [probed]: { ...free, rate: null, concurrency: null, lease: { ttlMs: 5000 } },
};
const sluggishExits = ["127.0.1.4"];
/** So that a list of them is long. They rest, so that no worker gets one. */
const resting = { count: 200, forMs: 86_400_000, note: "x".repeat(200) };
/** An election takes seconds. */
const clusterFactor = 2;
const lookMs = 50;
const wholeMsMax = 60_000;
const showsMsMax = 60_000;
const obligeMsMax = 60_000;

export interface Plan {
  seconds: number;
  seed: number;
  /** How many brokers. Default: 1. */
  nodes?: 1 | 3;
  /** Only these kinds of faults. */
  kinds?: readonly string[] | undefined;
  /** The stated times are multiplied by it: a busy machine is slower. */
  patience?: number;
  say?: (line: string) => void;
}

export interface Outcome {
  /** Sentences, each with its evidence. If empty, all promises were kept. */
  findings: string[];
  faults: number;
  /** The output of the service and the workers. */
  said: string;
}

export async function runChaos({
  seconds,
  seed,
  nodes = 1,
  kinds,
  patience = 1,
  say = () => {},
}: Plan): Promise<Outcome> {
  const findings: string[] = [];
  const times: { fault: Fault; ms: number }[] = [];
  const stage = await Stage.open({ nodes });
  const target = await startTarget();
  const random = seeded(seed);
  let trouble: string[] = [];
  let prober: Prober | undefined;
  let crew: Awaited<ReturnType<typeof muster>> | undefined;
  try {
    stage.start();
    await openPools(stage);
    const { natsUrl } = stage;
    prober = new Prober({ natsUrl, httpUrl: () => stage.httpUrl, pool: probed, asked: pool });
    crew = await muster({
      ...{ natsUrl, pool, targetPort: target.port, seed },
      sluggish: { exits: sluggishExits, spanMs: rules.windowMs, startedAt: monotonicMs() },
      workers: Array.from({ length: workers }, (_, i) => i),
    });
    const startedOn = monotonicMs();
    const at = (): string => `${((monotonicMs() - startedOn) / 1000).toFixed(1).padStart(6)} s`;
    await served(prober, { since: startedOn, withinMs: wholeMsMax });
    for (const fault of faultsOf(seed, nodes)) {
      if (kinds !== undefined && !kinds.includes(fault.kind)) continue;
      await sleep(random.int(200, 1500));
      if (monotonicMs() - startedOn > seconds * 1000) break;
      const described = describeFault(fault);
      say(`${at()}  ${described}`);
      const ms = await suffer(fault, {
        stage,
        prober,
        withinMs: servesWithinMs(fault) * patience * (nodes === 3 ? clusterFactor : 1),
      });
      if (typeof ms === "string") {
        say(`${at()}  FINDING: ${ms}`);
        findings.push(`${described}: ${ms}`);
      } else times.push({ fault, ms });
      await eventually(() => whole(stage), { timeoutMs: wholeMsMax * patience });
    }
    const endsOn = monotonicMs();
    const isReached = (): boolean => {
      const most = [...target.maxInWindow(rules.windowMs).values()];
      return most.length === rules.exits && most.every((each) => each >= rules.limit);
    };
    if (!isReached()) crew.send("oblige");
    while (!isReached() && monotonicMs() < endsOn + obligeMsMax) await sleep(lookMs);
    const seen = await dismiss(crew);
    await prober.stop();
    trouble = seen.trouble;
    findings.push(...(await examine({ stage, target, seen, prober, say })));
  } catch (error) {
    findings.push(`the run was given up: ${messageOf(error)}`);
  }
  try {
    findings.push(...stage.ends());
    for (const line of summary(times)) say(line);
    say(`seed ${seed}: ${times.length} faults, ${findings.length} findings`);
    return { findings, faults: times.length, said: [stage.said(), ...trouble].join("\n") };
  } finally {
    crew?.kill("SIGKILL");
    await prober?.stop();
    await target.stop();
    await stage.close();
  }
}

/** Resolves with how long nothing was served, or with a sentence. */
async function suffer(
  fault: Fault,
  { stage, prober, withinMs }: { stage: Stage; prober: Prober; withinMs: number },
): Promise<number | string> {
  let struck: Struck | undefined;
  let isUndone = false;
  const undo = async (): Promise<void> => {
    isUndone = true;
    await struck?.undo?.();
  };
  try {
    const struckOn = monotonicMs();
    struck = await strike(fault, { stage, pool });
    let ms = 0;
    if (struck.shows === undefined) ms = await served(prober, { since: struckOn, withinMs });
    else await eventually(struck.shows, { timeoutMs: showsMsMax });
    await eventually(() => struck?.isOver?.(), { timeoutMs: withinMs });
    if (struck.undo === undefined) return ms;
    await undo();
    return Math.max(ms, await served(prober, { since: monotonicMs(), withinMs }));
  } catch (error) {
    if (!isUndone) await undo();
    return messageOf(error);
  }
}

async function served(prober: Prober, given: { since: number; withinMs: number }): Promise<number> {
  await eventually(
    () => {
      const ways = prober.unservedSince(given.since);
      if (ways.length > 0) throw new Error(`not served: ${ways.join(", ")}`);
    },
    { timeoutMs: given.withinMs, everyMs: lookMs },
  );
  return monotonicMs() - given.since;
}

function whole(stage: Stage): void {
  if (!stage.isWhole) throw new Error("a process does not run");
}

async function openPools(stage: Stage): Promise<void> {
  await eventually(() => whole(stage), { timeoutMs: wholeMsMax });
  const nats = await connectRaw(stage.natsUrl);
  const call = async (subject: string, body: object): Promise<Record<string, unknown>> => {
    const answer = await nats.request(subject, JSON.stringify(body));
    const reply = answer.json<Record<string, unknown>>();
    if (reply["code"] !== undefined) throw new Error(`${subject}: ${answer.body}`);
    return reply;
  };
  for (const [name, policy] of Object.entries(policies)) await call(`remuda.pool.open.${name}`, { policy });
  const shared = ["a", "b"].map((each) => ({ url: `http://gateway-${each}.test:8080`, labels: { exit: "127.0.1.4" } }));
  const own = [1, 2, 3].map((last) => `127.0.1.${last}:8080`);
  await call(`remuda.proxies.add.${pool}`, { proxies: [...own, ...shared] });
  await call(`remuda.proxies.add.${probed}`, { proxies: own });
  const idle = Array.from({ length: resting.count }, (_, i) => ({
    url: `http://idle-${i}.test:8080`,
    labels: Object.fromEntries(["a", "b", "c", "d"].map((label) => [label, resting.note])),
  }));
  const { ids } = (await call(`remuda.proxies.add.${pool}`, { proxies: idle, ids: true })) as { ids: string[] };
  await call(`remuda.proxies.rest.${pool}`, { ids, forMs: resting.forMs });
  await nats.close();
}

/**
 * Compares the target's requests and the clients' answers with the ledgers, and adds the findings of the audit's
 * checker.
 */
async function examine({
  stage,
  target,
  seen,
  prober,
  say,
}: {
  stage: Stage;
  target: Target;
  seen: Seen;
  prober: Prober;
  say: (line: string) => void;
}): Promise<string[]> {
  const nats = await connectRaw(stage.natsUrl);
  await settled(nats, pool);
  const [used, unused] = [await readLedger(nats, pool), await readLedger(nats, probed)];
  await nats.close();
  const monotonicOffset = monotonicMs() - performance.now();
  const wallMs = Date.now() - monotonicMs();
  const arrivals = target.arrivals.map(({ exit, at }) => ({ exit, at: at + monotonicOffset }));
  const limited = verdictOf({ rules, arrivals, seen, ledger: used, wallMs });
  // No use, so no limit: only that each lease is in the ledger, and was granted once.
  const noLimits = { ...rules, concurrency: Infinity, exits: 0 };
  const asked = { ...seen, held: prober.held };
  const unlimited = verdictOf({ rules: noLimits, arrivals: [], seen: asked, ledger: unused, wallMs });
  say(
    `${seen.held.length} of ${limited.granted} leases answered and used, ${prober.held.length} of ${unlimited.granted} ` +
      `answered to probes; ${arrivals.length} requests at the target, at most ${limited.most} per exit in any ` +
      `${rules.windowMs / 1000} s (limit ${rules.limit}); ${limited.outcomesLost} published outcomes lost`,
  );
  const audits: string[] = [];
  for (const name of [pool, probed]) {
    const at = { dataDir: stage.dataDir, env: { REMUDA_NATS_URL: stage.natsUrl } };
    const { code, stdout, stderr } = await runCommand(["audit", "verify", "--pool", name], at);
    if (code !== 0) audits.push(`audit verify: ${stdout}${stderr}`);
  }
  return [...limited.faults, ...unlimited.faults, ...audits];
}

/** The longest time for each kind of fault. */
function summary(times: readonly { fault: Fault; ms: number }[]): string[] {
  const worst = new Map<string, { count: number; ms: number; statedMs: number }>();
  for (const { fault, ms } of times) {
    const name = titleOf(fault);
    const before = worst.get(name) ?? { count: 0, ms: 0, statedMs: servesWithinMs(fault) };
    worst.set(name, { ...before, count: before.count + 1, ms: Math.max(before.ms, ms) });
  }
  return [...worst]
    .sort(([one], [other]) => one.localeCompare(other))
    .map(
      ([name, { count, ms, statedMs }]) =>
        `${name.padEnd(44)} ${count} times, served within ${Math.round(ms)} of ${statedMs} ms`,
    );
}

function titleOf(fault: Fault): string {
  if (fault.kind === "freeze") return `SIGSTOP to ${fault.part}`;
  if (fault.kind === "clock") return `clock, ${fault.takeover}`;
  if (fault.kind === "stream") return `stream ${fault.stream} deleted`;
  return fault.kind === "payload" ? "max_payload" : describeFault(fault);
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { minutes: text, seed: text, nodes: text, only: text } });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
  const { findings, said } = await runChaos({
    seconds: Number(values.minutes ?? 10) * 60,
    seed,
    nodes: values.nodes === "3" ? 3 : 1,
    kinds: values.only?.split(","),
    say: console.log,
  });
  if (findings.length === 0) return;
  console.error(`${said}\n${findings.join("\n")}\nseed ${seed} makes the same faults again`);
  process.exitCode = 1;
}

if (import.meta.main) await main();
