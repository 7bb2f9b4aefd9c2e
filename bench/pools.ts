// An installation with many pools: `npm run bench -- pools [--pools n] [--open n] [--idle seconds]`. It opens that many
// pools over NATS and closes all but `open` of them, starts the service again, and measures the time of the start, and
// the share of a core that the service and its NATS server use while all pools are idle.
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { NatsConnection } from "@nats-io/transport-node";
import { ServiceProcess } from "../demo/service.ts";
import { connectAsOperator } from "./operator.ts";
import { spentBy } from "./processes.ts";

const atOnce = 20;
const timeout = 30_000;
/** After a start, before the idle time is measured. */
const settleMs = 5000;

export async function benchPools(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      pools: { type: "string", default: "2000" },
      open: { type: "string", default: "100" },
      idle: { type: "string", default: "20" },
    },
  });
  const [pools, open, idle] = [values.pools, values.open, values.idle].map(Number) as [number, number, number];
  const dir = mkdtempSync(join(tmpdir(), "remuda-pools-"));
  const service = await ServiceProcess.at(join(dir, "data"), { REMUDA_POOLS_MAX: String(pools + 1) });
  try {
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    await service.start();
    const nc = await connectAsOperator(service);
    const names = Array.from({ length: pools }, (_, i) => `pool-${i}`);
    const openedMs = await timed(() => askAll(nc, "open", names));
    const closedMs = await timed(() => askAll(nc, "close", names.slice(open)));
    console.log(
      `${pools} pools opened in ${seconds(openedMs)}, ${pools - open} of them closed in ${seconds(closedMs)}`,
    );
    await nc.close();
    console.log(`started again after SIGTERM in ${seconds(await service.restart("SIGTERM"))}`);
    await readiness(service);
    await idling(service, idle);
    console.log(`started again after SIGKILL in ${seconds(await service.restart("SIGKILL"))}`);
    await readiness(service);
  } finally {
    await service.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function askAll(nc: NatsConnection, verb: string, names: readonly string[]): Promise<void> {
  let next = 0;
  const ask = async (): Promise<void> => {
    for (let name = names[next++]; name !== undefined; name = names[next++]) {
      const reply = await nc.request(`remuda.pool.${verb}.${name}`, "{}", { timeout });
      const { code, message } = reply.json<{ code?: string; message?: string }>();
      if (code !== undefined) throw new Error(`${verb} ${name}: ${code}: ${message}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, ask));
}

async function readiness(service: ServiceProcess): Promise<void> {
  const ms = await timed(async () => {
    while ((await fetch(`${service.httpUrl}/readyz`)).status !== 200) await sleep(100);
  });
  console.log(`  /readyz says that all open pools are led ${seconds(ms)} later`);
}

async function idling(service: ServiceProcess, idle: number): Promise<void> {
  await sleep(settleMs);
  const before = spentBy(service.pid);
  await sleep(idle * 1000);
  for (const [i, { name, cpu, mb }] of spentBy(service.pid).entries())
    console.log(
      `idle, ${name}: ${(((cpu - (before[i]?.cpu ?? 0)) / idle) * 100).toFixed(1)} % of a core, ${mb.toFixed(0)} MB`,
    );
}

async function timed(act: () => Promise<void>): Promise<number> {
  const startedOn = performance.now();
  await act();
  return performance.now() - startedOn;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
