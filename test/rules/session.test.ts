// Sessions and caps per holder: protocol §1 and §7.
import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { readAs } from "../../protocol/request.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const round = { ...free, strategy: { kind: "round-robin" } };

describe("a session", () => {
  test("gets the same proxy again, however many others are free, and its name in the reply", () => {
    const pool = new TestPool(round);
    const [a, b, c] = pool.add(proxyLines(3));
    const first = pool.granted({ session: "s" });
    expect(first).toMatchObject({ proxyId: a, session: "s" });
    expect(pool.facts[0]).toMatchObject({ type: "LeaseGranted", request: { session: "s" } });
    pool.release(first);
    expect(pool.granted().proxyId).toBe(b);
    expect(pool.granted({ session: "other" }).proxyId).toBe(c);
    for (const _ of [1, 2, 3]) expect(pool.granted({ session: "s" }).proxyId).toBe(a);
    expect(pool.granted()).not.toHaveProperty("session");
  });

  test("waits while its proxy is busy; the refusal names the limit and the exact retry time", () => {
    const pool = new TestPool({ ...free, concurrency: 1 });
    pool.add(proxyLines(3));
    pool.granted({ session: "s", ttlMs: 700 });
    const refusal = pool.refused({ session: "s" });
    expect(refusal).toMatchObject({
      code: "pool-exhausted",
      retryAfterMs: 700,
      limitedBy: { rate: 0, concurrency: 1, usage: 0, rest: 0, exclude: 0, session: 2 },
    });
    expect(refusal.limitedBy).not.toHaveProperty("holder");
    expect(pool.facts).toEqual([]);
  });

  test("waits while its proxy is at its rate limit", () => {
    const pool = new TestPool({ ...free, rate: { limit: 1, windowMs: 1000 }, marginMs: 0 });
    const [a] = pool.add(proxyLines(2));
    pool.report(pool.granted({ session: "s" }), { status: 200 });
    expect(pool.refused({ session: "s" })).toMatchObject({ retryAfterMs: 1001, limitedBy: { rate: 1, session: 1 } });
    pool.wait(1001);
    expect(pool.granted({ session: "s" }).proxyId).toBe(a);
  });

  test("waits for a rest within its patience, to the millisecond, and is bound anew for a longer one", () => {
    const pool = new TestPool({ ...free, session: { patienceMs: 500 } });
    const [a, b] = pool.add(proxyLines(2));
    pool.granted({ session: "s" });
    pool.rest(a!, 501);
    expect(pool.refused({ session: "u", exclude: [b] })).toMatchObject({ code: "pool-exhausted", retryAfterMs: 501 });
    pool.wait(1);
    expect(pool.refused({ session: "s" })).toMatchObject({ retryAfterMs: 500, limitedBy: { rest: 1, session: 1 } });
    pool.rest(a!, 501);
    expect(pool.granted({ session: "s" }).proxyId).toBe(b);
    pool.revive(a!);
    expect(pool.granted({ session: "s" }).proxyId).toBe(b);
  });

  test("is bound anew when its proxy is retired, but only if it is not back by then", () => {
    const pool = new TestPool(round);
    const lines = proxyLines(2);
    const [a, b] = pool.add(lines);
    pool.granted({ session: "s" });
    pool.retire(a!);
    pool.add(lines);
    expect(pool.granted({ session: "s" }).proxyId).toBe(a);
    pool.retire(a!);
    expect(pool.granted({ session: "s" }).proxyId).toBe(b);
    pool.add(lines);
    expect(pool.granted({ session: "s" }).proxyId).toBe(b);
  });

  test("yields to the request's own terms: labels, schemes, exclude, uses", () => {
    const pool = new TestPool({ ...free, rate: { limit: 9, windowMs: 1000 } });
    const [a] = pool.add(["192.0.2.1:80"], {
      labels: { country: "DE" },
      limits: { rate: { limit: 2, windowMs: 1000 } },
    });
    const [b] = pool.add(["socks5://192.0.2.2:80"], { labels: { country: "FR" } });
    const bound = { session: "s", exclude: [b] };
    for (const request of [
      { labels: { country: "FR" } },
      { schemes: ["socks5"] },
      { exclude: [a] },
      { minUses: 3, uses: 3 },
    ]) {
      pool.release(pool.granted(bound), 0);
      const lease = pool.granted({ session: "s", ...request });
      expect(lease.proxyId).toBe(b);
      pool.release(lease, 0);
      const again = pool.granted({ session: "s" });
      expect(again.proxyId).toBe(b);
      pool.release(again, 0);
    }
    expect(pool.refused({ session: "s", labels: { country: "US" } }).code).toBe("no-match");
  });

  test("ends ttlMs after its last lease, without an event, and never while a lease is open", () => {
    const pool = new TestPool({ ...round, session: { ttlMs: 1000 } });
    const [a, b] = pool.add(proxyLines(2));
    const lease = pool.granted({ session: "s", ttlMs: 5000 });
    pool.wait(4000);
    expect(pool.granted({ session: "s", ttlMs: 10 }).proxyId).toBe(a);
    pool.release(lease);
    pool.wait(1009);
    expect(pool.state.sessions.size).toBe(1);
    pool.wait(1);
    expect(pool.facts).toEqual([]);
    expect(pool.state.sessions.size).toBe(0);
    expect(pool.granted({ session: "s" }).proxyId).toBe(b);
  });

  test("neither ends nor is forgotten for another while a lease is open, after being idle", () => {
    const pool = new TestPool({ ...round, session: { ttlMs: 1000, max: 1 } });
    const [a] = pool.add(proxyLines(2));
    pool.release(pool.granted({ session: "s" }));
    pool.granted({ session: "s", ttlMs: 5000 });
    expect(pool.refused({ session: "t" })).toMatchObject({ code: "overloaded" });
    pool.wait(2000);
    expect(pool.granted({ session: "s" }).proxyId).toBe(a);
  });

  test("gives its end as retryAfterMs if it ends before its proxy is free", () => {
    const pool = new TestPool({ ...free, rate: { limit: 1, windowMs: 60_000 }, session: { ttlMs: 1000 } });
    const [, b] = pool.add(proxyLines(2));
    pool.report(pool.granted({ session: "s" }), { status: 200 });
    expect(pool.refused({ session: "s" }).retryAfterMs).toBe(1000);
    pool.wait(1000);
    expect(pool.granted({ session: "s" }).proxyId).toBe(b);
  });

  test("is bound to another proxy once its proxy's usage rest begins, as the earlier refusal predicted", () => {
    const pool = new TestPool({ ...free, usage: { limit: 2, restMs: 60_000 } });
    const [, b] = pool.add(proxyLines(2));
    pool.granted({ session: "s", uses: 2, ttlMs: 800 });
    expect(pool.refused({ session: "s" })).toMatchObject({ retryAfterMs: 800, limitedBy: { usage: 1, session: 1 } });
    pool.wait(800);
    expect(pool.granted({ session: "s" }).proxyId).toBe(b);
  });

  test("is told when another proxy is free if its own rests long, unless its patience suffices by then", () => {
    for (const [busyMs, retryAfterMs] of [
      [700, 700],
      [9999, 9999],
      [10_000, 20_000], // By then its own proxy is back within 10 s, so the session is bound to it again.
    ] as const) {
      const pool = new TestPool({ ...free, concurrency: 1 });
      const [a, b] = pool.add(proxyLines(2));
      pool.release(pool.granted({ session: "s" }));
      pool.rest(a!, 20_000);
      pool.granted({ ttlMs: busyMs });
      expect(pool.refused({ session: "s" })).toMatchObject({ retryAfterMs, limitedBy: { session: 0 } });
      pool.wait(retryAfterMs - 1);
      pool.refused({ session: "s" });
      pool.wait(1);
      expect(pool.granted({ session: "s" }).proxyId).toBe(retryAfterMs === 20_000 ? a : b);
    }
  });

  test("makes requests with different session names different", () => {
    const pool = new TestPool(free);
    pool.add(proxyLines(1));
    const requestId = "0123456789abcdef";
    const lease = pool.granted({ requestId, session: "s" });
    expect(pool.granted({ requestId, session: "s" }).leaseId).toBe(lease.leaseId);
    expect(pool.refused({ requestId, session: "t" })).toMatchObject({ code: "invalid-request", field: "requestId" });
    expect(pool.refused({ requestId })).toMatchObject({ code: "invalid-request", field: "requestId" });
  });

  test("is forgotten when there are too many and it was idle longest, never with an open lease", () => {
    const pool = new TestPool({ ...round, session: { max: 2 } });
    pool.add(proxyLines(5));
    const [first, second] = [pool.granted({ session: "first" }), pool.granted({ session: "second" })];
    expect(pool.refused({ session: "third" })).toMatchObject({ code: "overloaded" });
    expect(pool.granted({ session: "first" }).proxyId).toBe(first.proxyId);
    expect(pool.granted()).toBeDefined();
    pool.release(second);
    pool.granted({ session: "third" });
    expect([...pool.state.sessions.keys()]).toEqual(["first", "third"]);
    expect(pool.granted({ session: "first" }).proxyId).toBe(first.proxyId);
  });

  test("has a name of 1 to 128 characters without control characters, and so has a holder", () => {
    for (const field of ["session", "holder"]) {
      for (const name of ["", "x".repeat(129), "a\nb", "\u0000", "\ud800"]) {
        expect(readAs(leaseRequestSchema, { [field]: name })).toMatchObject({
          refusal: {
            code: "invalid-request",
            field,
            message: expect.stringMatching(/128 characters|control characters/),
          },
        });
      }
      for (const name of ["s", "x".repeat(128), "cart 42/é", "用户"]) {
        expect(readAs(leaseRequestSchema, { [field]: name })).toMatchObject({ value: { [field]: name } });
      }
    }
  });
});

describe("a holder", () => {
  const capped = { ...free, holder: { leasesMax: 2 } };

  test("gets no lease beyond its cap; leases of other holders and of none are not counted", () => {
    const pool = new TestPool(capped);
    pool.add(proxyLines(3));
    pool.granted({ holder: "x", ttlMs: 900 });
    const second = pool.granted({ holder: "x", ttlMs: 500 });
    const refusal = pool.refused({ holder: "x" });
    expect(refusal).toMatchObject({
      code: "pool-exhausted",
      retryAfterMs: 500,
      limitedBy: { rate: 0, concurrency: 0, usage: 0, rest: 0, exclude: 0, session: 0, holder: 3 },
    });
    expect(refusal.message).toContain("holder.leasesMax");
    for (const _ of [1, 2, 3]) pool.granted();
    pool.granted({ holder: "y" });
    pool.release(second);
    pool.granted({ holder: "x" });
    expect(pool.refused({ holder: "x" })).toMatchObject({ limitedBy: { holder: 3 } });
  });

  test("gets the instant at which both its cap and a proxy are free", () => {
    const pool = new TestPool({ ...capped, concurrency: 1 });
    pool.add(proxyLines(2));
    pool.granted({ holder: "x", ttlMs: 500 });
    pool.granted({ holder: "x", ttlMs: 300 });
    expect(pool.refused({ holder: "x" }).retryAfterMs).toBe(300);
    pool.wait(300);
    pool.granted({ holder: "y", ttlMs: 1000 });
    expect(pool.refused({ holder: "x" })).toMatchObject({ retryAfterMs: 200, limitedBy: { concurrency: 2 } });
  });

  test("gets no lease over a lowered cap until it is below it", () => {
    const pool = new TestPool(free);
    pool.add(proxyLines(1));
    for (const ttlMs of [100, 200, 300]) pool.granted({ holder: "x", ttlMs });
    pool.policy({ holder: { leasesMax: 2 } });
    expect(pool.refused({ holder: "x" }).retryAfterMs).toBe(200);
    pool.wait(199);
    pool.refused({ holder: "x" });
    pool.wait(1);
    pool.granted({ holder: "x" });
    pool.policy({ holder: { leasesMax: null } });
    pool.granted({ holder: "x" });
  });

  test("gets its own lease again under the same requestId in spite of the cap", () => {
    const pool = new TestPool({ ...free, holder: { leasesMax: 1 } });
    pool.add(proxyLines(1));
    const request = { requestId: "0123456789abcdef", holder: "x" };
    const lease = pool.granted(request);
    expect(pool.granted(request).leaseId).toBe(lease.leaseId);
  });

  test("gets no-match rather than its cap if its request matches no proxy", () => {
    const pool = new TestPool({ ...free, holder: { leasesMax: 1 } });
    pool.add(proxyLines(1));
    pool.granted({ holder: "x" });
    expect(pool.refused({ holder: "x", labels: { country: "US" } }).code).toBe("no-match");
  });
});
