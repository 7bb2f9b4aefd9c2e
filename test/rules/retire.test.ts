// Retiring a proxy and adding it again: which facts outlive that, and for how long.
import { describe, expect, test } from "vitest";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };

describe("retiring and adding again cannot bypass a limit", () => {
  test("keeps rest and epoch; score, streak and labels start afresh", () => {
    const pool = new TestPool({ ...free, backoff: { kind: "fixed", restMs: 10_000 } });
    const [id] = pool.add(proxyLines(1), { labels: { a: "1" } });
    pool.report(pool.granted(), { reason: "blocked" });
    pool.retire(id!);
    expect(pool.refused().code).toBe("no-match");
    pool.wait(4000);
    pool.add(proxyLines(1), { labels: { b: "2" } });
    expect(pool.proxy(id!)).toMatchObject({
      state: "cooling",
      until: pool.at + 6000,
      epoch: 1,
      score: 0,
      streak: 0,
      labels: { b: "2" },
    });
    pool.wait(6000);
    pool.granted();
  });

  test("keeps window, usage quota and open leases", () => {
    const pool = new TestPool({
      ...free,
      rate: { limit: 2, windowMs: 60_000 },
      usage: { limit: 9, restMs: 600_000 },
      concurrency: 1,
      lease: { ttlMs: 30_000 },
    });
    const [id] = pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.retire(id!);
    pool.add(proxyLines(1));
    expect(pool.proxy(id!)).toMatchObject({ state: "in-use", usesSinceRest: 1, usesInWindow: 1 });
    expect(pool.refused().limitedBy).toMatchObject({ concurrency: 1 });
    pool.retire(id!);
    pool.report(lease, { status: 200 });
    expect(pool.types()).toEqual(["UseReported", "LeaseClosed.retired"]);
    pool.add(proxyLines(1));
    pool.granted();
    expect(pool.proxy(id!)).toMatchObject({ usesSinceRest: 2, usesInWindow: 2 });
  });

  test("begins a rest that falls due while retired when the proxy is added again", () => {
    const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 50_000 } });
    const [id] = pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.retire(id!);
    pool.report(lease, { status: 200 });
    expect(pool.types()).toEqual(["UseReported", "LeaseClosed.retired"]);
    pool.add(proxyLines(1));
    expect(pool.types()).toEqual(["ProxyAdded.available", "RestBegan.exhausted"]);
    expect(pool.proxy(id!)).toMatchObject({ state: "exhausted", until: pool.at + 50_000 });
  });

  test("checks failures from before and during retirement when the proxy is added again", () => {
    const pool = new TestPool({ ...free, failures: { limit: 2, windowMs: 60_000, restMs: 5000 } });
    const [id] = pool.add(proxyLines(1));
    const leases = [1, 2, 3].map(() => pool.granted());
    pool.report(leases.pop()!, { reason: "timeout" });
    pool.retire(id!);
    for (const lease of leases) pool.report(lease, { reason: "timeout" });
    expect(pool.types()).toEqual(["UseReported", "LeaseClosed.retired"]);
    pool.add(proxyLines(1));
    expect(pool.types()).toEqual(["ProxyAdded.available", "RestBegan.cooling"]);
    expect(pool.proxy(id!)).toMatchObject({ reasons: ["failures"], until: pool.at + 5000, score: 0, streak: 0 });
  });

  test("counts rests for a streak anew", () => {
    const pool = new TestPool({ ...free, streak: { limit: 1, restMs: 1000, retireAfter: 2 } });
    const [id] = pool.add(proxyLines(1));
    const fail = () => pool.report(pool.granted(), { reason: "timeout" });
    for (const _ of [1, 2]) fail();
    pool.wait(1000);
    pool.retire(id!);
    pool.add(proxyLines(1));
    for (const _ of [1, 2]) fail();
    expect(pool.proxy(id!)).toMatchObject({ state: "cooling", reasons: ["streak"] });
  });

  test("in the end forgets everything that has run out", () => {
    const pool = new TestPool({ ...free, rate: { limit: 2, windowMs: 60_000 }, usage: { limit: 9, restMs: 900_000 } });
    const [id] = pool.add(proxyLines(1));
    pool.report(pool.granted(), { status: 200 });
    pool.retire(id!);
    pool.wait(3_599_000);
    expect(pool.state.proxies.size).toBe(1);
    pool.wait(2000);
    expect([pool.state.proxies.size, pool.state.exits.size, pool.state.closedLeases.size]).toEqual([0, 0, 0]);
  });

  const hours = 3_600_000;
  test.each<[string, Record<string, unknown>, (pool: TestPool, id: string) => void, object]>([
    ["a rest", {}, (pool, id) => pool.rest(id, 3 * hours), { state: "cooling", reasons: ["manual"] }],
    [
      "a window",
      { rate: { limit: 2, windowMs: 3 * hours } },
      (pool) => pool.report(pool.granted(), { status: 200 }),
      { usesInWindow: 1 },
    ],
    [
      "failures",
      { failures: { limit: 1, windowMs: 3 * hours, restMs: 1000 } },
      (pool, id) => {
        const older = pool.granted();
        pool.report(pool.granted(), { reason: "timeout" });
        pool.retire(id);
        pool.report(older, { reason: "timeout" });
      },
      { state: "cooling", reasons: ["failures"] },
    ],
    [
      "an open lease",
      { lease: { ttlMs: 3 * hours, ttlMsMax: 3 * hours } },
      (pool) => void pool.granted(),
      { state: "in-use", openLeases: 1 },
    ],
  ])(
    "%s that lasts longer outlives an hour of retirement, and the proxy is forgotten after it",
    (_what, policy, begin, left) => {
      const pool = new TestPool({ ...free, ...policy });
      const [id] = pool.add(proxyLines(1));
      begin(pool, id!);
      pool.retire(id!);
      pool.wait(2 * hours);
      pool.add(proxyLines(1));
      expect(pool.proxy(id!)).toMatchObject(left);
      pool.retire(id!);
      pool.wait(3 * hours);
      expect(pool.state.proxies.size).toBe(0);
    },
  );

  test("remembers a proxy with an open lease though others of its exit remain, and then forgets it", () => {
    const pool = new TestPool({ ...free, lease: { ttlMs: 3 * hours, ttlMsMax: 3 * hours } });
    const [id, other] = pool.add(proxyLines(2), { labels: { exit: "gate" } });
    const lease = pool.granted({ exclude: [other] });
    pool.retire(id!);
    pool.wait(2 * hours);
    pool.report(lease, { status: 200 });
    expect(pool.proxy(id!)).toMatchObject({ state: "retired", openLeases: 0, totals: { succeeded: 1 } });
    pool.wait(hours);
    expect([...pool.state.proxies.keys()]).toEqual([other]);
  });

  test("keeps a usage quota beyond an hour of retirement if its rest would be longer", () => {
    const pool = new TestPool({ ...free, usage: { limit: 2, restMs: 7_200_000 } });
    const [id] = pool.add(proxyLines(1));
    pool.release(pool.granted());
    pool.retire(id!);
    pool.wait(7_100_000);
    pool.add(proxyLines(1));
    expect(pool.proxy(id!).usesSinceRest).toBe(1);
  });

  test("keeps labels and limits that are not given when the proxy is added again", () => {
    const pool = new TestPool(free);
    const limits = { concurrency: 1 };
    const [id] = pool.add(["192.0.2.1:8080,US"], { labels: { country: "US", tier: "1" }, limits });
    pool.add(["192.0.2.1:8080"]);
    expect(pool.facts).toEqual([]);
    pool.add(["192.0.2.1:8080:DE"]);
    expect(pool.proxy(id!)).toMatchObject({ labels: { country: "DE", tier: "1" }, limits });
    pool.add(["192.0.2.1:8080"], { labels: {} });
    expect(pool.proxy(id!).labels).toEqual({});
  });
});

test("keeps a proxy's own limits in retirement, and when it is added again without limits", () => {
  const pool = new TestPool({ ...free, rate: { limit: 100, windowMs: 60_000 } });
  const [id] = pool.add(proxyLines(1), { limits: { rate: { limit: 5, windowMs: 3_600_000 } } });
  const leases = [1, 2, 3, 4, 5].map(() => pool.granted());
  for (const lease of leases.slice(1)) pool.report(lease, { status: 200 });
  pool.wait(80_000);
  pool.retire(id!);
  pool.report(leases[0]!, { status: 200 });
  pool.add(proxyLines(1));
  expect(pool.lease()).toMatchObject({ code: "pool-exhausted", limitedBy: { rate: 1 } });
  expect(pool.proxy(id!).usesInWindow).toBe(5);
});
