// A million proxies through the real service: `npm run bench -- million [--proxies n] [--credentials] [--leases n]`.
// With --leases it runs only the import and that many rounds of leases. BENCH_NODE_FLAGS are passed to the service. One
// service with its own NATS server (fsync per commit), everything on this machine. The addresses are reserved ones and
// never dialled. It imports a list by the command line, and in parts over HTTP, while other clients lease. It leases in
// alternation with a pool of a hundred proxies. It pages through the lists. At the end it kills the service and waits
// until it is back.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream, createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { entry, ServiceProcess } from "../demo/service.ts";
import { readNatsUrl } from "../runtime/nats-url.ts";
import { startLoad } from "./load.ts";
import { connectAsOperator } from "./operator.ts";
import { spentBy } from "./processes.ts";

const roundsOfAll = 6;
const roundMs = 4000;
const clients = 2;
const depth = 256;
const httpBytesMax = 32 * 1024 ** 2;
/** No limit that a pool of either size would reach. */
const policy = { rate: { limit: 2000, windowMs: 1000 }, usage: null, concurrency: 1000 };

export async function benchMillion(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      proxies: { type: "string", default: "1000000" },
      credentials: { type: "boolean", default: false },
      leases: { type: "string" },
    },
  });
  for (const [name, text = "1"] of Object.entries({ proxies: values.proxies, leases: values.leases }))
    if (!/^[1-9]\d{0,7}$/.test(text)) {
      console.error(`--${name}: a whole number from 1 on`);
      process.exitCode = 2;
      return;
    }
  const proxies = Number(values.proxies);
  const dir = mkdtempSync(join(tmpdir(), "remuda-million-"));
  const service = await ServiceProcess.at(join(dir, "data"), { NODE_OPTIONS: process.env["BENCH_NODE_FLAGS"] });
  try {
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    console.log(`${proxies} proxies, ${values.credentials ? "each with a password" : "without credentials"}`);
    const list = join(dir, "list.txt");
    await writeList(list, { proxies, credentials: values.credentials });
    await service.start();
    const nc = await connectAsOperator(service);
    await openPools(nc);
    await importing(service, "by the command line", () => addByCommand(service, list));
    await leasing(service, Number(values.leases ?? roundsOfAll));
    if (values.leases !== undefined) return await nc.close();
    await asking(nc, service);
    await importing(service, "again over HTTP, in parts of 32 MiB", () => addOverHttp(service, list));
    await nc.close();
    await restarting(service);
  } finally {
    await service.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function writeList(file: string, given: { proxies: number; credentials: boolean }): Promise<void> {
  const out = createWriteStream(file);
  for (let i = 0; i < given.proxies; i++) {
    const host = `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
    const user = given.credentials ? `:user${i}:Pa55-${(i * 2654435761) % 1e9}` : "";
    const line = `${host}:8080${user},${i % 2 === 0 ? "DE" : "FR"}\n`;
    if (!out.write(line)) await once(out, "drain");
  }
  out.end();
  await once(out, "close");
}

async function openPools(nc: NatsConnection): Promise<void> {
  for (const pool of ["hundred", "million"]) {
    await nc.request(`remuda.pool.open.${pool}`, JSON.stringify({ policy }), { timeout: 10_000 });
  }
  const hundred = Array.from({ length: 100 }, (_, i) => `198.18.0.${i}:8080`);
  await nc.request("remuda.proxies.add.hundred", JSON.stringify({ proxies: hundred }), { timeout: 10_000 });
}

/** Imports the list while a client leases from the small pool. */
async function importing(service: ServiceProcess, how: string, add: () => Promise<string>): Promise<void> {
  const before = spentBy(service.pid);
  const load = startLoad({ url: service.natsUrl, pool: "hundred", depth: 1, ms: 600_000, pauseMs: 2 });
  const startedOn = performance.now();
  const said = await add();
  const ms = performance.now() - startedOn;
  load.stop();
  const { count, p50, p99, max } = await load.done;
  console.log(`import ${how}: ${(ms / 1000).toFixed(1)} s (${said.trim()})`);
  for (const [i, { name, cpu, mb }] of spentBy(service.pid).entries())
    console.log(`  ${name}: ${(cpu - (before[i]?.cpu ?? 0)).toFixed(1)} s of CPU, at most ${mb.toFixed(0)} MB`);
  console.log(
    `  meanwhile a lease of another pool: median ${ms1(p50)}, p99 ${ms1(p99)}, at most ${ms1(max)} (${count})`,
  );
}

async function addByCommand(service: ServiceProcess, list: string): Promise<string> {
  const args = [entry, "proxies", "add", "--pool", "million", list];
  const child = spawn(process.execPath, args, { env: service.env, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (chunk) => {
    said += String(chunk);
  });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`the command ended with ${code}`);
  return said.replace(/^.*: /, "");
}

async function addOverHttp(service: ServiceProcess, list: string): Promise<string> {
  let parts = 0;
  const total: Record<string, number> = {};
  const send = async (body: string): Promise<void> => {
    const headers = { "content-type": "text/plain" };
    const reply = await fetch(`${service.httpUrl}/v1/pools/million/proxies`, { method: "POST", headers, body });
    if (!reply.ok) throw new Error(await reply.text());
    parts++;
    for (const [name, n] of Object.entries((await reply.json()) as object))
      if (typeof n === "number") total[name] = (total[name] ?? 0) + n;
  };
  let part = "";
  for await (const chunk of createReadStream(list, "latin1")) {
    if (part.length + chunk.length > httpBytesMax) {
      const end = part.lastIndexOf("\n") + 1;
      await send(part.slice(0, end));
      part = part.slice(end);
    }
    part += chunk;
  }
  await send(part);
  return `${parts} parts, ${JSON.stringify(total)}`;
}

async function leasing(service: ServiceProcess, rounds: number): Promise<void> {
  const pools = ["hundred", "million"] as const;
  const perSecond = { hundred: [] as number[], million: [] as number[] };
  const cpu = { hundred: [] as number[], million: [] as number[] };
  console.log("leases, each reported; 512 outstanding, then one at a time");
  for (let round = 0; round <= rounds; round++) {
    for (const pool of round % 2 === 0 ? pools : pools.toReversed()) {
      const before = spentBy(service.pid)[0]?.cpu ?? 0;
      const loads = Array.from({ length: clients }, () =>
        startLoad({ url: service.natsUrl, pool, depth, ms: roundMs }),
      );
      const results = await Promise.all(loads.map((each) => each.done));
      if (round === 0) continue; // To warm up.
      const count = results.reduce((sum, each) => sum + each.count, 0);
      perSecond[pool].push(results.reduce((sum, each) => sum + each.perSecond, 0));
      cpu[pool].push((((spentBy(service.pid)[0]?.cpu ?? 0) - before) * 1e6) / count);
    }
  }
  for (const pool of pools) {
    const single = await startLoad({ url: service.natsUrl, pool, depth: 1, ms: roundMs }).done;
    const rates = perSecond[pool].map((each) => each.toFixed(0)).join(", ");
    const costs = cpu[pool].map((each) => each.toFixed(0)).join(", ");
    console.log(
      `  ${pool}: ${rates} a second; ${costs} µs of CPU each; alone median ${ms1(single.p50)}, p99 ${ms1(single.p99)}`,
    );
  }
  console.log(
    `  median ratio: ${(median(perSecond.million) / median(perSecond.hundred)).toFixed(2)} of the throughput, ` +
      `${(median(cpu.million) / median(cpu.hundred)).toFixed(2)} of the CPU time`,
  );
}

/** The cost of a policy change for concurrent requests to other pools, and for requests that wait for it. */
async function changing(service: ServiceProcess, ask: Ask): Promise<void> {
  for (const kind of ["lifo", "best"]) {
    const load = startLoad({ url: service.natsUrl, pool: "hundred", depth: 1, ms: 600_000, pauseMs: 2 });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const sentOn = performance.now();
    const { ms } = await ask("pool.policy", { policy: { strategy: { kind } } });
    await ask("lease", {});
    const leasedMs = performance.now() - sentOn;
    load.stop();
    const { p50, max } = await load.done;
    console.log(
      `a change of policy: ${ms1(ms)}, a lease after it ${ms1(leasedMs)}; ` +
        `a lease of another pool meanwhile: median ${ms1(p50)}, at most ${ms1(max)}`,
    );
  }
}

type Ask = (verb: string, body: object) => Promise<{ ms: number; reply: Record<string, unknown> }>;

async function asking(nc: NatsConnection, service: ServiceProcess): Promise<void> {
  const ask: Ask = async (verb, body) => {
    const sentOn = performance.now();
    const reply = await nc.request(`remuda.${verb}.million`, JSON.stringify(body), { timeout: 60_000 });
    return { ms: performance.now() - sentOn, reply: reply.json() };
  };
  const times = async (verb: string, body: object): Promise<string> => {
    const all: number[] = [];
    for (let i = 0; i < 5; i++) all.push((await ask(verb, body)).ms);
    return `first ${ms1(all[0] ?? 0)}, then ${ms1(median(all.slice(1)))}`;
  };
  console.log(`pool stats: ${await times("pool.stats", {})}`);
  console.log(`a page of 100, at the beginning: ${await times("proxies.list", {})}`);
  console.log(`a page of 100, in the middle: ${await times("proxies.list", { after: "p_V" })}`);
  console.log(`a page of 100, near the end: ${await times("proxies.list", { after: "p_zz" })}`);
  console.log(`a page of those at rest (none): ${await times("proxies.list", { state: "cooling" })}`);
  console.log(`a page of those with a label (none): ${await times("proxies.list", { labels: { country: "XX" } })}`);
  console.log(`a lease by a label, never asked for before: ${await times("lease", { labels: { country: "DE" } })}`);
  await changing(service, ask);
  const metricsOn = performance.now();
  await (await fetch(`${service.httpUrl}/metrics`)).text();
  console.log(`/metrics: ${ms1(performance.now() - metricsOn)}`);
  const load = startLoad({ url: service.natsUrl, pool: "hundred", depth: 1, ms: 600_000, pauseMs: 2 });
  const startedOn = performance.now();
  const args = [entry, "proxies", "export", "--pool", "million", "--format", "lines"];
  const child = spawn(process.execPath, args, { env: service.env, stdio: ["ignore", "pipe", "inherit"] });
  let lines = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    for (const byte of chunk) if (byte === 10) lines++;
  });
  await once(child, "close");
  const ms = performance.now() - startedOn;
  load.stop();
  const { p50, max } = await load.done;
  console.log(
    `export of ${lines}: ${(ms / 1000).toFixed(1)} s; meanwhile a lease: median ${ms1(p50)}, at most ${ms1(max)}`,
  );
}

async function restarting(service: ServiceProcess): Promise<void> {
  const ledger = execFileSync("du", ["-sm", service.env["REMUDA_DATA_DIR"] ?? ""], { encoding: "utf8" }).split("\t")[0];
  console.log(`data directory: ${ledger} MB`);
  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    const startedOn = performance.now();
    const readyMs = await service.restart(signal);
    const nc = await connect({ ...readNatsUrl(service.natsUrl), noAsyncTraces: true });
    const reply = await nc.request("remuda.lease.million", "{}", { timeout: 60_000 });
    if (reply.headers?.hasError) throw new Error(reply.string());
    const ms = performance.now() - startedOn;
    const [{ mb = 0 } = {}] = spentBy(service.pid);
    console.log(
      `${signal} and start: ready after ${(readyMs / 1000).toFixed(1)} s, first lease ${(ms / 1000).toFixed(1)} s, ${mb.toFixed(0)} MB`,
    );
    await nc.close();
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}

function ms1(ms: number): string {
  return `${ms.toFixed(1)} ms`;
}
