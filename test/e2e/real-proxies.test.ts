// The main job, end to end. Real forward proxies, each with its own address, are leased by workers. The workers make
// real requests through them to a real server, and report the results. The server's record is the measure.

import { mkdtemp, rm } from "node:fs/promises";
import { request as requestByHand } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fetch, ProxyAgent } from "undici";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";
import { startTarget, type Target } from "../kit/target.ts";

type Lease = { leaseId: string; proxyId: string; url: string; host: string; uses: number; leftMs: number };
type Proxy = {
  id: string;
  host: string;
  state: string;
  score: number;
  reasons?: string[];
  openLeases: number;
  totals: { granted: number; succeeded: number; failed: number; neutral: number; unreported: number };
};
type Stats = {
  leases: { open: number; granted: number; expired: number };
  outcomes: { succeeded: number; failed: number; neutral: number; ignored: number };
};
type Event = { type: string; leaseId?: string; proxyId?: string; n?: number; uses?: number; used?: number };
type Outcome = { leaseId: string; n: number; status?: number; error?: string; latencyMs: number; final?: true };
type Made = { host: string; outcome: Outcome };

const workers = 8;
const rounds = 6;
const usesEach = 3;
const pool = "shop";

let dataDir: string;
let remuda: RemudaProcess;
let nats: RawNats;
let auditor: RawNats;
let target: Target;
const proxies: ForwardProxy[] = [];
/** Refuses all connections: a proxy had its port a moment ago. */
let dead: ForwardProxy;

beforeAll(async () => {
  target = await startTarget();
  const odd = { username: "us@er", password: "p:a/s%s?#" };
  const credentials = [undefined, { username: "ann", password: "hush" }, undefined, odd, { ...odd, password: "other" }];
  for (const [index, given] of credentials.entries()) {
    proxies.push(await startForwardProxy({ exit: `127.0.0.${11 + index}`, ...(given && { credentials: given }) }));
  }
  dead = await startForwardProxy({ exit: "127.0.0.21" });
  await dead.stop();
  dataDir = await mkdtemp(join(tmpdir(), "real-proxies-"));
  remuda = await startRemuda({ dataDir });
  nats = await connectRaw(remuda.natsUrl);
  auditor = await connectRaw(remuda.natsUrlAs("auditor"));
});

afterAll(async () => {
  await nats?.close();
  await auditor?.close();
  await remuda?.interrupt();
  await remuda?.stop();
  await Promise.all([...proxies, target].map((each) => each.stop()));
  await rm(dataDir, { recursive: true, force: true });
});

async function ask<T>(verb: string, body: unknown = {}): Promise<T> {
  const message = await nats.request(`remuda.${verb}.${pool}`, JSON.stringify(body), { timeoutMs: 20_000 });
  expect(message.headers.get("Nats-Service-Error"), `remuda.${verb}.${pool}`).toBeUndefined();
  return message.json<T>();
}

/** Makes the leased requests one after another and publishes their outcomes. Stops at the first failure. */
async function work(worker: number, made: Made[]): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const lease = await ask<Lease>("lease", {
      uses: usesEach,
      waitMs: 60_000,
      ttlMs: 60_000,
      holder: `worker ${worker}`,
    });
    const agent = new ProxyAgent({ uri: lease.url, proxyTunnel: round % 2 === 0 });
    for (let n = 1; n <= lease.uses; n++) {
      const startedAt = performance.now();
      const seen = await request(agent);
      const failed = "error" in seen;
      const latencyMs = Math.round(performance.now() - startedAt);
      const outcome: Outcome = { leaseId: lease.leaseId, n, ...seen, latencyMs, ...(failed && { final: true }) };
      made.push({ host: lease.host, outcome });
      await publish(outcome);
      if (failed) break;
    }
    await agent.close();
  }
}

async function request(agent: ProxyAgent): Promise<{ status: number } | { error: string }> {
  try {
    const response = await fetch(target.url, { dispatcher: agent, signal: AbortSignal.timeout(20_000) });
    await response.text();
    return { status: response.status };
  } catch (error) {
    return { error: codeIn(error) };
  }
}

/** undici wraps the socket's error. */
function codeIn(error: unknown): string {
  for (let inner = error; inner instanceof Error; inner = inner.cause) {
    if ("code" in inner && typeof inner.code === "string" && inner.code.startsWith("E")) return inner.code;
  }
  throw error; // Not caused by a proxy.
}

async function publish(outcome: Outcome): Promise<void> {
  const id = { "Nats-Msg-Id": `${outcome.leaseId}:${outcome.n}` };
  const ack = await nats.request(`remuda.outcome.${pool}`, JSON.stringify(outcome), { headers: id });
  expect(ack.json()).toMatchObject({ stream: "REMUDA_OUTCOMES" });
}

async function ledger(): Promise<Event[]> {
  const events: Event[] = [];
  const subject = `remuda.ledger.${pool}`;
  for (let seq = 1; ; seq++) {
    const wanted = JSON.stringify({ seq, next_by_subj: subject });
    const got = await auditor.request("$JS.API.STREAM.MSG.GET.REMUDA_LEDGER", wanted);
    const { message } = got.json<{ message?: { seq: number; data: string } }>();
    if (message === undefined) return events;
    events.push(...JSON.parse(Buffer.from(message.data, "base64").toString()).events);
    seq = message.seq;
  }
}

test("workers reach the target through leased proxies, from the right addresses, and a failing proxy rests", async () => {
  await ask("pool.open", { policy: { concurrency: 2, backoff: { baseMs: 120_000, maxMs: 1_200_000 } } });
  const added = await ask("proxies.add", { proxies: [...proxies, dead].map(({ url }) => url) });
  expect(added).toMatchObject({ added: 6, already: 0, rejected: [] });

  const made: Made[] = [];
  await Promise.all(Array.from({ length: workers }, (_, worker) => work(worker, made)));
  await eventually(async () => {
    const { outcomes, leases } = await ask<Stats>("pool.stats");
    expect(outcomes.succeeded + outcomes.failed).toBe(made.length);
    expect(leases.open).toBe(0);
  });

  // The target's view: every request that a worker got an answer to, each from the exit of its leased proxy.
  const answered = made.filter(({ outcome }) => outcome.status !== undefined);
  const failed = made.filter(({ outcome }) => outcome.error !== undefined);
  expect(answered.map(({ outcome }) => outcome.status)).toEqual(answered.map(() => 200));
  expect(target.countByExit()).toEqual(countByHost(answered));
  expect([...target.countByExit().keys()].sort()).toEqual(proxies.map(({ exit }) => exit).sort());
  for (const count of target.maxInWindow(60_000).values()) expect(count).toBeLessThanOrEqual(30);
  // Counted if the credentials were right, once per tunnel.
  for (const proxy of proxies) expect(proxy.requests).toBeGreaterThan(0);
  expect(failed.length).toBeGreaterThan(0);
  expect(new Set(failed.map(({ host }) => host))).toEqual(new Set([dead.host]));
  expect(failed.map(({ outcome }) => outcome.error)).toEqual(failed.map(() => "ECONNREFUSED"));

  const { proxies: listed } = await ask<{ proxies: Proxy[] }>("proxies.list");
  const byHost = new Map(listed.map((proxy) => [proxy.host, proxy]));
  expect(byHost.get(dead.host)).toMatchObject({ state: "cooling", reasons: ["backoff"], score: -failed.length });
  for (const { exit } of proxies) {
    const count = target.countByExit().get(exit);
    expect(byHost.get(exit)).toMatchObject({ state: "available", score: count, openLeases: 0 });
    expect(byHost.get(exit)?.totals).toMatchObject({ granted: count, succeeded: count, failed: 0, unreported: 0 });
  }

  // The ledger agrees, use by use.
  const events = await ledger();
  const of = (type: string) => events.filter((event) => event.type === type);
  const key = (use: { leaseId?: string; n?: number }) => `${use.leaseId}:${use.n}`;
  expect(of("UseReported").map(key).sort()).toEqual(made.map(({ outcome }) => key(outcome)).sort());
  expect(of("LeaseGranted")).toHaveLength(workers * rounds);
  expect(of("LeaseClosed")).toHaveLength(workers * rounds);
  const used = of("LeaseClosed").reduce((sum, event) => sum + (event.used ?? 0), 0);
  expect(used).toBe(made.length);
  const idOf = (host: string) => byHost.get(host)?.id;
  for (const { exit } of proxies) {
    const uses = of("UseReported").filter(({ proxyId }) => proxyId === idOf(exit));
    expect(uses).toHaveLength(target.countByExit().get(exit) ?? 0);
  }
  const { leases, outcomes } = await ask<Stats>("pool.stats");
  expect(leases).toEqual({ open: 0, granted: workers * rounds, expired: 0 });
  expect(outcomes).toEqual({ succeeded: answered.length, failed: failed.length, neutral: 0, ignored: 0 });

  // Its rest began at the first failure. It was not leased again, except for leases that were already open.
  expect(failed.length).toBeLessThanOrEqual(2);
});

test("a proxy reports a wrong password of the list, and then rests for it", async () => {
  const wrong = await startForwardProxy({ exit: "127.0.0.31", credentials: { username: "ann", password: "right" } });
  try {
    const url = wrong.url.replace("right", "wrong");
    await ask("proxies.add", { proxies: [{ url, labels: { list: "old" } }] });
    const lease = await ask<Lease>("lease", { labels: { list: "old" } });
    expect(lease.url).toBe(url);
    const status = await statusThrough(lease.url);
    expect(status).toBe(407);
    const { at: before } = await ask<{ at: number }>("pool.stats");
    await publish({ leaseId: lease.leaseId, n: 1, status, latencyMs: 1 });
    const proxy = await eventually(async () => {
      const proxy = await ask<Proxy & { until: number }>("proxies.get", { id: lease.proxyId });
      expect(proxy.state).toBe("cooling");
      return proxy;
    });
    expect(proxy.until - before).toBeGreaterThanOrEqual(600_000); // proxy-auth begins at ten minutes.
    expect(target.countByExit().has("127.0.0.31")).toBe(false);
  } finally {
    await wrong.stop();
  }
});

/** The proxy's own answer, in cases that undici turns into an error. */
async function statusThrough(url: string): Promise<number> {
  const { hostname, port, username, password } = new URL(url);
  const login = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return new Promise((resolve, reject) => {
    const headers = { "Proxy-Authorization": `Basic ${Buffer.from(login).toString("base64")}` };
    const asking = requestByHand({ host: hostname, port, path: target.url, headers }, (response) => {
      resolve(response.statusCode ?? 0);
      response.resume();
    });
    asking.on("error", reject).end();
  });
}

function countByHost(made: readonly Made[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { host } of made) counts.set(host, (counts.get(host) ?? 0) + 1);
  return counts;
}
