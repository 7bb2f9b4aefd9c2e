import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { close } from "../../state-machines/decide/pool.ts";
import { tick } from "../../state-machines/decide/timers.ts";
import { Counts } from "../../state-machines/queue/counts.ts";
import { WaitingRequests } from "../../state-machines/queue/waiting.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const gate = { labels: { exit: "gate" } };
const pick = (strategy: object, more: object = {}) => new TestPool({ ...free, strategy, ...more });

describe("strategies", () => {
  test("best: never used first, then the highest score, then the least recently used", () => {
    const pool = pick({ kind: "best" });
    const [a, b, c] = pool.add(proxyLines(3));
    const first = pool.granted();
    expect(first.proxyId).toBe(a);
    pool.report(first, { status: 200 });
    const second = pool.granted();
    expect(second.proxyId).toBe(b);
    pool.report(second, { status: 200 });
    const third = pool.granted();
    expect(third.proxyId).toBe(c);
    pool.report(third, { reason: "proxy-error" });
    expect([pool.granted().proxyId, pool.granted().proxyId, pool.granted().proxyId]).toEqual([a, b, a]);
  });

  test("lifo: the most recently added or returned", () => {
    const pool = pick({ kind: "lifo" });
    const [a, b, c] = pool.add(proxyLines(3));
    expect(pool.granted().proxyId).toBe(c);
    const lease = pool.granted({ exclude: [c, b] });
    pool.release(lease);
    expect(pool.granted().proxyId).toBe(a);
  });

  test("round-robin: the least recently used", () => {
    const pool = pick({ kind: "round-robin" });
    const ids = pool.add(proxyLines(3));
    expect([1, 2, 3, 4].map(() => pool.granted().proxyId)).toEqual([...ids, ids[0]]);
  });

  test("drain: takes exactly n of one proxy, then of the next, and returns when the first window is empty", () => {
    const pool = pick({ kind: "drain" }, { rate: { limit: 3, windowMs: 10_000 } });
    const [a, b] = pool.add(proxyLines(3));
    const used = () => {
      const lease = pool.granted();
      pool.report(lease, { status: 200 });
      return lease.proxyId;
    };
    expect([used(), used(), used()]).toEqual([a, a, a]);
    pool.wait(5000);
    expect(used()).toBe(b);
    // The first has room again from here on. Its window is empty only when the last of its three uses has run out.
    pool.wait(5101);
    expect([used(), used(), used()]).toEqual([a, a, a]);
    expect(used()).toBe(b);
  });

  test("drain: returns at once to a proxy that was held back briefly", () => {
    const pool = pick({ kind: "drain" }, { concurrency: 1 });
    const [a, b] = pool.add(proxyLines(2));
    const first = pool.granted();
    expect([first.proxyId, pool.granted().proxyId]).toEqual([a, b]);
    pool.release(first);
    expect(pool.granted().proxyId).toBe(a);
  });
});

describe("the terms of a lease request", () => {
  test("chooses by labels and schemes; no-match if no proxy has them, resting or not, whatever the wait", () => {
    const pool = new TestPool(free);
    const [german] = pool.add(["socks5://192.0.2.1:1080"], { labels: { country: "DE" } });
    pool.add(proxyLines(1, 2), { labels: { country: "FR" } });
    expect(pool.granted({ labels: { country: "DE" } }).proxyId).toBe(german);
    expect(pool.granted({ schemes: ["socks5", "socks4"] }).proxyId).toBe(german);
    expect(pool.refused({ labels: { country: "DE" }, schemes: ["http"], waitMs: 1000 }).code).toBe("no-match");
    pool.rest(german!, 1000);
    expect(pool.refused({ schemes: ["socks5"] })).toMatchObject({
      code: "pool-exhausted",
      retryAfterMs: 1000,
      limitedBy: { rest: 1 },
    });
  });

  test("passes excluded proxies over, and counts them if no other proxy is left", () => {
    const pool = new TestPool(free);
    const ids = pool.add(proxyLines(2));
    expect(pool.granted({ exclude: [ids[0]] }).proxyId).toBe(ids[1]);
    const refusal = pool.refused({ exclude: ids });
    expect(refusal).toMatchObject({ code: "pool-exhausted", limitedBy: { exclude: 2 } });
    expect(refusal.retryAfterMs).toBe(60_000);
    expect(pool.refused({ exclude: [...ids, "p_0000000000000000"] })).toMatchObject({ limitedBy: { exclude: 2 } });
    pool.rest(ids[1]!, 700);
    expect(pool.refused({ exclude: [ids[0]] })).toMatchObject({
      retryAfterMs: 700,
      limitedBy: { exclude: 1, rest: 1 },
    });
  });

  test("gives the same requestId the same lease while it is open, and refuses another request under it", () => {
    const pool = new TestPool(free);
    pool.add(proxyLines(3));
    const requestId = "0123456789abcdef";
    const lease = pool.granted({ requestId, labels: {} });
    expect(pool.granted({ requestId }).leaseId).toBe(lease.leaseId);
    expect(pool.facts).toEqual([]);
    expect(pool.refused({ requestId, uses: 2 })).toMatchObject({ code: "invalid-request", field: "requestId" });
    pool.release(lease);
    expect(pool.granted({ requestId }).leaseId).not.toBe(lease.leaseId);
  });
});

test("caps the duration and the uses of a lease at the policy's maximum", () => {
  const pool = new TestPool({ ...free, lease: { ttlMsMax: 500_000, usesMax: 50 } });
  const [id] = pool.add(proxyLines(1));
  expect(pool.granted({ ttlMs: 500_000, uses: 50 })).toMatchObject({ leftMs: 500_000, uses: 50 });
  expect(pool.proxy(id!)).not.toHaveProperty("leasableAt");
  for (const [field, bound] of [
    ["ttlMs", 500_000],
    ["uses", 50],
  ] as const) {
    const refusal = pool.refused({ [field]: bound + 1 });
    expect(refusal).toMatchObject({ code: "invalid-request", field, message: expect.stringContaining(String(bound)) });
  }
});

test("shows leasableAt only for available proxies that cannot be leased now", () => {
  const pool = new TestPool({ ...free, rate: { limit: 1, windowMs: 1000 }, marginMs: 0 });
  const [id] = pool.add(proxyLines(1));
  const lease = pool.granted();
  expect(pool.proxy(id!)).not.toHaveProperty("leasableAt"); // In use: the time depends on its worker.
  pool.report(lease, { status: 200 });
  expect(pool.proxy(id!)).toMatchObject({ state: "available", leasableAt: pool.at + 1001 });
  pool.wait(1001);
  expect(pool.proxy(id!)).not.toHaveProperty("leasableAt");
});

describe("the end of a lease", () => {
  test("releases all uses by default, never fewer than reported, and the same on a second release", () => {
    const pool = new TestPool(free);
    pool.add(proxyLines(1));
    const lease = pool.granted({ uses: 5 });
    pool.report(lease, { n: 3, status: 200 });
    expect(pool.release(lease, 2)).toMatchObject({ code: "invalid-request", field: "used" });
    expect(pool.release(lease, 6)).toMatchObject({ code: "invalid-request", field: "used" });
    const reply = pool.release(lease, 4);
    expect(reply).toEqual({ leaseId: lease.leaseId, used: 4, returned: 1 });
    expect(pool.release(lease, 5)).toEqual(reply);
    expect(pool.facts).toEqual([]);
    pool.wait(600_001);
    expect(pool.release(lease)).toMatchObject({ code: "unknown-lease" });
  });

  test("closes a lease when all uses are reported, in any order, or on final", () => {
    const pool = new TestPool(free);
    pool.add(proxyLines(1));
    const block = pool.granted({ uses: 3 });
    for (const n of [3, 1]) pool.report(block, { n, status: 200 });
    expect(pool.facts).toHaveLength(1);
    pool.report(block, { n: 2, status: 200 });
    expect(pool.facts[1]).toMatchObject({ type: "LeaseClosed", how: "completed", used: 3 });
    const other = pool.granted({ uses: 5 });
    pool.report(other, { n: 2, status: 200, final: true });
    expect(pool.facts[1]).toMatchObject({ how: "completed", used: 2 });
    expect(pool.release(other)).toMatchObject({ used: 2, returned: 3 });
  });

  test("counts each use once, whatever is reported of it later", () => {
    const pool = new TestPool(free);
    const [id] = pool.add(proxyLines(1));
    const lease = pool.granted();
    pool.report(lease, { status: 200 });
    expect(pool.report(lease, { n: 1, reason: "blocked" })).toMatchObject({ ignored: "duplicate" });
    expect(pool.report(pool.granted({ uses: 2 }), { status: 200 })).toMatchObject({ ignored: "n-missing" });
    expect(pool.report({ leaseId: "l_nobodyknowsthisone000" }, { status: 200 })).toMatchObject({
      ignored: "unknown-lease",
    });
    expect(pool.report(pool.granted(), {})).toMatchObject({ ignored: "no-result" });
    expect(pool.proxy(id!).totals).toMatchObject({ succeeded: 1, failed: 0 });
  });

  test("counts all uses as made at the end; a report in time is still a use of the lease", () => {
    const pool = new TestPool({ ...free, lease: { ttlMs: 1000, graceMs: 500 } });
    const [id] = pool.add(proxyLines(1));
    const lease = pool.granted({ uses: 2 });
    pool.wait(1200);
    expect(pool.proxy(id!)).toMatchObject({ openLeases: 0, totals: { granted: 2, unreported: 2 } });
    pool.report(lease, { n: 1, status: 200 });
    expect(pool.facts[0]).not.toHaveProperty("late");
    expect(pool.proxy(id!).totals).toMatchObject({ granted: 2, succeeded: 1, unreported: 1 });
    expect(pool.release(lease)).toEqual({ leaseId: lease.leaseId, used: 2, returned: 0 });
  });
});

describe("waiting", () => {
  function waitingFor(pool: TestPool) {
    const waiting = new WaitingRequests<string>(pool.state, pool.candidates, new Counts());
    const add = (body: object) => {
      const request = leaseRequestSchema.parse({ waitMs: 1000, ...body });
      const leaseId = `l_waiting_${waiting.size}_00000000000000`;
      waiting.add({ type: "lease", request, leaseId, deadline: pool.at + 1000 }, leaseId);
      return leaseId;
    };
    const serve = () => {
      const served: unknown[] = [];
      pool.turn((turn) =>
        waiting.serve(
          turn,
          () => true,
          (leaseId, answer) => served.push([leaseId, "lease" in answer]),
        ),
      );
      return served;
    };
    return { waiting, add, serve };
  }

  test("serves first come, first served; a request that cannot be served holds no other back", () => {
    const pool = new TestPool({ ...free, concurrency: 1 });
    pool.add(proxyLines(1), { labels: { country: "DE" } });
    pool.add(proxyLines(1, 2), { labels: { country: "FR" } });
    const [german, french] = [pool.granted({ labels: { country: "DE" } }), pool.granted()];
    const { add, serve, waiting } = waitingFor(pool);
    const first = add({ labels: { country: "DE" } });
    const second = add({});
    const third = add({});
    expect(serve()).toEqual([]);
    pool.release(french);
    expect(serve()).toEqual([[second, true]]);
    pool.release(german);
    expect(serve()).toEqual([[first, true]]);
    expect(waiting.size).toBe(1);
    expect(waiting.overdue(pool.at + 999)).toBeUndefined();
    expect(waiting.overdue(pool.at + 1000)).toMatchObject({ leaseId: third });
  });

  test("knows the next instant at which time alone serves a request", () => {
    const pool = new TestPool({ ...free, rate: { limit: 1, windowMs: 300 }, marginMs: 0 });
    pool.add(proxyLines(1));
    pool.report(pool.granted(), { status: 200 });
    const { add, serve, waiting } = waitingFor(pool);
    const waiter = add({});
    expect(waiting.wakeAt()).toBe(pool.at + 301);
    pool.wait(301);
    expect(serve()).toEqual([[waiter, true]]);
  });
});

test("keeps a requestId with the newer lease when the older one is closed late", () => {
  const pool = new TestPool({ ...free, lease: { ttlMs: 1000 } });
  pool.add(proxyLines(1));
  const request = { requestId: "0123456789abcdef" };
  const old = pool.granted(request);
  pool.at += 1000; // The lease has ended, but no tick has come yet.
  const newer = pool.granted(request);
  expect(newer.leaseId).not.toBe(old.leaseId);
  pool.turn((turn) => tick(turn));
  expect(pool.granted(request).leaseId).toBe(newer.leaseId);
});

test("gives the same request its open lease even if a new policy would no longer grant it", () => {
  const pool = new TestPool(free);
  pool.add(proxyLines(1));
  const request = { requestId: "0123456789abcdef", uses: 10 };
  const lease = pool.granted(request);
  pool.policy({ lease: { usesMax: 5 } });
  expect(pool.granted(request).leaseId).toBe(lease.leaseId);
});

test("keeps a waiting lease request that finds a usage rest due", () => {
  const pool = new TestPool({ ...free, usage: { limit: 10, restMs: 1000 } });
  pool.add(proxyLines(1));
  const lease = pool.granted({ uses: 8 });
  const waiting = new WaitingRequests(pool.state, pool.candidates, new Counts());
  const request = leaseRequestSchema.parse({ uses: 5, minUses: 5, waitMs: 60_000 });
  const leaseId = "l_waiting0000000000000000";
  waiting.add({ type: "lease", request, leaseId, deadline: pool.at + 60_000 }, leaseId);
  pool.release(lease);
  const served: boolean[] = [];
  const serve = () =>
    pool.turn((turn) =>
      waiting.serve(
        turn,
        () => true,
        (_leaseId, answer) => served.push("lease" in answer),
      ),
    );
  serve();
  expect(served).toEqual([]);
  pool.wait(1000);
  serve();
  expect(served).toEqual([true]);
});

test("gives the end of the rest as retryAfterMs when every free proxy is excluded", () => {
  const pool = new TestPool({ ...free, limitBy: "exit" });
  const [open, resting] = pool.add(proxyLines(2), gate);
  pool.rest(resting!, 5000);
  expect(pool.refused({ exclude: [open] }).retryAfterMs).toBe(5000);
});

test("stops counting a rule in limitedBy when only another rule still holds the proxy back", () => {
  const pool = new TestPool({ ...free, rate: { limit: 1, windowMs: 1000 } });
  const [id] = pool.add(proxyLines(1));
  pool.report(pool.granted(), { status: 200 });
  pool.rest(id!, 60_000);
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1, rest: 1 });
  pool.wait(5000);
  expect(pool.refused()).toMatchObject({ retryAfterMs: 55_000, limitedBy: { rate: 0, rest: 1 } });
});

test("grants nothing in the turn in which the pool is closed", () => {
  const pool = new TestPool(free);
  pool.add(proxyLines(1));
  pool.turn((turn) => close(turn, { drain: false }));
  expect(pool.refused()).toMatchObject({ code: "unknown-pool" });
  expect(pool.types()).toEqual([]);
});
