import { describe, expect, test } from "vitest";
import { proxyLines, TestPool } from "../kit/pool.ts";

const quiet = { usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const rate = (limit: number, windowMs: number) => ({ ...quiet, rate: { limit, windowMs }, concurrency: null });

describe("the rate, as the target sees it", () => {
  test("occupies a slot from the grant until the report, a window and the margin have passed", () => {
    const pool = new TestPool(rate(1, 10_000));
    pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.wait(5000);
    pool.report(lease, { status: 200 });
    expect(pool.refused()).toMatchObject({
      code: "pool-exhausted",
      retryAfterMs: 10_101,
      limitedBy: { rate: 1, rest: 0 },
    });
    pool.wait(10_100);
    expect(pool.refused()).toMatchObject({ retryAfterMs: 1 });
    pool.wait(1);
    pool.granted();
  });

  test("assumes that an unreported use may still arrive at the lease's end and grace", () => {
    const pool = new TestPool({ ...rate(1, 10_000), lease: { ttlMs: 1000, graceMs: 500 } });
    pool.add(proxyLines(1));
    pool.granted();
    expect(pool.refused().retryAfterMs).toBe(1000 + 500 + 10_000 + 100 + 1);
    pool.wait(11_600);
    expect(pool.refused().retryAfterMs).toBe(1);
    pool.wait(1);
    pool.granted();
  });

  test.each(["timeout", "unreachable", "client-abort"])(
    "a use reported %s may still arrive for the grace",
    (reason) => {
      const pool = new TestPool({ ...rate(1, 10_000), lease: { graceMs: 500 } });
      pool.add(proxyLines(1));
      pool.report(pool.granted(), { reason });
      expect(pool.refused().retryAfterMs).toBe(10_601);
    },
  );

  test("does not move a slot at the report if uses count from the grant", () => {
    const pool = new TestPool({ ...rate(1, 10_000), countFrom: "grant" });
    pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.wait(9000);
    pool.report(lease, { status: 200 });
    expect(pool.refused().retryAfterMs).toBe(1101);
  });

  test("holds all of several windows", () => {
    const pool = new TestPool({
      ...rate(1, 1),
      rate: [
        { limit: 2, windowMs: 1000 },
        { limit: 3, windowMs: 10_000 },
      ],
    });
    pool.add(proxyLines(1));
    pool.report(pool.granted(), { status: 200 });
    pool.report(pool.granted(), { status: 200 });
    expect(pool.refused().retryAfterMs).toBe(1101);
    pool.wait(1101);
    pool.report(pool.granted(), { status: 200 });
    expect(pool.refused().retryAfterMs).toBe(10_101 - 1101);
  });

  test("shares slots between proxies of one exit; proxies with exits of their own share none", () => {
    const labels = { exit: "gate" };
    const shared = new TestPool(rate(2, 10_000));
    shared.add(proxyLines(2), { labels });
    shared.granted();
    shared.granted();
    expect(shared.refused().limitedBy).toMatchObject({ rate: 2 });
    const apart = new TestPool({ ...rate(2, 10_000), limitBy: "proxy" });
    apart.add(proxyLines(2), { labels });
    for (let i = 0; i < 4; i++) apart.granted();
    expect(apart.refused().limitedBy).toMatchObject({ rate: 2 });
  });

  test("treats a literal address as one exit whatever the port, and a host name as one exit per proxy", () => {
    const pool = new TestPool(rate(1, 10_000));
    pool.add(["192.0.2.1:1", "192.0.2.1:2"]);
    pool.granted();
    expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
    pool.add(["gw.example:1", "gw.example:2"]);
    pool.granted();
    pool.granted();
    expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
  });

  test("grants a block the uses that are left, and frees returned uses", () => {
    const pool = new TestPool(rate(5, 10_000));
    pool.add(proxyLines(1));
    expect(pool.granted({ uses: 3 }).uses).toBe(3);
    const rest = pool.granted({ uses: 3 });
    expect(rest.uses).toBe(2);
    expect(pool.lease({ uses: 3 })).toMatchObject({ code: "pool-exhausted" });
    expect(pool.release(rest, 0)).toEqual({ leaseId: rest.leaseId, used: 0, returned: 2 });
    expect(pool.granted({ uses: 3, minUses: 2 }).uses).toBe(2);
  });

  test("rejects as out of range more uses than can ever be granted, and fewer than the request needs", () => {
    const pool = new TestPool(rate(5, 10_000));
    pool.add(proxyLines(1));
    expect(pool.refused({ uses: 6 })).toMatchObject({ code: "invalid-request", field: "uses" });
    expect(pool.refused({ uses: 2, minUses: 3 })).toMatchObject({ code: "invalid-request", field: "minUses" });
  });

  test("holds the slot from a late report of an ended lease, and counts no new use", () => {
    const pool = new TestPool({
      ...rate(2, 10_000),
      lease: { ttlMs: 1000, graceMs: 500 },
      usage: { limit: 10, restMs: 1000 },
    });
    const [id] = pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.wait(5000);
    pool.report(lease, { status: 200 });
    expect(pool.facts[0]).toMatchObject({ type: "UseReported", late: true, slotAt: pool.at });
    expect(pool.proxy(id!)).toMatchObject({
      usesSinceRest: 1,
      usesInWindow: 1,
      totals: { granted: 1, succeeded: 1, unreported: 0 },
    });
    pool.granted();
    expect(pool.refused().retryAfterMs).toBe(10_101);
  });

  test("counts a use beyond those granted against the limits, and marks it", () => {
    const pool = new TestPool({ ...rate(3, 10_000), usage: { limit: 3, restMs: 1000 } });
    const [id] = pool.add(proxyLines(1));
    const lease = pool.granted({ uses: 2 });
    pool.report(lease, { n: 7, status: 200 });
    expect(pool.facts[0]).toMatchObject({ over: true });
    expect(pool.proxy(id!)).toMatchObject({ usesSinceRest: 3, usesInWindow: 3 });
    expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
  });

  test("applies a wider window from one new window later, a narrower one at once", () => {
    const pool = new TestPool(rate(1, 1000));
    pool.add(proxyLines(1));
    pool.report(pool.granted(), { status: 200 });
    pool.wait(500);
    pool.policy({ rate: { windowMs: 10_000 } });
    expect(pool.refused().retryAfterMs).toBe(9601);
    pool.policy({ rate: { windowMs: 100 } });
    pool.granted();
  });

  test("replaces the policy's limits by a proxy's own for its exit; the strictest of several counts", () => {
    const pool = new TestPool(rate(3, 10_000));
    pool.add(proxyLines(1), { limits: { rate: { limit: 2, windowMs: 10_000 } }, labels: { exit: "gate" } });
    pool.add(proxyLines(1, 2), { limits: { rate: { limit: 1, windowMs: 10_000 } }, labels: { exit: "gate" } });
    pool.granted();
    expect(pool.refused().limitedBy).toMatchObject({ rate: 2 });
  });

  test("changes limitBy only when nothing is counted that would have to be told apart", () => {
    const pool = new TestPool(rate(2, 10_000));
    pool.add(proxyLines(2), { labels: { exit: "gate" } });
    const lease = pool.granted();
    expect(pool.policy({ limitBy: "proxy" })).toMatchObject({ refusal: { field: "policy.limitBy" } });
    pool.report(lease, { status: 200 });
    expect(pool.policy({ limitBy: "proxy" })).toMatchObject({ refusal: { field: "policy.limitBy" } });
    pool.wait(10_101);
    expect(pool.policy({ limitBy: "proxy" })).toEqual({ warnings: [] });
    for (let i = 0; i < 4; i++) pool.granted();
    expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
  });
});

describe("concurrency", () => {
  test("is counted per exit, and a lease expires without any command", () => {
    const pool = new TestPool({ ...rate(100, 1000), concurrency: 1, lease: { ttlMs: 5000 } });
    pool.add(proxyLines(2), { labels: { exit: "gate" } });
    pool.granted();
    expect(pool.refused()).toMatchObject({ retryAfterMs: 5000, limitedBy: { concurrency: 2 } });
    pool.wait(4999);
    expect(pool.refused().retryAfterMs).toBe(1);
    pool.wait(1);
    pool.granted();
  });

  test("moves the end of a renewed lease, never to an earlier one", () => {
    const pool = new TestPool({ ...rate(100, 1000), concurrency: 1, lease: { ttlMs: 5000 } });
    pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.wait(1000);
    expect(pool.renew(lease)).toMatchObject({ expiresAt: pool.at + 5000 });
    expect(pool.renew(lease, 10)).toMatchObject({ expiresAt: pool.at + 5000 });
    expect(pool.facts).toEqual([]);
    expect(pool.renew(lease, 4_000_000)).toMatchObject({ code: "invalid-request", field: "ttlMs" });
    pool.wait(5000);
    expect(pool.renew(lease)).toMatchObject({ code: "unknown-lease" });
  });
});

test("does not loosen a sibling's limits by a proxy's looser ones", () => {
  const pool = new TestPool({ ...quiet, rate: { limit: 3, windowMs: 10_000 }, concurrency: 2 });
  pool.add(proxyLines(1), { labels: { exit: "gate" }, limits: { rate: null, concurrency: null } });
  pool.add(proxyLines(1, 2), { labels: { exit: "gate" } });
  pool.granted();
  pool.granted();
  expect(pool.refused().limitedBy).toMatchObject({ concurrency: 2 });
});

test('holds the slot of a use granted under countFrom "grant" until its report once reports count', () => {
  const pool = new TestPool({
    ...quiet,
    rate: { limit: 2, windowMs: 1000 },
    countFrom: "grant",
    lease: { ttlMs: 600_000 },
  });
  pool.add(proxyLines(1));
  pool.granted({ uses: 2 });
  pool.policy({ countFrom: "report" });
  pool.wait(5000);
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1 });
});
