// The policy changes while leases are open: what is stricter holds at once, what is wider from one new window later, and
// nothing that was promised to a target is taken back.
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
  test("made shorter frees no slot early: a lease keeps the grace it was granted with", () => {
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

  test("made shorter is not shorter for a timeout of an older lease", () => {
    const { pool } = poolOf(one(1, { lease: { graceMs: 500 } }));
    const lease = pool.granted();
    pool.policy({ lease: { graceMs: 0 } });
    pool.report(lease, { reason: "timeout" });
    expect(pool.refused().retryAfterMs).toBe(500 + 1000 + 1);
  });

  test("made longer holds for open leases as well", () => {
    const { pool } = poolOf(one(1, { lease: { ttlMs: 1000, graceMs: 0 } }));
    pool.granted();
    pool.policy({ lease: { graceMs: 700 } });
    expect(pool.refused().retryAfterMs).toBe(1000 + 700 + 1000 + 1);
  });
});

describe("the rate", () => {
  test("switched on counts what is granted and not reported yet", () => {
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

  test("switched off holds nothing back, and switched on again holds from one window later", () => {
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

  test("with a lower limit than is taken already grants nothing until it is below, a higher one at once", () => {
    const { pool } = poolOf(one(3));
    for (const _ of [1, 2, 3]) {
      pool.report(pool.granted(), { status: 200 });
      pool.wait(100);
    }
    pool.policy({ rate: { limit: 1, windowMs: 1000 } });
    expect(pool.refused().retryAfterMs).toBe(901); // The third, made 100 ms ago, must run out too.
    pool.policy({ rate: { limit: 4, windowMs: 1000 } });
    pool.granted();
  });

  test("counted from the report instead of the grant holds each use once", () => {
    const { pool, id } = poolOf(one(3, { countFrom: "grant" }));
    const lease = pool.granted({ uses: 2 });
    pool.policy({ countFrom: "report" });
    expect(pool.proxy(id).usesInWindow).toBe(2);
    pool.wait(2000);
    expect(pool.proxy(id).usesInWindow).toBe(2);
    pool.release(lease, 0);
    expect(pool.proxy(id).usesInWindow).toBe(0);
  });

  test("counted from the grant instead of the report still holds the uses of older leases until theirs", () => {
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
  test("with more open than it allows grants nothing until enough have ended; off, all at once", () => {
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
  test("lowered below what has been counted ends the usage quota when the last open lease ends", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    const lease = pool.granted({ uses: 6, ttlMs: 400 });
    pool.policy({ usage: { limit: 4 } });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 400 + 5000, limitedBy: { usage: 1 } });
    expect(pool.proxy(id).state).toBe("in-use");
    pool.release(lease);
    expect(pool.proxy(id)).toMatchObject({ state: "exhausted", until: pool.at + 5000 });
  });

  test("switched on finds what was used while it was off, and a time of rest as well", () => {
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

describe("whose limits they are", () => {
  const labels = { labels: { exit: "gate" } };

  test("kept by exit from now on, usage quotas are added up; by proxy, each takes over the whole", () => {
    const pool = new TestPool({ ...free, limitBy: "proxy", usage: { limit: 9, restMs: 5000 } });
    const [a, b] = pool.add(proxyLines(2), labels);
    pool.release(pool.granted({ uses: 3, exclude: [b] }));
    pool.release(pool.granted({ uses: 2, exclude: [a] }));
    const quotas = () => [a!, b!].map((id) => pool.proxy(id).usesSinceRest);
    expect(quotas()).toEqual([3, 2]);
    expect(pool.policy({ limitBy: "exit" })).toHaveProperty("refusal"); // What was not reported may still arrive.
    pool.wait(2001);
    expect(pool.policy({ limitBy: "exit" })).not.toHaveProperty("refusal");
    expect(quotas()).toEqual([5, 5]);
    pool.policy({ limitBy: "proxy" });
    expect(quotas()).toEqual([5, 5]);
    expect(pool.granted({ uses: 9, exclude: [b] }).uses).toBe(4);
  });

  test("a rest of the exit goes on for each, and idle times too", () => {
    const pool = new TestPool({ ...free, usage: { limit: 3, restMs: 5000 } });
    const [a, b] = pool.add(proxyLines(2), labels);
    pool.release(pool.granted({ uses: 2 }));
    pool.wait(3000);
    expect(pool.policy({ limitBy: "proxy" })).not.toHaveProperty("refusal");
    // Both would have to rest for such a block, counted from the end of that lease.
    expect(pool.refused({ uses: 2, minUses: 2 }).retryAfterMs).toBe(2000);
    expect([a!, b!].map((id) => pool.proxy(id).until)).toEqual([pool.at + 2000, pool.at + 2000]);
    pool.policy({ limitBy: "exit" });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 2000, limitedBy: { rest: 2 } });
    const [newcomer] = pool.add(proxyLines(1, 9), labels);
    expect(pool.proxy(newcomer!)).toMatchObject({ state: "exhausted", until: pool.at + 2000 });
  });
});

describe("rests", () => {
  test("that are running keep their length, whatever the policy says of the next ones", () => {
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

  test("of a rule that is switched off go on, and it begins no other", () => {
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

test("another strategy chooses from the next grant on, and what is open stays open", () => {
  const pool = new TestPool({ ...free, strategy: { kind: "round-robin" } });
  const [a, , c] = pool.add(proxyLines(3));
  const lease = pool.granted();
  expect(lease.proxyId).toBe(a);
  pool.policy({ strategy: { kind: "lifo" } });
  expect(pool.granted().proxyId).toBe(c);
  expect(pool.report(lease, { status: 200 })).not.toHaveProperty("ignored");
});

test("a shorter life of sessions ends those at once that have outlived it; a longer one brings none back", () => {
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
  test("a rest for too few uses left counts from when the exit became idle, and retryAfterMs knew it", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    pool.granted({ uses: 8, ttlMs: 1000 });
    expect(pool.refused({ uses: 5, minUses: 3 })).toMatchObject({ retryAfterMs: 6000, limitedBy: { usage: 1 } });
    pool.wait(4000);
    expect(pool.proxy(id).state).toBe("available"); // Nobody has asked for more than is left.
    expect(pool.refused({ uses: 5, minUses: 3 }).retryAfterMs).toBe(2000);
    expect(pool.proxy(id)).toMatchObject({ state: "exhausted", until: pool.at + 2000, reasons: ["usage"], epoch: 1 });
    pool.wait(2000);
    expect(pool.granted({ uses: 5, minUses: 3 }).uses).toBe(5);
  });

  test("an exit that has been idle for as long as its rest has had it: the block is granted at once", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    pool.release(pool.granted({ uses: 8 }));
    pool.wait(5000);
    expect(pool.granted({ uses: 5, minUses: 3 }).uses).toBe(5);
    expect(pool.types()).toEqual(["RestBegan.exhausted", "RestEnded.available", "LeaseGranted.in-use"]);
    expect(pool.proxy(id)).toMatchObject({ usesSinceRest: 5, state: "in-use" });
  });

  test("who asks for more than its limit ever allows begins no rest: it would be for nothing", () => {
    const pool = new TestPool({ ...free, usage: { limit: 10, restMs: 5000 } });
    const [id] = pool.add(proxyLines(1), { limits: { usage: { limit: 3, restMs: 5000 } } });
    pool.release(pool.granted());
    expect(pool.refused({ uses: 5, minUses: 4 })).toMatchObject({
      retryAfterMs: 60_000,
      limitedBy: { usage: 1, rest: 0 },
    });
    expect(pool.proxy(id!)).toMatchObject({ state: "available", usesSinceRest: 1 });
  });

  test("who asks for no more than is left begins no rest", () => {
    const { pool, id } = poolOf({ ...free, usage: { limit: 10, restMs: 5000 } });
    pool.release(pool.granted({ uses: 8 }));
    expect(pool.granted({ uses: 5 }).uses).toBe(2);
    expect(pool.types()).toEqual(["LeaseGranted.in-use"]);
    expect(pool.proxy(id).usesSinceRest).toBe(10);
  });
});
