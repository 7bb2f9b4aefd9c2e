// Leases per second through the real service, compared with the same number of bare NATS echoes in the same run:
// `npm run bench -- lease`. Two client processes, 256 outstanding requests each, a thousand proxies. Each lease is also
// reported.
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";
import { ServiceProcess } from "../demo/service.ts";
import { findBinary } from "../runtime/broker/binary.ts";
import { type Broker, openBroker } from "../runtime/broker/broker.ts";
import { readConfig } from "../runtime/config.ts";
import { startLoad } from "./load.ts";
import { connectAsOperator } from "./operator.ts";

const clients = 2;
const depth = 256;
const ms = 8000;

export async function benchLease(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), "remuda-bench-"));
  const service = await ServiceProcess.at(dataDir);
  let echo: Broker | undefined;
  try {
    await service.start();
    const { natsUrl } = service;
    echo = await bareBroker(join(dataDir, "echo"));
    const nc = await connectAsOperator(service);
    const policy = { rate: null, usage: null, concurrency: null, failures: null, streak: null };
    await nc.request("remuda.pool.policy.default", JSON.stringify({ policy }), { timeout: 10_000 });
    const proxies = Array.from({ length: 1000 }, (_, i) => `127.1.${i >> 8}.${i & 255}:8080`);
    await nc.request("remuda.proxies.add.default", JSON.stringify({ proxies }), { timeout: 10_000 });
    const echoing = await connect({ servers: echo.url, noAsyncTraces: true });
    echoing.subscribe("bench.echo", { callback: (_error, message) => void message.respond(message.data) });
    await echoing.flush();
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    for (const kind of ["echo", "lease", "reported together"] as const) {
      const given = { url: kind === "echo" ? echo.url : natsUrl, pool: "default", depth, ms, kind };
      const results = await Promise.all(Array.from({ length: clients }, () => startLoad(given).done));
      const perSecond = results.reduce((sum, each) => sum + each.perSecond, 0);
      const p50 = Math.max(...results.map((each) => each.p50));
      console.log(
        `${kind.padEnd(17)} ${perSecond.toFixed(0).padStart(8)}/s   median ${p50.toFixed(1)} ms at ${clients * depth} outstanding`,
      );
    }
    const single = await startLoad({ url: natsUrl, pool: "default", depth: 1, ms, kind: "lease" }).done;
    console.log(`one at a time: median ${single.p50.toFixed(2)} ms`);
    await Promise.all([nc.close(), echoing.close()]);
  } finally {
    await echo?.stop();
    await service.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** In addition to the service, because a user that may lease may send only to the picker. */
export async function bareBroker(dataDir: string): Promise<Broker> {
  const { natsServer, cacheDir } = readConfig(process.env);
  const binary = () => findBinary({ natsServer, path: process.env.PATH, cacheDir, say: () => {} });
  return openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {} });
}
