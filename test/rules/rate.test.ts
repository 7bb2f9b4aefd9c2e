import { describe, expect, test } from "vitest";
import { proxyLines, TestPool } from "../kit/pool.ts";

const quiet = { usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const rate = (limit: number, windowMs: number) => ({ ...quiet, rate: { limit, windowMs }, concurrency: null });

describe("the rate, as the target sees it", () => {
  test("a slot is occupied from the grant until the report, a window and the margin have passed", () => {
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

  test("a use that is never reported may still arrive at the lease's end and grace", () => {
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

  test("counted from the grant, the report moves nothing", () => {
    const pool = new TestPool({ ...rate(1, 10_000), countFrom: "grant" });
    pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.wait(9000);
    pool.report(lease, { status: 200 });
    expect(pool.refused().retryAfterMs).toBe(1101);
  });

  test("all of several windows hold", () => {
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

  test("proxies that leave by one exit share its slots; by their own, they don't", () => {
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

  test("one literal address is one exit whatever the port; a name is a gateway, so each proxy is its own", () => {
    const pool = new TestPool(rate(1, 10_000));
    pool.add(["192.0.2.1:1", "192.0.2.1:2"]);
    pool.granted();
    expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
    pool.add(["gw.example:1", "gw.example:2"]);
    pool.granted();
    pool.granted();
    expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
  });

  test("a block takes what is left, and what is returned is free again", () => {
    const pool = new TestPool(rate(5, 10_000));
    pool.add(proxyLines(1));
    expect(pool.granted({ uses: 3 }).uses).toBe(3);
    const rest = pool.granted({ uses: 3 });
    expect(rest.uses).toBe(2);
    expect(pool.lease({ uses: 3 })).toMatchObject({ code: "pool-exhausted" });
    expect(pool.release(rest, 0)).toEqual({ leaseId: rest.leaseId, used: 0, returned: 2 });
    expect(pool.granted({ uses: 3, minUses: 2 }).uses).toBe(2);
  });

  test("uses above what can ever be granted, or fewer than wanted, are out of range", () => {
    const pool = new TestPool(rate(5, 10_000));
    pool.add(proxyLines(1));
    expect(pool.refused({ uses: 6 })).toMatchObject({ code: "invalid-request", field: "uses" });
    expect(pool.refused({ uses: 2, minUses: 3 })).toMatchObject({ code: "invalid-request", field: "minUses" });
  });

  test("a late report of an ended lease holds the slot from then on, and is no new use", () => {
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

  test("a use beyond those granted is counted against the limits, and marked", () => {
    const pool = new TestPool({ ...rate(3, 10_000), usage: { limit: 3, restMs: 1000 } });
    const [id] = pool.add(proxyLines(1));
    const lease = pool.granted({ uses: 2 });
    pool.report(lease, { n: 7, status: 200 });
    expect(pool.facts[0]).toMatchObject({ over: true });
    expect(pool.proxy(id!)).toMatchObject({ usesSinceRest: 3, usesInWindow: 3 });
    expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
  });

  test("a wider window holds from one new window later, a narrower one at once", () => {
    const pool = new TestPool(rate(1, 1000));
    pool.add(proxyLines(1));
    pool.report(pool.granted(), { status: 200 });
    pool.wait(500);
    pool.policy({ rate: { windowMs: 10_000 } });
    expect(pool.refused().retryAfterMs).toBe(9601);
    pool.policy({ rate: { windowMs: 100 } });
    pool.granted();
  });

  test("limits of a proxy's own replace the policy's for its exit; the strictest of several counts", () => {
    const pool = new TestPool(rate(3, 10_000));
    pool.add(proxyLines(1), { limits: { rate: { limit: 2, windowMs: 10_000 } }, labels: { exit: "gate" } });
    pool.add(proxyLines(1, 2), { limits: { rate: { limit: 1, windowMs: 10_000 } }, labels: { exit: "gate" } });
    pool.granted();
    expect(pool.refused().limitedBy).toMatchObject({ rate: 2 });
  });

  test("limits by exit and by proxy are exchanged only when nothing is counted that would have to be told apart", () => {
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
  test("is per exit, and a lease ends at its end without anybody's word", () => {
    const pool = new TestPool({ ...rate(100, 1000), concurrency: 1, lease: { ttlMs: 5000 } });
    pool.add(proxyLines(2), { labels: { exit: "gate" } });
    pool.granted();
    expect(pool.refused()).toMatchObject({ retryAfterMs: 5000, limitedBy: { concurrency: 2 } });
    pool.wait(4999);
    expect(pool.refused().retryAfterMs).toBe(1);
    pool.wait(1);
    pool.granted();
  });

  test("renewing moves the end, never to an earlier one", () => {
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

test("a proxy with looser limits of its own does not loosen its sibling's limits", () => {
  const pool = new TestPool({ ...quiet, rate: { limit: 3, windowMs: 10_000 }, concurrency: 2 });
  pool.add(proxyLines(1), { labels: { exit: "gate" }, limits: { rate: null, concurrency: null } });
  pool.add(proxyLines(1, 2), { labels: { exit: "gate" } });
  pool.granted();
  pool.granted();
  expect(pool.refused().limitedBy).toMatchObject({ concurrency: 2 });
});

test('a use that was granted under countFrom "grant" holds a slot until its report once reports count', () => {
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
