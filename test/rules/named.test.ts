// A lease request for one given proxy: protocol §1, `proxyId`.
import { describe, expect, test } from "vitest";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };

describe("a lease request for one proxy", () => {
  test("gets that proxy, whatever the strategy would choose, and the ledger records the proxyId", () => {
    const pool = new TestPool(free);
    const [, , c] = pool.add(proxyLines(3));
    for (const _ of [1, 2]) expect(pool.granted({ proxyId: c }).proxyId).toBe(c);
    expect(pool.facts[0]).toMatchObject({ type: "LeaseGranted", proxyId: c, request: { proxyId: c } });
    expect(pool.granted().proxyId).not.toBe(c);
    expect(pool.facts[0]).not.toHaveProperty("request.proxyId");
  });

  test("is held back by that proxy's limits alone, and gets the exact retry time", () => {
    const pool = new TestPool({ ...free, concurrency: 1, rate: { limit: 1, windowMs: 1000 }, marginMs: 0 });
    const [a] = pool.add(proxyLines(3));
    const lease = pool.granted({ proxyId: a, ttlMs: 300 });
    const limitedBy = { rate: 1, concurrency: 1, usage: 0, rest: 0, exclude: 0, session: 0 };
    expect(pool.refused({ proxyId: a })).toMatchObject({ code: "pool-exhausted", limitedBy });
    expect(pool.facts).toEqual([]);
    pool.report(lease, { status: 200 });
    const refusal = pool.refused({ proxyId: a });
    expect(refusal).toMatchObject({ retryAfterMs: 1001, limitedBy: { ...limitedBy, concurrency: 0 } });
    pool.wait(1000);
    expect(pool.refused({ proxyId: a })).toMatchObject({ retryAfterMs: 1 });
    pool.wait(1);
    expect(pool.granted({ proxyId: a }).proxyId).toBe(a);
  });

  test("waits for the end of that proxy's rest, and does not bypass the rest of its exit", () => {
    const pool = new TestPool({ ...free, usage: { limit: 2, restMs: 5000 } });
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    pool.rest(a!, 700);
    expect(pool.refused({ proxyId: a })).toMatchObject({ retryAfterMs: 700, limitedBy: { rest: 1 } });
    for (const _ of [1, 2]) pool.report(pool.granted({ proxyId: b }), { status: 200 });
    expect(pool.refused({ proxyId: b })).toMatchObject({ retryAfterMs: 5000, limitedBy: { rest: 1 } });
    pool.wait(700);
    expect(pool.refused({ proxyId: a })).toMatchObject({ code: "pool-exhausted", limitedBy: { rest: 1 } });
  });

  test("begins the usage rest of a proxy with too few uses left, as any other request does", () => {
    const pool = new TestPool({ ...free, usage: { limit: 3, restMs: 5000 } });
    const [a] = pool.add(proxyLines(2));
    for (const _ of [1, 2]) pool.report(pool.granted({ proxyId: a }), { status: 200 });
    expect(pool.refused({ proxyId: a, uses: 2, minUses: 2 })).toMatchObject({ retryAfterMs: 5000 });
    expect(pool.proxy(a!).state).toBe("exhausted");
  });

  test("gets no-match for a proxy that is unknown, retired or without the labels", () => {
    const pool = new TestPool(free);
    const [a, b] = pool.add(proxyLines(2), { labels: { country: "DE" } });
    expect(pool.refused({ proxyId: "p_unknown" }).code).toBe("no-match");
    expect(pool.refused({ proxyId: a, labels: { country: "FR" } }).code).toBe("no-match");
    expect(pool.refused({ proxyId: a, schemes: ["socks5"] }).code).toBe("no-match");
    pool.retire(b!);
    expect(pool.refused({ proxyId: b }).code).toBe("no-match");
    expect(pool.granted({ proxyId: a, labels: { country: "DE" } }).proxyId).toBe(a);
  });

  test("is refused with the reason if it excludes its own proxy or its holder is at its cap", () => {
    const pool = new TestPool({ ...free, holder: { leasesMax: 1 } });
    const [a, b] = pool.add(proxyLines(2));
    expect(pool.refused({ proxyId: a, exclude: [a] })).toMatchObject({ limitedBy: { exclude: 1 } });
    pool.granted({ proxyId: a, holder: "h", ttlMs: 400 });
    expect(pool.refused({ proxyId: b, holder: "h" })).toMatchObject({ retryAfterMs: 400, limitedBy: { holder: 1 } });
  });

  test("cannot wait, and has no session", () => {
    const pool = new TestPool(free);
    const [a] = pool.add(proxyLines(1));
    for (const more of [{ waitMs: 1 }, { session: "s" }])
      expect(pool.refused({ proxyId: a, ...more })).toMatchObject({ code: "invalid-request", field: "proxyId" });
  });

  test("differs from a request without proxyId, so that the two cannot share a requestId", () => {
    const pool = new TestPool(free);
    const [a, b] = pool.add(proxyLines(2));
    const requestId = "0123456789abcdef";
    const lease = pool.granted({ proxyId: a, requestId });
    expect(pool.granted({ proxyId: a, requestId }).leaseId).toBe(lease.leaseId);
    for (const other of [{}, { proxyId: b }])
      expect(pool.refused({ ...other, requestId })).toMatchObject({ code: "invalid-request", field: "requestId" });
  });
});
