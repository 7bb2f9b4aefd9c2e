// Unusual outcomes: of classes with other rules, beyond the granted uses, too late, or duplicate.
import { describe, expect, test } from "vitest";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };

function poolOf(policy: Record<string, unknown>): { pool: TestPool; id: string } {
  const pool = new TestPool({ ...free, ...policy });
  const [id] = pool.add(proxyLines(1));
  return { pool, id: id! };
}

describe("a class with a rule of its own", () => {
  const backoff = { kind: "exponential", jitterMs: 0, jitterShare: 0 };

  test("may rest without counting: then each rest is like that after a first failure", () => {
    const { pool, id } = poolOf({ backoff, outcomes: { "target-error": { rest: "backoff" } } });
    for (const _ of [1, 2, 3]) {
      pool.report(pool.granted(), { status: 500 });
      expect(pool.proxy(id)).toMatchObject({ until: pool.at + 2000, streak: 0, score: 0, totals: { failed: 0 } });
      pool.wait(2000);
    }
  });

  test("may count without resting, and be a failure by its score alone", () => {
    const { pool, id } = poolOf({
      backoff,
      outcomes: { blocked: { rest: "none" }, timeout: { rest: "none", counts: false, score: -3 } },
    });
    pool.report(pool.granted(), { status: 403 });
    expect(pool.proxy(id)).toMatchObject({ state: "available", streak: 1, score: -1 });
    pool.report(pool.granted(), { reason: "timeout" });
    expect(pool.proxy(id)).toMatchObject({
      state: "available",
      streak: 1,
      score: -4,
      totals: { failed: 2, neutral: 0 },
    });
  });

  test("may be worth more, but keeps the score within its bounds", () => {
    const { pool, id } = poolOf({
      score: { min: -5, max: 7 },
      outcomes: { success: { score: 4 }, blocked: { score: -9, rest: "none" } },
    });
    const scores = [200, 200, 200, 403, 403].map((status) => {
      pool.report(pool.granted(), { status });
      return pool.proxy(id).score;
    });
    expect(scores).toEqual([4, 7, 7, -2, -5]);
  });
});

test("causes no rest for failures if it does not count, although a new limit finds too many", () => {
  const failures = { limit: 5, windowMs: 60_000, restMs: 1000 };
  const { pool, id } = poolOf({ failures, streak: { limit: 5, restMs: 1000 } });
  for (const _ of [1, 2, 3]) pool.report(pool.granted(), { reason: "timeout" });
  pool.policy({ failures: { limit: 1 }, streak: { limit: 1 } });
  pool.report(pool.granted(), { status: 500 });
  expect(pool.proxy(id).state).toBe("available");
  pool.report(pool.granted(), { reason: "timeout" });
  expect(pool.proxy(id)).toMatchObject({ reasons: ["failures", "streak"], until: pool.at + 1000 });
});

describe("a use beyond those granted", () => {
  test("holds a slot without counting for the usage quota if it is late; counts for both in time", () => {
    const { pool, id } = poolOf({
      rate: { limit: 9, windowMs: 60_000 },
      usage: { limit: 9, restMs: 1000 },
      lease: { ttlMs: 1000, graceMs: 500 },
    });
    const lease = pool.granted({ uses: 2 });
    pool.report(lease, { n: 3, status: 200 });
    expect(pool.facts[0]).toMatchObject({ over: true });
    expect(pool.proxy(id)).toMatchObject({ usesSinceRest: 3, usesInWindow: 3 });
    pool.wait(1501);
    pool.report(lease, { n: 4, status: 200 });
    expect(pool.facts[0]).toMatchObject({ over: true, late: true });
    expect(pool.proxy(id)).toMatchObject({ usesSinceRest: 3, usesInWindow: 4 });
  });

  test("does not prevent a release, and is counted up to a thousand", () => {
    const { pool } = poolOf({});
    const lease = pool.granted({ uses: 2 });
    expect(pool.report(lease, { n: 1002, status: 200 })).toHaveProperty("lease");
    expect(pool.report(lease, { n: 1003, status: 200 })).toMatchObject({ ignored: "n-too-large" });
    expect(pool.release(lease, 2)).toEqual({ leaseId: lease.leaseId, used: 2, returned: 0 });
  });

  test("may use up the usage quota when no other lease is open", () => {
    const { pool, id } = poolOf({ usage: { limit: 3, restMs: 1000 } });
    const lease = pool.granted({ uses: 2 });
    pool.release(lease, 1);
    pool.report(lease, { n: 1, status: 200 });
    pool.report(lease, { n: 2, status: 200 });
    expect(pool.proxy(id)).toMatchObject({ state: "available", usesSinceRest: 2 });
    pool.report(lease, { n: 3, status: 200 });
    expect(pool.proxy(id)).toMatchObject({ state: "exhausted", until: pool.at + 1000 });
  });
});

test("does not shorten a rest by a newer policy if it is reported while the exit rests", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 } });
  const gate = { labels: { exit: "gate" } };
  pool.add(proxyLines(1), gate);
  const lease = pool.granted();
  pool.release(lease);
  const until = pool.at + 60_000;
  pool.policy({ usage: { restMs: 1000 } });
  for (const n of [1, 2]) pool.report(lease, { n, status: 200 });
  expect(pool.facts[0]).toMatchObject({ over: true });
  pool.wait(2000);
  const [newcomer] = pool.add(proxyLines(1, 2), gate);
  expect(pool.proxy(newcomer!)).toMatchObject({ state: "exhausted", until });
});

describe("an outcome that says no further use will be made", () => {
  test("may have no result: the use was made, and changes no score", () => {
    const { pool, id } = poolOf({});
    const lease = pool.granted({ uses: 5 });
    expect(pool.report(lease, { n: 2, final: true })).toMatchObject({ ignored: "no-result" });
    expect(pool.facts).toMatchObject([{ type: "LeaseClosed", how: "completed", used: 2 }]);
    expect(pool.proxy(id).totals).toMatchObject({ succeeded: 0, failed: 0, neutral: 0, unreported: 2 });
  });

  test("may be a duplicate of the last one", () => {
    const { pool } = poolOf({});
    const lease = pool.granted({ uses: 5 });
    pool.report(lease, { n: 2, status: 200 });
    expect(pool.report(lease, { n: 2, status: 200, final: true })).toMatchObject({ ignored: "duplicate" });
    expect(pool.facts).toMatchObject([{ type: "LeaseClosed", how: "completed", used: 2 }]);
  });
});

test("releases an expired lease that no tick has closed yet", () => {
  const { pool } = poolOf({ lease: { ttlMs: 1000 } });
  const lease = pool.granted({ uses: 3 });
  pool.at += 1000; // No tick has come yet.
  expect(pool.release(lease, 0)).toEqual({ leaseId: lease.leaseId, used: 3, returned: 0 });
  expect(pool.facts).toMatchObject([{ type: "LeaseClosed", how: "expired" }]);
});

test("frees uses counted from the grant when they are returned", () => {
  const { pool, id } = poolOf({ rate: { limit: 3, windowMs: 60_000 }, countFrom: "grant" });
  pool.release(pool.granted({ uses: 3 }), 1);
  expect(pool.proxy(id).usesInWindow).toBe(1);
  expect(pool.granted({ uses: 3 }).uses).toBe(2);
});

describe("a lengthened rest", () => {
  test("counts as one rest for its streak, not two", () => {
    const { pool, id } = poolOf({ streak: { limit: 1, restMs: 1000, retireAfter: 3 } });
    const fail = () => pool.report(pool.granted(), { reason: "timeout" });
    fail();
    fail();
    pool.rest(id, 5000);
    pool.wait(5000);
    fail();
    fail();
    expect(pool.proxy(id)).toMatchObject({ state: "cooling", reasons: ["streak"] });
    pool.wait(1000);
    fail();
    fail();
    expect(pool.proxy(id).state).toBe("retired");
  });

  test("keeps failures that came in while it lasted", () => {
    const { pool, id } = poolOf({ failures: { limit: 1, windowMs: 60_000, restMs: 1000 } });
    const leases = [1, 2, 3, 4].map(() => pool.granted());
    for (const lease of leases) pool.report(lease, { reason: "timeout" });
    expect(pool.proxy(id).reasons).toEqual(["failures"]);
    pool.rest(id, 5000);
    pool.wait(5000);
    expect(pool.proxy(id)).toMatchObject({ state: "cooling", reasons: ["failures"], until: pool.at + 1000 });
  });
});

test("rests all of the exit when the quota's last use fails, and its own proxy for the longer of both", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 3000 }, backoff: { kind: "fixed", restMs: 9000 } });
  const [a, b] = pool.add(proxyLines(2), { labels: { exit: "gate" } });
  pool.report(pool.granted(), { reason: "timeout" });
  expect(pool.proxy(a!)).toMatchObject({ state: "exhausted", reasons: ["backoff", "usage"], until: pool.at + 9000 });
  expect(pool.proxy(b!)).toMatchObject({ state: "exhausted", reasons: ["usage"], until: pool.at + 3000 });
});

test("adds random jitter to a backoff of up to a second or a fifth of it, whichever is more", () => {
  const longest = (reason: string, restMs: number): number => {
    const jitters = Array.from({ length: 64 }, (_, i) => {
      const { pool, id } = poolOf({ backoff: { kind: "exponential" } });
      pool.chance = (i * 0x9e37_79b1).toString(16).padStart(32, "5");
      pool.report(pool.granted(), { reason });
      return pool.proxy(id).until! - pool.at - restMs;
    });
    expect(Math.min(...jitters)).toBeGreaterThanOrEqual(0);
    return Math.max(...jitters);
  };
  const [short, long] = [longest("timeout", 2000), longest("blocked", 60_000)];
  // The highest of 64 draws is below nine tenths once in a thousand times. These draws are always the same.
  expect(short).toBeGreaterThan(900);
  expect(short).toBeLessThanOrEqual(1000);
  expect(long).toBeGreaterThan(10_800);
  expect(long).toBeLessThanOrEqual(12_000);
});

test("ignores a use numbered far beyond those granted", () => {
  const pool = new TestPool(free);
  pool.add(proxyLines(1));
  expect(pool.report(pool.granted(), { n: 50_000, status: 200 })).toMatchObject({ ignored: "n-too-large" });
});
