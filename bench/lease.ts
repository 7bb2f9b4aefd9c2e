// Leases per second through the real service, compared with the same number of bare NATS echoes in the same run: `npm
// run bench -- lease`. Two client processes, 256 outstanding requests each, a thousand proxies. Each lease is also
// reported.
import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { findBinary } from "../runtime/broker/binary.ts";
import { type Broker, openBroker } from "../runtime/broker/broker.ts";
import { readConfig } from "../runtime/config.ts";
import { readNatsUrl } from "../runtime/nats-url.ts";
import { Service } from "./service.ts";

const clients = 2;
const outstanding = 256;
const seconds = 8;
/** Fewer than the thousand that one message may have. */
const collectMs = 5;
const outcomes: string[] = [];

export async function benchLease(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), "remuda-bench-"));
  const service = new Service(dataDir);
  let echo: Broker | undefined;
  try {
    await service.start();
    const { url } = service;
    echo = await bareBroker(join(dataDir, "echo"));
    const nc = await connect({ ...readNatsUrl(url), noAsyncTraces: true });
    const policy = { rate: null, usage: null, concurrency: null, failures: null, streak: null };
    await nc.request("remuda.pool.policy.default", JSON.stringify({ policy }), { timeout: 10_000 });
    const proxies = Array.from({ length: 1000 }, (_, i) => `127.1.${i >> 8}.${i & 255}:8080`);
    await nc.request("remuda.proxies.add.default", JSON.stringify({ proxies }), { timeout: 10_000 });
    const echoing = await connect({ servers: echo.url, noAsyncTraces: true });
    echoing.subscribe("bench.echo", { callback: (_error, message) => void message.respond(message.data) });
    await echoing.flush();
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    const bare = echo.url;
    for (const what of ["echo", "lease", "lease+outcome"]) {
      const results = await Promise.all(
        Array.from({ length: clients }, () => client(what === "echo" ? bare : url, what)),
      );
      const perSecond = results.reduce((sum, each) => sum + each.count, 0) / seconds;
      const p50 = Math.max(...results.map((each) => each.p50));
      console.log(
        `${what.padEnd(14)} ${perSecond.toFixed(0).padStart(8)}/s   median ${p50.toFixed(1)} ms at ${clients * outstanding} outstanding`,
      );
    }
    const single = await client(url, "lease", 1);
    console.log(`one at a time: median ${single.p50.toFixed(2)} ms`);
    await Promise.all([nc.close(), echoing.close()]);
  } finally {
    await echo?.stop();
    await service.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** In addition to the service, because a user that may lease may send only to the picker. */
async function bareBroker(dataDir: string): Promise<Broker> {
  const { natsServer, cacheDir } = readConfig(process.env);
  const binary = () => findBinary({ natsServer, path: process.env.PATH, cacheDir, say: () => {} });
  return openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {} });
}

function client(url: string, what: string, depth = outstanding): Promise<{ count: number; p50: number }> {
  const child = fork(new URL(import.meta.url), ["client", url, what, String(depth)], { execArgv: [] });
  return new Promise((resolve, reject) => {
    child.once("message", (result) => resolve(result as { count: number; p50: number })); // Sent below.
    child.once("exit", (code) => code !== 0 && reject(new Error(`a client ended with ${code}`)));
  });
}

async function runClient(url: string, what: string, depth: number): Promise<void> {
  const nc = await connect({ ...readNatsUrl(url), noAsyncTraces: true });
  const end = performance.now() + seconds * 1000;
  const times: number[] = [];
  let count = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() < end) {
      const sentOn = performance.now();
      await one(nc, what);
      count++;
      if (count % 16 === 0) times.push(performance.now() - sentOn);
      else if (depth === 1) times.push(performance.now() - sentOn);
    }
  };
  await Promise.all(Array.from({ length: depth }, loop));
  times.sort((a, b) => a - b);
  process.send?.({ count, p50: times[times.length >> 1] ?? 0 });
  await nc.close();
  process.disconnect();
}

async function one(nc: NatsConnection, what: string): Promise<void> {
  if (what === "echo") {
    await nc.request("bench.echo", "{}", { timeout: 10_000 });
    return;
  }
  const lease = (await nc.request("remuda.lease.default", "{}", { timeout: 10_000 })).json<{
    leaseId?: string;
    code?: string;
  }>();
  if (lease.leaseId === undefined) throw new Error(`refused: ${lease.code}`);
  if (what === "lease+outcome") report(nc, `{"leaseId":"${lease.leaseId}","status":200}`);
}

/** As a worker with many leases does: reports of a few milliseconds go into one message. */
function report(nc: NatsConnection, outcome: string): void {
  if (outcomes.push(outcome) > 1) return;
  setTimeout(() => {
    const sent = outcomes.splice(0);
    if (!nc.isClosed()) nc.publish("remuda.outcome.default", `[${sent.join(",")}]`);
  }, collectMs);
}

const [role, url, what, depth] = process.argv.slice(2);
if (role === "client" && url !== undefined && what !== undefined) await runClient(url, what, Number(depth));
