// The policy changes while leases are open. Stricter limits hold at once. Wider windows hold from one new window later.
// No promise to a target is broken.
import { describe, expect, test } from "vitest";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const one = (limit: number, more: object = {}) => ({ ...free, rate: { limit, windowMs: 1000 }, marginMs: 0, ...more });

function poolOf(policy: Record<string, unknown>): { pool: TestPool; id: string } {
  const pool = new TestPool(policy);
  const [id] = pool.add(proxyLines(1));
  return { pool, id: id! };
}

describe("the grace", () => {
  test("frees no slot early when it is shortened: a lease keeps the grace it was granted with", () => {
    const { pool } = poolOf(one(1, { lease: { ttlMs: 1000, graceMs: 500 } }));
    pool.granted();
    pool.policy({ lease: { graceMs: 0 } });
    expect(pool.refused().retryAfterMs).toBe(1000 + 500 + 1000 + 1);
    pool.wait(1000);
    expect(pool.refused().retryAfterMs).toBe(500 + 1000 + 1);
    pool.wait(1501);
    pool.granted();
    pool.wait(1000);
    expect(pool.refused().retryAfterMs).toBe(1001);
  });

  test("is not shortened for a timeout of an older lease", () => {
    const { pool } = poolOf(one(1, { lease: { graceMs: 500 } }));
    const lease = pool.granted();
    pool.policy({ lease: { graceMs: 0 } });
    pool.report(lease, { reason: "timeout" });
    expect(pool.refused().retryAfterMs).toBe(500 + 1000 + 1);
  });

  test("applies to open leases as well when it is lengthened", () => {
    const { pool } = poolOf(one(1, { lease: { ttlMs: 1000, graceMs: 0 } }));
    pool.granted();
    pool.policy({ lease: { graceMs: 700 } });
    expect(pool.refused().retryAfterMs).toBe(1000 + 700 + 1000 + 1);
  });
});

describe("the rate", () => {
  test("counts granted but unreported uses when it is switched on", () => {
    const { pool, id } = poolOf(free);
    const leases = [pool.granted(), pool.granted()];
    pool.policy({ rate: { limit: 2, windowMs: 1000 }, marginMs: 0 });
    expect(pool.proxy(id).usesInWindow).toBe(2);
    expect(pool.refused().limitedBy).toMatchObject({ rate: 1 });
    pool.report(leases[0]!, { status: 200 });
    expect(pool.refused().retryAfterMs).toBe(1001);
    pool.wait(1001);
    pool.granted();
  });

  test("holds nothing back when switched off, and holds again from one window later when switched on", () => {
    const { pool } = poolOf(one(1));
    pool.report(pool.granted(), { status: 200 });
    pool.refused();
    pool.policy({ rate: null });
    const lease = pool.granted();
    pool.policy({ rate: { limit: 1, windowMs: 1000 } });
    pool.refused();
    pool.report(lease, { status: 200 });
    expect(pool.refused().retryAfterMs).toBe(1001);
  });

  test("grants nothing under a lower limit until the count is below it; grants at once under a higher one", () => {
    const { pool } = poolOf(one(3));
    for (const _ of [1, 2, 3]) {
      pool.report(pool.granted(), { status: 200 });
      pool.wait(100);
    }
    pool.policy({ rate: { limit: 1, windowMs: 1000 } });
    expect(pool.refused().retryAfterMs).toBe(901); // The third use, made 100 ms ago, must run out too.
    pool.policy({ rate: { limit: 4, windowMs: 1000 } });
    pool.granted();
  });

  test("holds each use once when counted from the report instead of the grant", () => {
    const { pool, id } = poolOf(one(3, { countFrom: "grant" }));
    const lease = pool.granted({ uses: 2 });
    pool.policy({ countFrom: "report" });
    expect(pool.proxy(id).usesInWindow).toBe(2);
    pool.wait(2000);
    expect(pool.proxy(id).usesInWindow).toBe(2);
    pool.release(lease, 0);
    expect(pool.proxy(id).usesInWindow).toBe(0);
  });

  test("holds the uses of older leases until their reports when counted from the grant instead", () => {
    const { pool } = poolOf(one(1));
    const lease = pool.granted();
    pool.policy({ countFrom: "grant" });
    pool.wait(5000);
    pool.refused();
    pool.report(lease, { status: 200 });
    expect(pool.refused().retryAfterMs).toBe(1001);
    pool.wait(1001);
    const next = pool.granted();
    pool.wait(1001);
    pool.report(next, { status: 200 });
    pool.granted();
  });
});

describe("concurrency", () => {
  test("grants nothing under a lower cap until enough leases have ended; grants all at once without a cap", () => {
    const { pool } = poolOf({ ...free, concurrency: 3 });
    for (const ttlMs of [100, 200, 300]) pool.granted({ ttlMs });
    pool.policy({ concurrency: 1 });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 300, limitedBy: { concurrency: 1 } });
    pool.wait(299);
    pool.refused();
    pool.policy({ concurrency: null });
    pool.granted();
  });
});

describe("usage", () => {
  test("ends the usage quota when it is lowered below the count and the last open lease ends", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    const lease = pool.granted({ uses: 6, ttlMs: 400 });
    pool.policy({ usage: { limit: 4 } });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 400 + 5000, limitedBy: { usage: 1 } });
    expect(pool.proxy(id).state).toBe("in-use");
    pool.release(lease);
    expect(pool.proxy(id)).toMatchObject({ state: "exhausted", until: pool.at + 5000 });
  });

  test("finds uses made while it was off, and idle time that counts as rest", () => {
    const { pool, id } = poolOf(free);
    pool.release(pool.granted({ uses: 7 }));
    pool.wait(1000);
    pool.policy({ usage: { limit: 5, restMs: 3000 } });
    expect(pool.refused().retryAfterMs).toBe(2000);
    expect(pool.proxy(id)).toMatchObject({ state: "exhausted" });
    pool.policy({ usage: null });
    expect(pool.refused().retryAfterMs).toBe(2000); // The rest that has begun is not altered.
  });
});

describe("limitBy", () => {
  const labels = { labels: { exit: "gate" } };

  test("adds usage quotas up when changed to exit; gives each proxy the whole when changed to proxy", () => {
    const pool = new TestPool({ ...free, limitBy: "proxy", usage: { limit: 9, restMs: 5000 } });
    const [a, b] = pool.add(proxyLines(2), labels);
    pool.release(pool.granted({ uses: 3, exclude: [b] }));
    pool.release(pool.granted({ uses: 2, exclude: [a] }));
    const quotas = () => [a!, b!].map((id) => pool.proxy(id).usesSinceRest);
    expect(quotas()).toEqual([3, 2]);
    expect(pool.policy({ limitBy: "exit" })).toHaveProperty("refusal"); // Unreported uses may still arrive.
    pool.wait(2001);
    expect(pool.policy({ limitBy: "exit" })).not.toHaveProperty("refusal");
    expect(quotas()).toEqual([5, 5]);
    pool.policy({ limitBy: "proxy" });
    expect(quotas()).toEqual([5, 5]);
    expect(pool.granted({ uses: 9, exclude: [b] }).uses).toBe(4);
  });

  test("continues a rest of the exit for each proxy, and idle times too", () => {
    const pool = new TestPool({ ...free, usage: { limit: 3, restMs: 5000 } });
    const [a, b] = pool.add(proxyLines(2), labels);
    pool.release(pool.granted({ uses: 2 }));
    pool.wait(3000);
    expect(pool.policy({ limitBy: "proxy" })).not.toHaveProperty("refusal");
    // Both would have to rest for such a block. The rest counts from the end of that lease.
    expect(pool.refused({ uses: 2, minUses: 2 }).retryAfterMs).toBe(2000);
    expect([a!, b!].map((id) => pool.proxy(id).until)).toEqual([pool.at + 2000, pool.at + 2000]);
    pool.policy({ limitBy: "exit" });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 2000, limitedBy: { rest: 2 } });
    const [newcomer] = pool.add(proxyLines(1, 9), labels);
    expect(pool.proxy(newcomer!)).toMatchObject({ state: "exhausted", until: pool.at + 2000 });
  });
});

describe("rests", () => {
  test("keep their length while they run, whatever the policy says of later ones", () => {
    const { pool, id } = poolOf({ ...free, backoff: { kind: "fixed", restMs: 1000, jitterMs: 0 } });
    const before = pool.at;
    pool.report(pool.granted(), { reason: "proxy-error" });
    for (const restMs of [10, 90_000]) {
      pool.policy({ backoff: { kind: "fixed", restMs } });
      expect(pool.proxy(id)).toMatchObject({ state: "cooling", until: before + 1000 });
    }
    pool.wait(1000);
    pool.report(pool.granted(), { reason: "proxy-error" });
    expect(pool.proxy(id).until).toBe(before + 1000 + 90_000);
  });

  test("continue when their rule is switched off, and the rule begins no other", () => {
    const { pool, id } = poolOf({ ...free, failures: { limit: 1, windowMs: 10_000, restMs: 1000 } });
    const leases = [1, 2, 3, 4].map(() => pool.granted());
    for (const lease of leases.slice(0, 2)) pool.report(lease, { reason: "proxy-error" });
    expect(pool.proxy(id).reasons).toEqual(["failures"]);
    pool.policy({ failures: null });
    expect(pool.proxy(id).state).toBe("cooling");
    for (const lease of leases.slice(2)) pool.report(lease, { reason: "proxy-error" });
    pool.wait(1000);
    expect(pool.proxy(id).state).toBe("available");
  });
});

test("chooses by another strategy from the next grant on, and keeps open leases open", () => {
  const pool = new TestPool({ ...free, strategy: { kind: "round-robin" } });
  const [a, , c] = pool.add(proxyLines(3));
  const lease = pool.granted();
  expect(lease.proxyId).toBe(a);
  pool.policy({ strategy: { kind: "lifo" } });
  expect(pool.granted().proxyId).toBe(c);
  expect(pool.report(lease, { status: 200 })).not.toHaveProperty("ignored");
});

test("ends sessions that have outlived a shortened ttl at once; a longer ttl brings none back", () => {
  const pool = new TestPool({ ...free, session: { ttlMs: 10_000 } });
  pool.add(proxyLines(1));
  for (const session of ["old", "young"]) {
    pool.release(pool.granted({ session }));
    pool.wait(1000);
  }
  pool.policy({ session: { ttlMs: 1500 } });
  expect([...pool.state.sessions.keys()]).toEqual(["young"]);
  pool.policy({ session: { ttlMs: 60_000 } });
  expect([...pool.state.sessions.keys()]).toEqual(["young"]);
});

describe("block leases", () => {
  test("counts a rest for too few uses left from when the exit became idle, as retryAfterMs predicted", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    pool.granted({ uses: 8, ttlMs: 1000 });
    expect(pool.refused({ uses: 5, minUses: 3 })).toMatchObject({ retryAfterMs: 6000, limitedBy: { usage: 1 } });
    pool.wait(4000);
    expect(pool.proxy(id).state).toBe("available"); // No request has asked for more than is left.
    expect(pool.refused({ uses: 5, minUses: 3 }).retryAfterMs).toBe(2000);
    expect(pool.proxy(id)).toMatchObject({ state: "exhausted", until: pool.at + 2000, reasons: ["usage"], epoch: 1 });
    pool.wait(2000);
    expect(pool.granted({ uses: 5, minUses: 3 }).uses).toBe(5);
  });

  test("grants the block at once when an exit has been idle for the length of its rest", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    pool.release(pool.granted({ uses: 8 }));
    pool.wait(5000);
    expect(pool.granted({ uses: 5, minUses: 3 }).uses).toBe(5);
    expect(pool.types()).toEqual(["RestBegan.exhausted", "RestEnded.available", "LeaseGranted.in-use"]);
    expect(pool.proxy(id)).toMatchObject({ usesSinceRest: 5, state: "in-use" });
  });

  test("begins no rest for a request that asks for more than its limit ever allows", () => {
    const pool = new TestPool({ ...free, usage: { limit: 10, restMs: 5000 } });
    const [id] = pool.add(proxyLines(1), { limits: { usage: { limit: 3, restMs: 5000 } } });
    pool.release(pool.granted());
    expect(pool.refused({ uses: 5, minUses: 4 })).toMatchObject({
      retryAfterMs: 60_000,
      limitedBy: { usage: 1, rest: 0 },
    });
    expect(pool.proxy(id!)).toMatchObject({ state: "available", usesSinceRest: 1 });
  });

  test("begins no rest for a request that asks for no more than is left", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    pool.release(pool.granted({ uses: 8 }));
    expect(pool.granted({ uses: 5 }).uses).toBe(2);
    expect(pool.types()).toEqual(["LeaseGranted.in-use"]);
    expect(pool.proxy(id).usesSinceRest).toBe(10);
  });
});
