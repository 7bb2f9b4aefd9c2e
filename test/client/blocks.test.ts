// Block leases under `fetch`. They grow with the load, are used up before the next, stay within every limit as the
// target sees it, and stop when their proxy rests.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { maxInAnyWindow } from "../kit/target.ts";
import { setting } from "./setting.ts";
import { type Site, startSite } from "./site.ts";

const at = setting();
let site: Site;
const proxies: ForwardProxy[] = [];

beforeAll(async () => {
  site = await startSite();
  for (let i = 0; i < 4; i++) proxies.push(await startForwardProxy({ exit: `127.0.0.${140 + i}` }));
});
afterAll(async () => {
  await Promise.all([...proxies, site].map((each) => each?.stop()));
});

const free = { rate: null, usage: null };

test("doubles blocks as they are used up one after another, and gives the remainder back", async () => {
  await at.open("grows", [proxies[0]!.url], free);
  const client = await at.client("nats", { pool: "grows", fetch: { idleMs: 300 } });
  for (let i = 0; i < 40; i++) await (await client.fetch(`${site.url}/seen`)).text();
  const { leases } = await at.stats("grows");
  expect(leases.granted).toBe(6); // 1 + 2 + 4 + 8 + 16 + 32
  await eventually(async () => expect((await at.stats("grows")).leases.open).toBe(0)); // It was unused, so it was given back.
  expect((await at.proxies("grows"))[0]?.totals).toMatchObject({ succeeded: 40, unreported: 0 });
});

test("shares blocks among concurrent requests, within the parallel limit of each lease", async () => {
  await at.open("at-once", [proxies[0]!.url, proxies[1]!.url], { ...free, concurrency: 1 });
  const client = await at.client("http", { pool: "at-once", fetch: { parallelMax: 3 } });
  const fetches = Array.from({ length: 30 }, () => client.fetch(`${site.url}/hang`));
  await eventually(() => expect(site.held).toBe(6));
  // Two proxies, one lease each, three requests each: no more can be under way.
  const grown = site.visits.filter(({ line }) => line === "GET /hang").length;
  expect(grown).toBe(6);
  const letting = setInterval(() => {
    expect(site.held).toBeLessThanOrEqual(6);
    site.letGo();
  }, 5);
  for (const response of await Promise.all(fetches)) await response.text();
  clearInterval(letting);
  await client.close();
  const { leases, outcomes } = await at.stats("at-once");
  expect([outcomes.succeeded, leases.open]).toEqual([30, 0]);
  expect(leases.granted).toBeLessThan(20);
});

test("never exceeds the rate of an exit at the target, however many requests come at once", async () => {
  const windowMs = 1000;
  await at.open(
    "exact",
    proxies.map(({ url }) => url),
    { rate: { limit: 5, windowMs }, lease: { ttlMs: 5000, graceMs: 100 }, concurrency: 2 },
  );
  const clients = [await at.client("nats", { pool: "exact" }), await at.client("http", { pool: "exact" })];
  const before = site.visits.length;
  const fetches = Array.from({ length: 70 }, (_, i) => clients[i % 2]!.fetch(`${site.url}/redirect/302`));
  for (const response of await Promise.all(fetches)) expect(await response.text()).toBe("seen\n");
  const visits = site.visits.slice(before);
  expect(visits).toHaveLength(140); // Each with its redirect.
  const most = proxies.map(({ exit }) =>
    maxInAnyWindow(
      visits.filter(({ from }) => from === exit).map((each) => each.at),
      windowMs,
    ),
  );
  for (const each of most) expect(each).toBeLessThanOrEqual(5);
  expect(Math.max(...most)).toBe(5);
  await Promise.all(clients.map((each) => each.close()));
  const snapshots = await at.proxies("exact");
  const succeeded = snapshots.reduce((sum, each) => sum + each.totals.succeeded, 0);
  const unreported = snapshots.reduce((sum, each) => sum + each.totals.unreported, 0);
  expect([succeeded, unreported]).toEqual([140, 0]);
});

test("shrinks a lease request for more uses than the policy could ever grant", async () => {
  await at.open("small", [proxies[0]!.url], { rate: { limit: 3, windowMs: 300 }, lease: { ttlMs: 5000, graceMs: 50 } });
  const client = await at.client("nats", { pool: "small" });
  const fetches = Array.from({ length: 12 }, () => client.fetch(`${site.url}/seen`));
  for (const response of await Promise.all(fetches)) expect((await response.text()).length).toBe(5);
});

test("leaves a block when its proxy begins to rest, and sends the next request through another", async () => {
  await at.open("rests", [proxies[0]!.url, proxies[1]!.url], { ...free, strategy: { kind: "drain" } });
  const client = await at.client("nats", { pool: "rests", fetch: { retries: 0 } });
  for (let i = 0; i < 10; i++) await (await client.fetch(`${site.url}/seen`)).text();
  const seen = site.visits.length;
  await (await client.fetch(`${site.url}/status/403`)).text();
  const blocked = site.visits[seen]?.from;
  for (let i = 0; i < 5; i++) await (await client.fetch(`${site.url}/seen`)).text();
  expect(site.visits.slice(seen + 1).filter(({ from }) => from === blocked)).toEqual([]);
  expect((await at.proxies("rests")).map((each) => each.state).sort()).toContain("cooling");
});

test("gives requests with other labels separate blocks", async () => {
  await at.open(
    "kinds",
    proxies.map(({ url, exit }) => ({ url, labels: { exit, half: exit < "127.0.0.142" ? "a" : "b" } })),
    free,
  );
  const client = await at.client("http", { pool: "kinds" });
  const through = async (request: object) => {
    const before = site.visits.length;
    await (await client.fetch(`${site.url}/seen`, {}, { request })).text();
    return site.visits[before]?.from;
  };
  expect(await through({ labels: { half: "a" } })).toMatch(/14[01]$/);
  expect(await through({ labels: { half: "b" } })).toMatch(/14[23]$/);
});

test("rejects the next request at once at the bound of waiting requests", async () => {
  await at.open("full", [proxies[0]!.url], { concurrency: 1 });
  const client = await at.client("nats", { pool: "full", fetch: { parallelMax: 1, waitingMax: 2 } });
  const fetches = Array.from({ length: 6 }, () =>
    client.fetch(`${site.url}/hang`).then(
      () => "ok",
      (error) => error.code,
    ),
  );
  await eventually(() => expect(site.held).toBe(1));
  const letting = setInterval(() => site.letGo(), 5);
  const ends = await Promise.all(fetches);
  clearInterval(letting);
  expect(ends.filter((each) => each === "queue-full").length).toBe(4);
  expect(ends.filter((each) => each === "ok").length).toBe(2);
});
