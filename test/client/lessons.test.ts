// Failures that were measured in another proxy pool of this design (the numbers are those of the issues of
// mjfelecio/metric-scraper), as tests of the client: none of them may happen here.
import { type AddressInfo, createServer, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startForwardProxy } from "../kit/forward-proxy.ts";
import { setting } from "./setting.ts";
import { type Site, startSite } from "./site.ts";

const at = setting();
let site: Site;

beforeAll(async () => {
  site = await startSite();
});
afterAll(() => site?.stop());

// undici gives up a connection after its own ten seconds, whatever else is set. So this one takes longer.
test("#25: uses the configured connect timeout, and no shorter default of a library", {
  timeout: 30_000,
}, async () => {
  const sockets: Socket[] = [];
  const mute = createServer((socket) => void sockets.push(socket));
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.96", resolve));
  const { port } = mute.address() as AddressInfo; // On TCP.
  await at.open("silent", [`http://127.0.0.96:${port}`]);
  const client = await at.client("nats", {
    pool: "silent",
    fetch: { retries: 0, connectTimeoutMs: 11_500, tunnelHttp: true },
  });
  const startedAt = performance.now();
  const error = await client.fetch(`${site.url}/seen`).catch((thrown) => thrown);
  expect(performance.now() - startedAt).toBeGreaterThan(11_400);
  expect(error.cause).toMatchObject({ code: "UND_ERR_CONNECT_TIMEOUT", message: "No connection within 11500 ms" });
  expect(await at.reports("silent", 1)).toMatchObject([{ class: "timeout", error: "UND_ERR_CONNECT_TIMEOUT" }]);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => mute.close(resolve));
});

test("#16: keeps a proxy's connections over its leases and rests: one tunnel for all of them", async () => {
  const proxies = await Promise.all([181, 182].map((last) => startForwardProxy({ exit: `127.0.0.${last}` })));
  const policy = { rate: null, strategy: { kind: "round-robin" } };
  await at.open(
    "cycles",
    proxies.map(({ url }) => url),
    policy,
  );
  const client = await at.client("nats", { pool: "cycles", fetch: { tunnelHttp: true, usesMax: 1 } });
  const ids = (await at.proxies("cycles")).map(({ id }) => id);
  for (let cycle = 0; cycle < 3; cycle++) {
    for (let i = 0; i < 4; i++) await (await client.fetch(`${site.url}/seen`)).text();
    for (const id of ids) {
      await at.service.call(`POST /v1/pools/cycles/proxies/${id}/rest`, { forMs: 60_000 });
      await at.service.call(`POST /v1/pools/cycles/proxies/${id}/revive`);
    }
  }
  expect((await at.stats("cycles")).leases.granted).toBe(12);
  expect(proxies.map(({ exit }) => site.countFrom(exit))).toEqual([6, 6]);
  expect(proxies.map(({ requests }) => requests)).toEqual([1, 1]);
  await client.close();
  await Promise.all(proxies.map((each) => each.stop()));
});

test("#30: reports exhaustion as such, with retryAfterMs, after the requested wait and no longer", async () => {
  await at.open("short", ["http://127.0.0.97:9"], { concurrency: 1 });
  const client = await at.client("nats", { pool: "short", fetch: { waitMs: 300 } });
  const lease = await client.lease();
  const startedAt = performance.now();
  const error = await client.fetch(`${site.url}/seen`).catch((thrown) => thrown);
  const tookMs = performance.now() - startedAt;
  expect(error).toMatchObject({
    name: "RemudaRefusal",
    code: "pool-exhausted",
    limitedBy: { concurrency: 1 },
    retryAfterMs: expect.any(Number),
  });
  expect(tookMs).toBeGreaterThan(290);
  // No longer: it was requested once (below), and the client did not wait for retryAfterMs.
  expect(tookMs).toBeLessThan(error.retryAfterMs / 2);
  // No use was made, so no proxy is blamed, and the waiting time is reported.
  expect((await at.stats("short")).outcomes).toEqual({ succeeded: 0, failed: 0, neutral: 0, ignored: 0 });
  const { text } = await at.service.call("GET /metrics");
  const waited = (le: string) =>
    new RegExp(
      `remuda_lease_request_duration_seconds_bucket\\{pool="short",result="refused",le="${le}"\\} (\\d+)`,
    ).exec(text)?.[1];
  expect([waited("0.2"), waited("0.5"), waited("\\+Inf")].map(Number)).toEqual([0, expect.any(Number), 1]);
  expect(text).toMatch(/remuda_lease_requests_held_back_total\{pool="short",rule="concurrency"\} 1/);
  await client.release(lease, { used: 0 });
});
