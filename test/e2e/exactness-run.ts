// Checks the exactness of the whole service under load and under kill -9: real processes, a real broker, real requests,
// and an observer at the target that does not depend on the service. A longer run:
//
//   npx node test/e2e/exactness-run.ts --seconds 300 --kills 20 --seed 7 [--broker-kills 5] [--window 10]
//
// To see the observer find something, change the policy: --spoil '{"countFrom":"grant"}', or lease.graceMs 200.
//
// 64 workers in four processes ask for more than the limits of 20 proxies with 18 exits allow. Kills happen at random
// moments. The service is started again at once, on the same data directory and port. If only the broker is killed, the
// service restarts it. A seed fixes the moments and how the workers behave, but not how they interleave.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { freePort } from "../../demo/free-port.ts";
import { type BrokerRecord, isAlive, readBrokerRecord } from "../../runtime/broker/record.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";
import { seeded } from "../kit/seed.ts";
import { startTarget } from "../kit/target.ts";
import { readLedger, type Verdict, verdictOf } from "./exactness-verdict.ts";
import { monotonicMs, type Orders, type Seen } from "./exactness-worker.ts";

const pool = "exactness";
const workersMax = 64;
const processesMax = 4;
/** Requests travel up to 300 ms and are given up after 400. The remainder allows for a busy machine. */
const graceMs = 700;
/** On a busy machine an exit may need many windows until no lease of one is lost. A quiet one needs no more time. */
const obligeMsMax = 60_000;
/** The limit is three uses a second, whatever the window. */
const rulesFor = (windowMs: number) => ({ limit: (3 * windowMs) / 1000, windowMs, concurrency: 2, graceMs, exits: 18 });
/** Both kinds of exit: with one proxy, and with two. */
const sluggishExits = ["127.0.1.15", "127.0.1.16", "127.0.1.17"];
/** Only rate and concurrency hold a proxy back. */
const policyFor = ({ limit, windowMs, concurrency }: ReturnType<typeof rulesFor>) => ({
  rate: { limit, windowMs },
  concurrency,
  usage: null,
  failures: null,
  streak: null,
  backoff: { kind: "none" },
  lease: { ttlMs: 600, graceMs },
});

export interface Plan {
  seconds: number;
  /** Of the rate. */
  windowMs: number;
  /** SIGKILLs of the whole service. Its broker gets one too, or is left to the service's watchdog. */
  kills: number;
  /** SIGKILLs of nats-server alone. */
  brokerKills: number;
  seed: number;
  say?: (line: string) => void;
  /** Replaces fields of the policy. */
  spoil?: object;
}

export interface Outcome extends Verdict {
  /** One readable line. */
  figures: string;
  /** The output of the service, and the errors of the workers. */
  said: string;
}

export async function runExactness(plan: Plan): Promise<Outcome> {
  const say = plan.say ?? (() => {});
  const rules = rulesFor(plan.windowMs);
  const dataDir = await mkdtemp(join(tmpdir(), "exactness-"));
  const target = await startTarget();
  const crew: ChildProcess[] = [];
  const services: RemudaProcess[] = [];
  const random = seeded(plan.seed);
  try {
    const natsPort = await freePort();
    const start = async () => {
      const remuda = await startRemuda({ dataDir, env: { REMUDA_NATS_PORT: String(natsPort) } });
      services.push(remuda);
      return remuda;
    };
    const first = await start();
    await openPool(first.natsUrl, { ...policyFor(rules), ...plan.spoil });
    const orders = {
      natsUrl: first.natsUrl,
      pool,
      targetPort: target.port,
      seed: plan.seed,
      sluggish: { exits: sluggishExits, spanMs: rules.windowMs, startedAt: monotonicMs() },
    };
    const workersOf = (i: number) => Array.from({ length: workersMax / processesMax }, (_, k) => i + k * processesMax);
    const places = Array.from({ length: processesMax }, (_, i) => i);
    await Promise.all(places.map(async (i) => crew.push(await muster({ ...orders, workers: workersOf(i) }))));

    const startedOn = performance.now();
    const kinds = [
      ...Array.from({ length: plan.kills }, () => random.pick(["service", "service and broker"])),
      ...Array.from({ length: plan.brokerKills }, () => "broker"),
    ];
    const kills = kinds
      .map((what) => ({ what, atMs: Math.round((0.08 + 0.8 * random.next()) * plan.seconds * 1000) }))
      .sort((a, b) => a.atMs - b.atMs);
    for (const { what, atMs } of kills) {
      await sleep(Math.max(0, startedOn + atMs - performance.now()));
      say(`kill -9 of the ${what} at ${Math.round(performance.now() - startedOn)} ms (planned at ${atMs})`);
      const broker = livingBroker(dataDir);
      const died = what === "broker" ? undefined : services.at(-1)!.kill9(); // At least one was started.
      // Otherwise the service's watchdog ends the broker a moment later, with SIGTERM.
      if (what !== "service") process.kill(broker.pid, "SIGKILL");
      await died;
      if (what === "broker") await anotherBroker(dataDir, broker);
      else await start();
    }
    // On a busy machine the last kill comes late.
    const endsOn = Math.max(startedOn + plan.seconds * 1000, performance.now());
    await sleep(Math.max(0, endsOn - performance.now()));
    // A lease that a stall made too late, or whose answer a kill lost, is missing in its window. Then an exit may need
    // another window to reach its limit.
    const isReached = () => {
      const most = [...target.maxInWindow(rules.windowMs).values()];
      return most.length === rules.exits && most.every((each) => each >= rules.limit);
    };
    // From now on the workers use every lease at once, so that each exit fills its next whole window.
    if (!isReached()) for (const child of crew) child.send("oblige");
    while (!isReached() && performance.now() < endsOn + obligeMsMax) await sleep(250);
    const seen = merge(await Promise.all(crew.map(dismiss)));
    const lastedMs = performance.now() - startedOn;

    if (services.at(-1)?.child.exitCode !== null) throw new Error(`the service ended\n${services.at(-1)?.output()}`);
    const nats = await connectRaw(first.natsUrl);
    await settled(nats, pool);
    const auditor = await connectRaw(first.natsUrlAs("auditor"));
    const ledger = await readLedger(auditor, pool);
    await Promise.all([nats.close(), auditor.close()]);
    const monotonicOffset = monotonicMs() - performance.now();
    const arrivals = target.arrivals.map(({ exit, at }) => ({ exit, at: at + monotonicOffset }));
    const verdict = verdictOf({ rules, arrivals, seen, ledger, wallMs: Date.now() - monotonicMs() });
    const figures = describe({ plan, verdict, seen, lastedMs, requests: arrivals.length });
    say(figures);
    const said = [...services.map((remuda) => remuda.output()), ...seen.trouble].join("\n");
    return { ...verdict, figures, said };
  } finally {
    for (const child of crew) child.kill("SIGKILL");
    // First an orderly end, which also ends the broker; then the processes that a failure left.
    await services.at(-1)?.interrupt();
    await Promise.all(services.map((remuda) => remuda.stop()));
    await target.stop();
    await rm(dataDir, { recursive: true, force: true, maxRetries: 50 });
  }
}

/** 16 proxies with an exit each, and two exits with two proxies each. */
async function openPool(natsUrl: string, wanted: object): Promise<void> {
  const own = Array.from({ length: 16 }, (_, i) => `127.0.1.${i + 1}:8080`);
  const shared = [17, 18].flatMap((last) =>
    ["a", "b"].map((name) => ({
      url: `http://gateway-${last}${name}.test:8080`,
      labels: { exit: `127.0.1.${last}` },
    })),
  );
  const nats = await connectRaw(natsUrl);
  const call = async (subject: string, body: object): Promise<Record<string, unknown>> => {
    const answer = await nats.request(`${subject}.${pool}`, JSON.stringify(body));
    const reply = answer.json<Record<string, unknown>>();
    if (reply["code"] !== undefined) throw new Error(`${subject}: ${answer.body}`);
    return reply;
  };
  await call("remuda.pool.open", { policy: wanted });
  const { added } = await call("remuda.proxies.add", { proxies: [...own, ...shared] });
  if (added !== own.length + shared.length) throw new Error(`only ${added} proxies were added`);
  await nats.close();
}

export async function muster(orders: Orders): Promise<ChildProcess> {
  const script = fileURLToPath(new URL("exactness-worker.ts", import.meta.url));
  const child = fork(script, [JSON.stringify(orders)], { execArgv: [], serialization: "advanced" });
  await once(child, "message");
  return child;
}

export async function dismiss(child: ChildProcess): Promise<Seen> {
  if (child.exitCode !== null) throw new Error(`a worker process ended by itself, ${child.exitCode}`);
  child.send("stop");
  const [seen] = await once(child, "message");
  return seen as Seen; // A worker process sends two messages: "ready", and this one.
}

function merge(all: readonly Seen[]): Seen {
  const refused: Record<string, number> = {};
  for (const [code, count] of all.flatMap((seen) => Object.entries(seen.refused))) {
    refused[code] = (refused[code] ?? 0) + count;
  }
  return {
    held: all.flatMap(({ held }) => held),
    outageMs: Math.max(...all.map(({ outageMs }) => outageMs)),
    refused,
    tooLate: all.reduce((sum, { tooLate }) => sum + tooLate, 0),
    lost: all.reduce((sum, { lost }) => sum + lost, 0),
    trouble: all.flatMap(({ trouble }) => trouble),
  };
}

/** The broker that the data directory names. */
function livingBroker(dataDir: string): BrokerRecord {
  const record = readBrokerRecord(join(dataDir, "nats", "broker.json"));
  if (record === undefined || !isAlive(record)) throw new Error("no living broker is on record");
  return record;
}

/** Resolves when the service has started another broker. */
async function anotherBroker(dataDir: string, killed: BrokerRecord): Promise<void> {
  await eventually(
    () => {
      if (livingBroker(dataDir).pid === killed.pid) throw new Error("the broker is not back");
    },
    { timeoutMs: 20_000 },
  );
}

/** All leases have ended, and all outcomes have been ingested. */
export async function settled(nats: RawNats, pool: string): Promise<void> {
  let lastSequence = -1;
  await eventually(
    async () => {
      const stats = (await nats.request(`remuda.pool.stats.${pool}`)).json<{
        sequence: number;
        leases: { open: number };
      }>();
      const still = stats.sequence === lastSequence;
      lastSequence = stats.sequence;
      if (stats.leases.open > 0 || !still) throw new Error(`not settled: ${JSON.stringify(stats)}`);
    },
    { timeoutMs: 20_000, everyMs: 700 },
  );
}

function describe(told: { plan: Plan; verdict: Verdict; seen: Seen; lastedMs: number; requests: number }): string {
  const { plan, verdict, seen, lastedMs, requests } = told;
  const rules = rulesFor(plan.windowMs);
  const possible = rules.limit * rules.exits * Math.ceil(lastedMs / rules.windowMs);
  const refused = Object.entries(seen.refused).map(([code, count]) => `${count} ${code}`);
  return [
    `exactness, seed ${plan.seed}: ${(lastedMs / 1000).toFixed(1)} s`,
    `${plan.kills} kills of the service, ${plan.brokerKills} of the broker alone`,
    `longest outage ${Math.round(seen.outageMs)} ms`,
    `${verdict.granted} leases granted, ${seen.held.length} answered, refused ${refused.join(" ") || "none"}`,
    `${requests} requests at the target, ${Math.round((100 * requests) / possible)} % of the most that the limit allows`,
    `most in any ${rules.windowMs / 1000} s per exit: ${verdict.most}, of the least used exit ${verdict.least}, limit ${rules.limit}`,
    `latest request ${Math.round(verdict.latestMs)} ms after its lease's end (grace ${graceMs})`,
    `${seen.tooLate} leases too late to use, ${seen.lost} requests lost, ${verdict.outcomesLost} stored outcomes not in the ledger`,
    `${verdict.faults.length} faults`,
  ].join("; ");
}

async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    options: { seconds: text, window: text, kills: text, "broker-kills": text, seed: text, spoil: text },
  });
  const plan: Plan = {
    seconds: Number(values.seconds ?? 30),
    windowMs: Number(values.window ?? 10) * 1000,
    kills: Number(values.kills ?? 0),
    brokerKills: Number(values["broker-kills"] ?? 0),
    seed: Number(values.seed ?? Math.floor(Math.random() * 2 ** 31)),
    say: console.log,
    ...(values.spoil === undefined ? {} : { spoil: JSON.parse(values.spoil) }),
  };
  const { faults, said } = await runExactness(plan);
  if (faults.length === 0) return;
  console.error(`${said}\n${faults.join("\n")}`);
  process.exitCode = 1;
}

if (import.meta.main) await main();
