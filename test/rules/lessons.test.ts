// Failures that were measured in another proxy pool of this design. Each is a test here, so that none can happen in
// this pool. The numbers are those of the issues of mjfelecio/metric-scraper. The client, the sources and the doctor
// have a lessons.test.ts of their own.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { viewStats } from "../../state-machines/view.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { WaitingPool } from "../kit/waiting-pool.ts";

const calm = {
  rate: null,
  concurrency: null,
  usage: null,
  failures: null,
  streak: null,
  backoff: { kind: "fixed", restMs: 10_000, jitterMs: 0 },
};

test("#4, #27: a burst of late failures causes one rest and does not extend it", () => {
  const pool = new TestPool({ ...calm, streak: { limit: 3, restMs: 60_000 } });
  const [id] = pool.add(proxyLines(1));
  const burst = Array.from({ length: 18 }, () => pool.granted());
  pool.report(burst[0]!, { reason: "proxy-error" });
  const { until, epoch } = pool.proxy(id!);
  for (const lease of burst.slice(1)) {
    pool.wait(20);
    pool.report(lease, { reason: "proxy-error" });
    expect(pool.types().filter((type) => type.startsWith("Rest"))).toEqual([]);
  }
  expect(pool.proxy(id!)).toMatchObject({ until, epoch, streak: 1, score: -18, totals: { failed: 18 } });
  pool.wait(until! - pool.at);
  expect(pool.proxy(id!)).toMatchObject({ state: "available", epoch: 1 });
});

test("#31: a late success neither ends nor shortens a rest", () => {
  const pool = new TestPool(calm);
  const [id] = pool.add(proxyLines(1));
  const [first, late] = [pool.granted(), pool.granted()];
  pool.report(first, { reason: "blocked" });
  const { until } = pool.proxy(id!);
  pool.wait(5000);
  pool.report(late, { status: 200 });
  expect(pool.proxy(id!)).toMatchObject({ state: "cooling", until, streak: 1 });
  expect(pool.refused()).toMatchObject({ code: "pool-exhausted", retryAfterMs: 5000 });
});

test("#31: every rest ends on time, one after another", () => {
  const pool = new TestPool({ ...calm, usage: { limit: 4, restMs: 7000 }, streak: { limit: 2, restMs: 20_000 } });
  const ids = pool.add(proxyLines(3));
  const ended: string[] = [];
  for (let n = 0; n < 60; n++) {
    const lease = pool.lease();
    if ("leaseId" in lease) pool.report(lease, n % 2 === 0 ? { status: 200 } : { reason: "proxy-error" });
    const before = new Map(ids.map((id) => [id, pool.proxy(id)]));
    pool.wait(2500);
    for (const [id, { until }] of before) {
      if (until === undefined || until > pool.at) continue;
      expect(pool.proxy(id).state).toBe("available");
      ended.push(id);
    }
  }
  for (const id of ids) expect(ended.filter((each) => each === id).length).toBeGreaterThan(3);
});

test("#14: reported states follow from the state: nothing stays blocked after its rest", () => {
  const pool = new TestPool(calm);
  const ids = pool.add(proxyLines(3));
  const stats = () => viewStats(pool.state, pool.candidates, { sequence: 0, waiting: 0 }).proxies;
  for (const _ of ids) pool.report(pool.granted(), { reason: "blocked" });
  expect(stats()).toEqual({ available: 0, "in-use": 0, cooling: 3, exhausted: 0, retired: 0, leasable: 0 });
  pool.wait(10_000);
  expect(stats()).toEqual({ available: 3, "in-use": 0, cooling: 0, exhausted: 0, retired: 0, leasable: 3 });
  for (const id of ids) {
    expect(pool.proxy(id)).not.toHaveProperty("until");
    expect(pool.proxy(id)).not.toHaveProperty("reasons");
  }
});

test.each([
  [451, "blocked"],
  [403, "blocked"],
  [401, "blocked"],
  [400, "target-error"],
  [407, "proxy-auth"],
  [429, "throttled"],
  [500, "target-error"],
  [404, "success"],
])("#3: a status of %i is not a success of the proxy unless it says that the proxy works: %s", (status, kind) => {
  const pool = new TestPool(calm);
  const [id] = pool.add(proxyLines(1));
  pool.report(pool.granted(), { status });
  expect(pool.facts[0]).toMatchObject({ type: "UseReported", class: kind });
  expect(pool.proxy(id!).totals.succeeded).toBe(kind === "success" ? 1 : 0);
});

test("#4: a dead proxy with a failures limit is not leased until it is used up: concurrency is capped by default", () => {
  const pool = new TestPool();
  pool.add(proxyLines(1));
  pool.granted();
  pool.granted();
  expect(pool.refused()).toMatchObject({ code: "pool-exhausted", limitedBy: { concurrency: 1 } });
});

test("#22: many failures do not empty the pool: a lease request waits for the first rest to end", () => {
  const pool = new WaitingPool({ ...calm, streak: { limit: 1, restMs: 30_000 } });
  const ids = pool.add(proxyLines(4));
  for (let n = 0; n < 8; n++) {
    const lease = pool.lease();
    if ("leaseId" in lease) pool.report(lease, { reason: "unreachable" });
    pool.wait(1000);
  }
  expect(ids.map((id) => pool.proxy(id).state)).not.toContain("retired");
  pool.ask({});
  expect(pool.served).toEqual([]);
  pool.wait(30_000);
  expect(pool.served).toHaveLength(1);
});

test("#30: an exhausted pool reports that it is exhausted, what holds it back, and when to retry", () => {
  const pool = new TestPool({ ...calm, concurrency: 1 });
  const [resting] = pool.add(proxyLines(2));
  pool.report(pool.granted(), { reason: "timeout" });
  pool.granted({ ttlMs: 3000 });
  expect(pool.proxy(resting!).state).toBe("cooling");
  expect(pool.refused()).toMatchObject({
    code: "pool-exhausted",
    retryAfterMs: 3000,
    limitedBy: { rate: 0, concurrency: 1, usage: 0, rest: 1, exclude: 0, session: 0 },
  });
});

test("#25: proxies that time out together return within seconds: an error on our side costs no proxy", () => {
  const pool = new TestPool();
  const ids = pool.add(proxyLines(11));
  for (const _ of ids) {
    pool.report(pool.granted(), { error: "UND_ERR_CONNECT_TIMEOUT" });
    pool.wait(51);
  }
  expect(new Set(ids.map((id) => pool.proxy(id).state))).toEqual(new Set(["cooling"]));
  for (const id of ids) expect(pool.proxy(id)).toMatchObject({ reasons: ["backoff"], score: -1 });
  pool.wait(3000); // Two seconds each, and up to one more by chance.
  expect(new Set(ids.map((id) => pool.proxy(id).state))).toEqual(new Set(["available"]));
});

test("names a test for each of these failures", () => {
  const files = ["rules", "client", "sources", "cli"].map((name) => `../${name}/lessons.test.ts`);
  const texts = files.map((file) => readFileSync(new URL(file, import.meta.url), "utf8"));
  const titles = texts.flatMap((text) => text.match(/^(test\(|\])?.*"#\d+(, #\d+)*: /gm) ?? []);
  const named = new Set(titles.flatMap((title) => title.match(/#\d+/g) ?? []));
  for (const number of [3, 4, 14, 16, 22, 25, 27, 30, 31]) expect(named).toContain(`#${number}`);
});
