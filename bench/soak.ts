// A service at full speed for a long time, with a small bound for its ledgers: `npm run bench -- soak [--cycles n]
// [--bytes n] [--every seconds]`. It shows the cost of the past: the stream, the archive, the memory, and the longest
// time that a lease took while snapshots and segments were written. At the end it starts again, and the audit reads all
// of it.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { entry, ServiceProcess } from "../demo/service.ts";
import { Archive } from "../runtime/archive/archive.ts";
import { startLoad } from "./load.ts";
import { connectAsOperator } from "./operator.ts";
import { bytesIn, spentBy } from "./processes.ts";

const clients = 2;
const depth = 128;
const MiB = 1024 ** 2;

export async function benchSoak(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(3),
    options: {
      cycles: { type: "string", default: "20000000" },
      bytes: { type: "string", default: String(256 * MiB) },
      every: { type: "string", default: "10" },
    },
  });
  const [cycles, everyS] = [Number(values.cycles), Number(values.every)];
  const dataDir = mkdtempSync(join(tmpdir(), "remuda-soak-"));
  const service = await ServiceProcess.at(dataDir, { REMUDA_LEDGER_BYTES_MAX: values.bytes });
  try {
    await service.start();
    const nc = await connectAsOperator(service);
    const ask = async (subject: string, body: object): Promise<Record<string, unknown>> =>
      (await nc.request(`remuda.${subject}.default`, JSON.stringify(body), { timeout: 60_000 })).json();
    const policy = { rate: null, usage: null, concurrency: null, failures: null, streak: null };
    await ask("pool.policy", { policy });
    await ask("proxies.add", { proxies: Array.from({ length: 1000 }, (_, i) => `127.1.${i >> 8}.${i & 255}:8080`) });
    const first = await ask("lease", {});
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    console.log("    s      leases  leases/s  longest ms  stream MiB  archive MiB  segments  service MB  broker MB");
    let [granted, begun] = [0, performance.now()];
    const startedOn = begun;
    while (granted < cycles) {
      const ms = everyS * 1000;
      const given = { url: service.natsUrl, pool: "default", depth, ms, kind: "reported together" } as const;
      const loads = await Promise.all(Array.from({ length: clients }, () => startLoad(given).done));
      const count = loads.reduce((sum, each) => sum + each.count, 0);
      granted += count;
      const now = performance.now();
      const memory = spentBy(service.pid).map(({ mb }) => mb.toFixed(0).padStart(11));
      const columns = [
        ((now - startedOn) / 1000).toFixed(0).padStart(5),
        String(granted).padStart(12),
        ((count * 1000) / (now - begun)).toFixed(0).padStart(10),
        Math.max(...loads.map(({ max }) => max))
          .toFixed(0)
          .padStart(12),
        (bytesIn(join(dataDir, "nats", "store"), "REMUDA_LEDGER") / MiB).toFixed(0).padStart(12),
        (bytesIn(join(dataDir, "archive"), "") / MiB).toFixed(1).padStart(13),
        String(new Archive(join(dataDir, "archive")).segments("default").length).padStart(10),
        ...memory,
      ];
      console.log(columns.join(""));
      begun = now;
    }
    await sleep(1000);
    const commits = (await ask("pool.stats", {}))["commits"];
    await nc.close();
    console.log(`${granted} leases in ${String(commits)} commits`);
    console.log(`started again after SIGKILL in ${((await service.restart("SIGKILL")) / 1000).toFixed(1)} s`);
    for (const args of [["verify"], ["explain", String(first["leaseId"])]]) {
      const began = performance.now();
      const { status } = spawnSync(process.execPath, [entry, "audit", ...args], { env: service.env, stdio: "inherit" });
      console.log(`audit ${args.join(" ")}: exit code ${status}, ${((performance.now() - began) / 1000).toFixed(1)} s`);
    }
  } finally {
    await service.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}
