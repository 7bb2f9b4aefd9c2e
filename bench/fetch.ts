// The overhead of `client.fetch` per request: `npm run bench -- fetch`. The same request goes through the same proxy on
// loopback, alternately by undici's fetch with its own ProxyAgent and by the client, in one run. It prints the medians
// and their difference. Leases come in blocks from the real service, outcomes go to its ledger. The goal is at most 1
// ms at the median.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { Server } from "proxy-chain";
import { fetch, ProxyAgent } from "undici";
import { type Client, connect } from "../client/client.ts";
import { ServiceProcess } from "../demo/service.ts";

const warmUp = 300;
const rounds = 3000;

export async function benchFetch(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), "remuda-bench-"));
  const service = await ServiceProcess.at(dataDir);
  const target = createServer((_request, response) => response.end("x".repeat(1000)));
  const proxy = new Server({ port: 0, host: "127.0.0.1" });
  try {
    await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
    await proxy.listen();
    await service.start();
    const { natsUrl, httpUrl } = service;
    const policy = { rate: null, usage: null, concurrency: null, failures: null, streak: null };
    const post = (method: string, path: string, body: object) =>
      fetch(`${httpUrl}/v1/pools/default${path}`, { method, body: JSON.stringify(body) });
    await post("PATCH", "", { policy });
    await post("POST", "/proxies", { proxies: [`127.0.0.1:${proxy.port}`] });
    const url = `http://127.0.0.1:${(target.address() as AddressInfo).port}/`;
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    const agent = new ProxyAgent({ uri: `http://127.0.0.1:${proxy.port}`, proxyTunnel: false });
    for (const [name, at] of [
      ["NATS", natsUrl],
      ["HTTP", httpUrl],
    ] as const) {
      const client = await connect({ url: at });
      await compare(name, url, agent, client);
      await client.close();
    }
    await agent.close();
  } finally {
    await service.stop();
    target.close();
    await proxy.close(true);
    rmSync(dataDir, { recursive: true, force: true });
  }
}

async function compare(name: string, url: string, agent: ProxyAgent, client: Client): Promise<void> {
  const ways = { bare: () => fetch(url, { dispatcher: agent }), client: () => client.fetch(url) };
  const times = { bare: [] as number[], client: [] as number[] };
  for (let round = -warmUp; round < rounds; round++) {
    for (const way of ["bare", "client"] as const) {
      const startedAt = performance.now();
      await (await ways[way]()).arrayBuffer();
      if (round >= 0) times[way].push(performance.now() - startedAt);
    }
  }
  const [bare, leased] = [times.bare, times.client].map((each) => each.sort((a, b) => a - b));
  const at = (sorted: number[] | undefined, share: number): number => sorted?.[Math.floor(sorted.length * share)] ?? 0;
  const line = (what: string, sorted: number[] | undefined): string =>
    `${what.padEnd(24)} median ${at(sorted, 0.5).toFixed(3)} ms   p99 ${at(sorted, 0.99).toFixed(2)} ms`;
  console.log(line("undici, ProxyAgent", bare));
  console.log(line(`client.fetch over ${name}`, leased));
  console.log(`added at the median      ${(at(leased, 0.5) - at(bare, 0.5)).toFixed(3)} ms (goal: at most 1)`);
}
