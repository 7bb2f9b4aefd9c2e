// Probes of unused proxies, through real proxies. The sources' clock is moved manually, so that the budget is exact:
// one probe per second.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { ProxyReply } from "../../protocol/proxy.ts";
import type { SourceReply } from "../../protocol/source.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { poolsOver } from "../../services/sources/pool.ts";
import { Sources } from "../../services/sources/sources.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { type ForwardProxy, type ProxyFailure, startForwardProxy } from "../kit/forward-proxy.ts";
import { HandClock } from "../kit/hand-clock.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { eventually } from "../kit/poll.ts";
import { startRemuda, stopAllRemudas } from "../kit/process.ts";
import { startTarget, type Target } from "../kit/target.ts";

const query = "key=not-for-logs";

let broker: TestBroker;
let dataDir: string;
let bus: Bus;
let target: Target;
let folder: string;
let clock: HandClock;
let sources: Sources;
let said: string[];
let pool: string;
let pools = 0;
let stopping: (() => unknown)[];

beforeAll(async () => {
  broker = await startTestBroker();
  dataDir = mkdtempSync(join(tmpdir(), "probes-service-"));
  await startRemuda({ dataDir, args: ["run", "picker"], env: { REMUDA_NATS_URL: broker.url } });
  bus = await openBus(broker.url, "probes test");
  target = await startTarget();
});

afterAll(async () => {
  await bus?.close();
  await target?.stop();
  await stopAllRemudas();
  await broker?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "probes-test-"));
  clock = new HandClock();
  said = [];
  stopping = [];
  pool = `p${++pools}`;
  await ask("pool.open");
});

afterEach(async () => {
  await sources?.stop();
  for (const stop of stopping) await stop();
  rmSync(folder, { recursive: true, force: true });
});

async function ask<Reply = Record<string, unknown>>(verb: string, body: object = {}): Promise<Reply> {
  const reply = await bus.nc.request(`remuda.${verb}.${pool}`, JSON.stringify(body), { timeout: 10_000 });
  return reply.json<Reply>();
}

const granted = async (): Promise<number> => (await ask<{ leases: { granted: number } }>("pool.stats")).leases.granted;

async function proxies(): Promise<Map<string, ProxyReply>> {
  const { proxies: all } = await ask<{ proxies: ProxyReply[] }>("proxies.list", { limit: 1000 });
  return new Map(all.map((each) => [each.host, each]));
}

const source = async (): Promise<SourceReply | undefined> =>
  (await ask<{ sources: SourceReply[] }>("sources.list")).sources[0];

/** Resolves when every probe that has begun has made its requests to the picker. */
async function settled(): Promise<void> {
  for (let i = 0; i < 10; i++) await ask("sources.list");
}

async function proxyAt(exit: string, failWith?: () => ProxyFailure | undefined): Promise<ForwardProxy> {
  const login = { username: "user", password: "pass" };
  const proxy = await startForwardProxy({ exit, credentials: login, ...(failWith && { failWith }) });
  stopping.push(() => proxy.stop());
  return proxy;
}

/** Follows a list of these proxies. Resolves when it has been read. */
async function follow(urls: readonly string[], probe: object): Promise<void> {
  const path = join(folder, "list.txt");
  writeFileSync(path, urls.join("\n"));
  clock.move(86_400_000 * 3650); // The file is older than a file that counts as being written.
  const configured = { name: "mine", pool, from: { kind: "file", path }, everyMs: 86_400_000, probe };
  writeFileSync(join(folder, "sources.json"), JSON.stringify({ sources: [configured] }));
  const log = pino({ level: "trace" }, { write: (line: string) => void said.push(line) });
  const ports = { front: bus, pools: poolsOver(bus), clock, log };
  sources = new Sources({
    ...ports,
    outbound: loopbackAllowed,
    file: join(folder, "sources.json"),
    folder: join(folder, "seen"),
  });
  await sources.start();
  await eventually(async () => expect((await source())?.last?.read).toBe(urls.length));
}

const probeOf = (more: object = {}) => ({ url: `${target.url}?${query}`, perMinute: 60, timeoutMs: 5000, ...more });

test("rests dead proxies before they are leased, raises the score of live ones, and hides the URL's query", async () => {
  const live = await Promise.all(["127.0.3.1", "127.0.3.2"].map((exit) => proxyAt(exit)));
  const gone = await proxyAt("127.0.3.3");
  await gone.stop();
  const broken = await proxyAt("127.0.3.4", () => ({ status: 502 }));
  const unknown = await proxyAt("127.0.3.5");
  const urls = [...live, gone, broken].map(({ url }) => url);
  await follow([...urls, unknown.url.replace("pass", "wrong")], probeOf({ expectStatus: 200 }));
  expect(await granted()).toBe(0);

  for (let i = 0; i < 5; i++) {
    clock.move(1000);
    await eventually(async () => expect(await granted()).toBe(i + 1));
  }
  await eventually(async () => expect((await source())?.probes).toEqual({ succeeded: 2, failed: 3, neutral: 0 }));
  const found = await proxies();
  for (const { host } of live)
    expect(found.get(host)).toMatchObject({ state: "available", score: 1, totals: { granted: 1 } });
  for (const { host } of [gone, broken, unknown])
    expect(found.get(host)).toMatchObject({ state: "cooling", score: -1, reasons: ["backoff"], openLeases: 0 });
  const leased = new Set<unknown>();
  for (let i = 0; i < 4; i++) leased.add((await ask("lease"))["host"]);
  expect([...leased].sort()).toEqual(live.map(({ host }) => host));

  // All proxies have been used now, so there is nothing left to probe.
  clock.move(120_000);
  await settled();
  expect(await granted()).toBe(5 + 4);
  expect(said.join("") + JSON.stringify(await source())).not.toContain("not-for-logs");
});

test("sends a login in the probe's URL only to its target, as a header", async () => {
  const logins: (string | undefined)[] = [];
  const site = createServer((request, response) => {
    logins.push(request.headers.authorization);
    response.end();
  });
  await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
  stopping.push(() => {
    site.closeAllConnections();
    site.close();
  });
  const { port } = site.address() as AddressInfo;
  await follow([(await proxyAt("127.0.3.6")).url], probeOf({ url: `http://me:not-for-logs@127.0.0.1:${port}/` }));
  clock.move(1000);
  await eventually(async () => expect((await source())?.probes?.succeeded).toBe(1));
  expect(logins).toEqual([`Basic ${Buffer.from("me:not-for-logs").toString("base64")}`]);
  expect(said.join("") + JSON.stringify(await source())).not.toContain("not-for-logs");
});

test("keeps the budget: a probe that was missed in one second is not made up for in the next", async () => {
  const live = await proxyAt("127.0.3.10");
  // Twenty proxies at one address with different user names, all of them wrong.
  const urls = Array.from({ length: 20 }, (_, i) => `http://user${i}:pass@127.0.3.10:${live.port}`);
  await follow(urls, probeOf({ perMinute: 6 }));
  clock.move(9999);
  await settled();
  expect(await granted()).toBe(0);
  clock.move(30_001);
  await eventually(async () => expect(await granted()).toBe(4));
  await settled();
  expect(await granted()).toBe(4);
});

test("does not probe a proxy that was used or is in use", async () => {
  const [used, free, fresh] = await Promise.all([proxyAt("127.0.3.20"), proxyAt("127.0.3.22"), proxyAt("127.0.3.21")]);
  await follow([used.url, free.url, fresh.url], probeOf());
  const idOf = async (host: string) => (await proxies()).get(host)?.id;
  await ask("lease", { proxyId: await idOf(used.host) });
  const { leaseId } = await ask<{ leaseId: string }>("lease", { proxyId: await idOf(free.host) });
  await ask("release", { leaseId });
  for (let i = 0; i < 10; i++) clock.move(1000);
  await eventually(async () => expect((await source())?.probes?.succeeded).toBe(1));
  clock.move(10_000);
  await settled();
  expect([used.requests, free.requests, fresh.requests]).toEqual([0, 0, 1]);
  expect((await proxies()).get(used.host)?.totals.granted).toBe(1);
});

test("waits for a hanging target as long as the source says, with a bounded number of probes", async () => {
  const hanging = await startHanging();
  const live = await proxyAt("127.0.3.30");
  const urls = Array.from({ length: 40 }, (_, i) => `socks5://127.0.4.${i + 1}:${hanging.port}`);
  await follow([...urls, live.url], probeOf({ url: `http://127.0.0.1:${hanging.port}/`, timeoutMs: 1500 }));
  await ask("pool.policy", { policy: { rate: null } });
  clock.move(60_000);
  await eventually(async () => expect(await granted()).toBe(32));
  clock.move(10_000);
  await settled();
  expect(await granted()).toBe(32);
  await eventually(async () => expect((await source())?.probes?.failed).toBe(32), { timeoutMs: 20_000 });
  const states = [...(await proxies()).values()].filter(({ state }) => state === "cooling");
  expect(states).toHaveLength(32);
  clock.move(20_000);
  await eventually(async () => expect((await source())?.probes?.failed).toBe(41), { timeoutMs: 20_000 });
});

test("ends probes and their open lease at once when the source is removed", async () => {
  const hanging = await startHanging();
  const live = await proxyAt("127.0.3.40");
  await follow([live.url, live.url.replace("user:", "other:")], probeOf({ url: `http://127.0.0.1:${hanging.port}/` }));
  clock.move(1000);
  await eventually(async () => expect(live.requests).toBe(1));
  writeFileSync(join(folder, "sources.json"), JSON.stringify({ sources: [] }));
  clock.move(5000);
  await eventually(async () => expect(await source()).toBeUndefined());
  const { leases } = await ask<{ leases: unknown[] }>("leases.list");
  expect(leases).toEqual([]);
  const before = await granted();
  clock.move(60_000);
  await settled();
  expect(await granted()).toBe(before);
});

/** Accepts connections and never answers. */
async function startHanging(): Promise<{ port: number }> {
  const server: Server = createServer(() => {});
  await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  stopping.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port };
}
