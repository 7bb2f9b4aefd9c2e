// `npm run bench -- all [--seconds n] [--rounds n] [--only leases]`: every row in one run, and the report in
// docs/performance.md with its plot. The lease rows and their peers run in turns, a round of each after the other, so
// that their ratios hold on a noisy machine. Every client, service, broker and peer is a process. Every pool has all
// rules on, with limits that the load does not reach. A rate ends with the last outcome in the ledger.
import { spawnSync } from "node:child_process";
import {
  closeSync,
  fdatasyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { startRedis } from "../demo/redis.ts";
import { ServiceProcess } from "../demo/service.ts";
import { barsOf } from "./bars.ts";
import { bareBroker } from "./lease.ts";
import { type Kind, type LoadOptions, startLoad } from "./load.ts";
import { connectAsOperator } from "./operator.ts";
import { startPostgres } from "./postgres.ts";
import { bytesIn, cpuOf, spentBy } from "./processes.ts";
import { fillRedis } from "./redis.ts";
import { median, type Row, type Run, reportOf, withFigures } from "./report.ts";

const depths = [1, 64, 512];
const busyPools = 50;
const drainMsMax = 60_000;
const proxies = Array.from({ length: 1000 }, (_, i) => `127.1.${i >> 8}.${i & 255}:8080`);
const policy = { rate: { limit: 20_000, windowMs: 1000 }, usage: { limit: 1_000_000 }, concurrency: 1000 };
const page = new URL("../docs/performance.md", import.meta.url);
const plot = new URL("../docs/performance.svg", import.meta.url);

/** The existing benchmarks whose output the report quotes. With `--seconds` below 1 they are small. */
const others = (isSmall: boolean): string[][] =>
  isSmall
    ? [
        ["decide", "round-robin"],
        ["audit", "20000"],
      ]
    : [
        ["decide"],
        ["audit", "1000000"],
        ["pools", "--pools", String(busyPools), "--open", String(busyPools), "--idle", "5"],
        ["million", "--leases", "2"],
        ["fetch"],
        ["gateway", "--ms", "1500", "--only", "plain,connect,kept", "--connections", "1,64"],
      ];

interface Measured {
  name: string;
  depths: number[];
  run(depth: number, ms: number): Promise<Run>;
}

export async function benchAll(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      seconds: { type: "string", default: "2" },
      rounds: { type: "string", default: "3" },
      only: { type: "string" },
    },
  });
  const [ms, rounds] = [Number(values.seconds) * 1000, Number(values.rounds)];
  if (!(ms > 0) || !(rounds >= 1)) throw new Error("--seconds and --rounds: must be positive numbers");
  const folder = mkdtempSync(join(tmpdir(), "remuda-all-"));
  const stops: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
  const skipped: string[] = [];
  const busy = loadavg()[0] ?? 0;
  try {
    const { rows, versions } = await measuredIn(folder, stops, skipped);
    const figures = new Map<string, Row>();
    const fsyncs: number[] = [];
    for (let round = 0; round < rounds; round++) {
      for (const depth of depths) {
        fsyncs.push(fsyncMs(folder));
        for (const each of rows.filter((row) => row.depths.includes(depth))) {
          const row = figures.get(`${each.name} ${depth}`) ?? { name: each.name, depth, runs: [] };
          figures.set(`${each.name} ${depth}`, row);
          row.runs.push(await each.run(depth, ms));
          console.log(`round ${round + 1}: ${each.name}, ${depth}: ${row.runs.at(-1)?.perSecond.toFixed(0)}/s`);
        }
      }
    }
    await stopAll(stops.splice(1));
    const outputs: Record<string, string> = {};
    for (const args of values.only === "leases" ? [] : others(ms < 1000)) outputs[args.join(" ")] = outputOf(args);
    const machine = [
      `${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, ${(totalmem() / 1024 ** 3).toFixed(0)} GiB, Linux ${release()}`,
      `load average before: ${busy.toFixed(1)}${busy > cpus().length / 2 ? " (busy with other work: compare ratios only)" : ""}`,
      ...versions,
    ];
    const given = process.argv.slice(3).join(" ");
    const command = given === "" ? "npm run bench -- all" : `npm run bench -- all ${given}`;
    const measured = [...figures.values()];
    const date = new Date().toISOString().slice(0, 10);
    const text = reportOf({ machine, command, date, rows: measured, fsyncMs: median(fsyncs), outputs, skipped });
    writeFileSync(page, withFigures(readFileSync(page, "utf8"), text));
    writeFileSync(plot, barsOf(measured));
    console.log("written: docs/performance.md, docs/performance.svg");
  } finally {
    await stopAll(stops);
  }
}

async function stopAll(stops: (() => unknown)[]): Promise<void> {
  for (const stop of stops.splice(0).reverse()) await stop();
}

async function measuredIn(folder: string, stops: (() => unknown)[], skipped: string[]) {
  const dataDir = join(folder, "data");
  const service = await ServiceProcess.at(dataDir);
  stops.push(() => service.stop());
  await service.start();
  const nc = await connectAsOperator(service);
  stops.push(() => nc.close());
  const echo = await bareBroker(join(folder, "echo"));
  stops.push(() => echo.stop());
  const echoing = await connect({ servers: echo.url, noAsyncTraces: true });
  stops.push(() => echoing.close());
  echoing.subscribe("bench.echo", { callback: (_error, message) => void message.respond(message.data) });
  await echoing.flush();
  const versions = [`node ${process.version}`, `nats-server ${echo.version}, fsync per commit`];
  const leases = (name: string, kind: Kind, only = depths, pools = 1): Measured => ({
    ...{ name, depths: only },
    run: (depth, ms) => leasing(nc, service, dataDir, { kind, depth, ms, pools }),
  });
  const rows: Measured[] = [
    {
      ...{ name: "echo", depths },
      run: (depth, ms) =>
        loaded({ url: echo.url, pool: "", kind: "echo", depth, ms }, { broker: () => cpuOf(echo.pid) }),
    },
    leases("lease", "lease"),
    leases("cycle", "reported together"),
    leases("block, uses", "block"),
    leases("count 16", "count"),
    leases(`cycle, ${busyPools} pools`, "reported together", [512], busyPools),
  ];
  for (const fsync of ["always", "everysec"] as const) {
    const own = mkdtempSync(join(folder, "redis-"));
    const redis = await startRedis(own, fsync);
    if (redis === undefined) {
      skipped.push(`Redis, AOF ${fsync}: redis-server is not installed`);
      continue;
    }
    stops.push(() => redis.stop());
    for (const kind of ["lease", "cycle"] as const)
      rows.push({
        ...{ name: `Redis ${fsync}, ${kind}`, depths },
        async run(depth, ms) {
          await fillRedis(redis.port, proxies);
          const url = `redis://127.0.0.1:${redis.port}`;
          return loaded({ url, pool: "", kind: `redis ${kind}`, depth, ms }, { redis: () => cpuOf(redis.pid) });
        },
      });
  }
  const version = spawnSync("redis-server", ["--version"], { encoding: "utf8" }).stdout;
  if (version) versions.push(`Redis ${/v=(\S+)/.exec(version)?.[1]}`);
  const postgres = await startPostgres(join(folder, "postgres"), proxies);
  if ("missing" in postgres) skipped.push(`PostgreSQL: ${postgres.missing}`);
  else {
    stops.push(() => postgres.stop());
    versions.push(postgres.version);
    rows.push({ name: "PostgreSQL, lease", depths: [1, 64], run: postgres.run });
  }
  return { rows, versions };
}

/** In fresh pools, so that open leases of one round are no work for the next. */
async function leasing(
  nc: NatsConnection,
  service: ServiceProcess,
  dataDir: string,
  { kind, depth, ms, pools }: { kind: Kind; depth: number; ms: number; pools: number },
): Promise<Run> {
  const prefix = `bench-${performance.now().toFixed(0)}-`;
  const names = Array.from({ length: pools }, (_, i) => `${prefix}${i}`);
  const ask = async (verb: string, pool: string, body: object = {}): Promise<Record<string, unknown>> => {
    const reply = await nc.request(`remuda.${verb}.${pool}`, JSON.stringify(body), { timeout: 30_000 });
    const read = reply.json<Record<string, unknown>>();
    if (read["code"] !== undefined) throw new Error(`${verb}: ${String(read["code"])}: ${String(read["message"])}`);
    return read;
  };
  for (const name of names) {
    await ask("pool.open", name, { policy });
    await ask("proxies.add", name, { proxies });
  }
  const isReported = kind === "reported together" || kind === "block";
  const drained = async (): Promise<void> => {
    for (const deadline = performance.now() + drainMsMax; isReported; await sleep(10)) {
      const stats = await Promise.all(names.map((name) => ask("pool.stats", name)));
      if (stats.every(({ leases }) => (leases as { open: number }).open === 0)) return;
      if (performance.now() > deadline) throw new Error(`${kind}: outcomes are missing from the ledger`);
    }
  };
  const ledger = (): number => bytesIn(join(dataDir, "nats", "store"), "REMUDA_LEDGER");
  const before = ledger();
  const spent = (i: number) => () => spentBy(service.pid)[i]?.cpu ?? 0;
  const given = { url: service.natsUrl, pool: prefix, pools, kind, depth, ms };
  const run = await loaded(given, { service: spent(0), broker: spent(1) }, drained);
  const bytes = (ledger() - before) / run.count;
  for (const name of names) await ask("pool.close", name);
  return { ...run, bytes };
}

/** @param spent seconds of CPU time of each process so far. */
async function loaded(
  given: LoadOptions,
  spent: Record<string, () => number>,
  drained: () => Promise<void> = async () => {},
): Promise<Run> {
  const clients = Math.min(2, given.depth);
  const before = Object.values(spent).map((read) => read());
  const depth = given.depth / clients;
  const results = await Promise.all(Array.from({ length: clients }, () => startLoad({ ...given, depth }).done));
  const endedOn = performance.now();
  await drained();
  const seconds =
    Math.max(...results.map(({ count, perSecond }) => count / perSecond)) + (performance.now() - endedOn) / 1000;
  const count = results.reduce((sum, each) => sum + each.count, 0);
  const cpu = Object.entries(spent).map(([name, read], i) => [name, read() - (before[i] ?? 0)] as const);
  const own = results.reduce((sum, each) => sum + each.cpu, 0);
  const each = [...cpu, ["clients", own] as const].map(([name, used]) => [name, (used * 1e6) / count]);
  const [p50, p99] = [Math.max(...results.map((r) => r.p50)), Math.max(...results.map((r) => r.p99))];
  return { count, perSecond: count / seconds, p50, p99, cpu: Object.fromEntries(each) };
}

/** The median of a hundred small appends, each on the disk before the next. */
function fsyncMs(folder: string): number {
  const file = openSync(join(folder, "fsync"), "a");
  const times = Array.from({ length: 100 }, () => {
    const startedOn = performance.now();
    writeSync(file, Buffer.alloc(512));
    fdatasyncSync(file);
    return performance.now() - startedOn;
  });
  closeSync(file);
  return median(times);
}

function outputOf(args: string[]): string {
  console.log(`npm run bench -- ${args.join(" ")}`);
  const run = spawnSync(process.execPath, [...process.execArgv, process.argv[1] ?? "", ...args], {
    encoding: "utf8",
    maxBuffer: 16 * 1024 ** 2,
  });
  return run.status === 0 ? run.stdout : `ended with ${run.status ?? run.signal}\n${run.stdout}${run.stderr}`;
}
