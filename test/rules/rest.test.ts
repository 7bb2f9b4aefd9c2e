import { describe, expect, test } from "vitest";
import { retire } from "../../state-machines/decide/proxy.ts";
import { tick, wakeAt } from "../../state-machines/decide/timers.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const gate = { labels: { exit: "gate" } };

describe("usage", () => {
  const policy = { ...free, usage: { limit: 3, restMs: 60_000 } };

  test("begins its rest when the count is at the limit and no lease is open, after success and failure alike", () => {
    const pool = new TestPool(policy);
    const [id] = pool.add(proxyLines(1));
    const [a, b, c] = [pool.granted(), pool.granted(), pool.granted()];
    expect(pool.refused().limitedBy).toMatchObject({ usage: 1, rest: 0 });
    pool.report(a, { status: 200 });
    pool.report(b, { reason: "proxy-error" });
    expect(pool.proxy(id!).state).toBe("in-use");
    pool.report(c, { status: 200 });
    expect(pool.types()).toEqual(["UseReported", "LeaseClosed.available", "RestBegan.exhausted"]);
    expect(pool.proxy(id!)).toMatchObject({
      state: "exhausted",
      reasons: ["usage"],
      until: pool.at + 60_000,
      epoch: 1,
      usesSinceRest: 0,
    });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 60_000, limitedBy: { rest: 1 } });
    pool.wait(59_999);
    pool.refused();
    pool.wait(1);
    expect(pool.granted().epoch).toBe(1);
  });

  test("resets the usage quota alone; window, score, streak, failures and totals stay as they were", () => {
    const pool = new TestPool({
      ...policy,
      rate: { limit: 3, windowMs: 600_000 },
      failures: { limit: 9, windowMs: 600_000, restMs: 1000 },
    });
    const [id] = pool.add(proxyLines(1));
    for (const status of [200, 403, 403]) pool.report(pool.granted(), { status });
    const { score, streak, totals } = pool.proxy(id!);
    pool.wait(60_000);
    expect(pool.proxy(id!)).toMatchObject({
      state: "available",
      usesSinceRest: 0,
      usesInWindow: 3,
      score,
      streak,
      totals,
    });
    expect([score, streak, totals.failed]).toEqual([-1, 2, 2]);
    expect(pool.state.proxies.get(id!)?.failures).toHaveLength(2);
    expect(pool.refused().limitedBy).toMatchObject({ rate: 1, usage: 0, rest: 0 });
  });

  test("does not count returned uses", () => {
    const pool = new TestPool(policy);
    const [id] = pool.add(proxyLines(1));
    pool.release(pool.granted({ uses: 3 }), 1);
    expect(pool.proxy(id!)).toMatchObject({ state: "available", usesSinceRest: 1 });
    pool.release(pool.granted({ uses: 2 }));
    expect(pool.proxy(id!).state).toBe("exhausted");
  });

  test("rests all proxies of the exit, and a proxy that is added to it meanwhile", () => {
    const pool = new TestPool(policy);
    const ids = pool.add(proxyLines(2), { labels: { exit: "gate" } });
    pool.release(pool.granted({ uses: 3 }));
    for (const id of ids) expect(pool.proxy(id)).toMatchObject({ state: "exhausted", reasons: ["usage"] });
    const [newcomer] = pool.add(proxyLines(1, 9), { labels: { exit: "gate" } });
    expect(pool.proxy(newcomer!)).toMatchObject({ state: "exhausted", until: pool.at + 60_000 });
  });

  test("closes an exit with more proxies than fit into a commit at once, and rests all of them in the end", () => {
    const pool = new TestPool(policy);
    const ids = pool.add(
      proxyLines(200).concat(Array.from({ length: 800 }, (_, i) => `198.51.100.${i % 250}:${1000 + i}`)),
      {
        labels: { exit: "gate" },
      },
    );
    pool.release(pool.granted({ uses: 3 }));
    expect(pool.facts.length).toBeLessThan(500);
    expect(pool.refused().retryAfterMs).toBe(60_000);
    pool.wait(0);
    expect(ids.every((id) => pool.proxy(id).state === "exhausted")).toBe(true);
    pool.wait(60_000);
    pool.granted();
  });

  test("rests an idle proxy when a block needs more uses than it has left", () => {
    const pool = new TestPool({ ...policy, strategy: { kind: "drain" } });
    const [first, second] = pool.add(proxyLines(2));
    pool.release(pool.granted({ uses: 2 }));
    expect(pool.granted({ uses: 3, minUses: 2 })).toMatchObject({ proxyId: second, uses: 3 });
    expect(pool.types()).toEqual(["RestBegan.exhausted", "LeaseGranted.in-use"]);
    expect(pool.proxy(first!)).toMatchObject({ state: "exhausted", usesSinceRest: 0 });
  });
});

describe("backoff", () => {
  test.each([
    ["unreachable", 1, 2000],
    ["proxy-error", 3, 8000],
    ["timeout", 12, 300_000],
    ["blocked", 1, 60_000],
    ["blocked", 4, 300_000],
    ["proxy-auth", 1, 600_000],
    ["throttled", 2, 4000],
  ])("%s for the %i. time in a row rests %i ms, and up to a second or a fifth more", (reason, times, restMs) => {
    const pool = new TestPool({ ...free, backoff: { kind: "exponential" }, streak: null });
    const [id] = pool.add(proxyLines(1));
    for (let i = 1; i <= times; i++) {
      pool.report(pool.granted(), { reason });
      if (i < times) pool.wait(1_000_000);
    }
    const rested = pool.proxy(id!).until! - pool.at;
    expect(rested).toBeGreaterThanOrEqual(restMs);
    expect(rested).toBeLessThanOrEqual(restMs + Math.max(1000, restMs * 0.2));
    expect(pool.proxy(id!)).toMatchObject({ streak: times, score: -times, reasons: ["backoff"] });
  });

  test("ends the streak at a success, and ignores neutral outcomes", () => {
    const pool = new TestPool({ ...free, backoff: { kind: "fixed", restMs: 1000 } });
    const [id] = pool.add(proxyLines(1));
    pool.report(pool.granted(), { reason: "blocked" });
    pool.wait(1000);
    pool.report(pool.granted(), { status: 503 });
    pool.report(pool.granted(), { reason: "client-abort" });
    expect(pool.proxy(id!)).toMatchObject({ streak: 1, score: -1, state: "available", totals: { neutral: 2 } });
    pool.report(pool.granted(), { status: 404 });
    expect(pool.proxy(id!)).toMatchObject({ streak: 0, score: 0 });
  });

  test("follows the target's retry time where it is longer, at most an hour", () => {
    const pool = new TestPool({ ...free, backoff: { kind: "fixed", restMs: 1000 } });
    const [id] = pool.add(proxyLines(1));
    pool.report(pool.granted(), { status: 429, retryAfterMs: 50_000_000 });
    expect(pool.proxy(id!)).toMatchObject({ until: pool.at + 3_600_000, reasons: ["throttle", "backoff"] });
    pool.wait(3_600_000);
    pool.report(pool.granted(), { status: 429, retryAfterMs: 999 });
    expect(pool.proxy(id!)).toMatchObject({ until: pool.at + 1000, reasons: ["throttle", "backoff"], streak: 2 });
  });
});

test("ignores the target's retry time if the target did not throttle", () => {
  const pool = new TestPool({ ...free, backoff: { kind: "fixed", restMs: 1000 } });
  const [id] = pool.add(proxyLines(1));
  pool.report(pool.granted(), { status: 503, retryAfterMs: 90_000 });
  expect(pool.proxy(id!).state).toBe("available");
  pool.report(pool.granted(), { status: 403, retryAfterMs: 90_000 });
  expect(pool.proxy(id!)).toMatchObject({ until: pool.at + 1000, reasons: ["backoff"] });
});

describe("failures and streak", () => {
  const policy = { ...free, failures: { limit: 3, windowMs: 10_000, restMs: 60_000 } };

  test("begins the rest at more failures than the limit within the window, and empties the window", () => {
    const pool = new TestPool(policy);
    const [id] = pool.add(proxyLines(1));
    for (let i = 0; i < 3; i++) pool.report(pool.granted(), { reason: "proxy-error" });
    expect(pool.proxy(id!).state).toBe("available");
    pool.report(pool.granted(), { reason: "proxy-error" });
    expect(pool.proxy(id!)).toMatchObject({
      state: "cooling",
      reasons: ["failures"],
      until: pool.at + 60_000,
      streak: 4,
    });
    pool.wait(60_000);
    for (let i = 0; i < 3; i++) pool.report(pool.granted(), { reason: "proxy-error" });
    expect(pool.proxy(id!).state).toBe("available");
  });

  test("does not add up failures a window apart; counts them by their stored times", () => {
    const pool = new TestPool(policy);
    const [id] = pool.add(proxyLines(1));
    for (let i = 0; i < 6; i++) {
      pool.report(pool.granted(), { reason: "proxy-error" });
      pool.wait(4000);
    }
    expect(pool.proxy(id!).state).toBe("available");
    for (let i = 0; i < 5; i++) pool.report(pool.granted(), { reason: "proxy-error" }, pool.at - 10_000);
    expect(pool.proxy(id!).state).toBe("available");
  });

  test("displaces no failure in the window by one that was stored earlier and comes later", () => {
    const pool = new TestPool({ ...policy, failures: { limit: 2, windowMs: 10_000, restMs: 60_000 } });
    const [id] = pool.add(proxyLines(1));
    pool.wait(20_000);
    const fail = (storedAt?: number) => pool.report(pool.granted(), { reason: "proxy-error" }, storedAt);
    for (const _ of [1, 2]) fail();
    for (const _ of [1, 2, 3]) fail(pool.at - 15_000);
    expect(pool.proxy(id!).state).toBe("available");
    fail(pool.at - 9999);
    expect(pool.proxy(id!)).toMatchObject({ state: "cooling", reasons: ["failures"] });
  });

  test("retires no proxy under a lower number of rests for a streak before its next such rest", () => {
    const pool = new TestPool({ ...free, streak: { limit: 1, restMs: 1000 }, backoff: { kind: "fixed", restMs: 10 } });
    const [id] = pool.add(proxyLines(1));
    const fail = () => {
      pool.report(pool.granted(), { reason: "proxy-error" });
      const { state } = pool.proxy(id!);
      pool.wait(1000);
      return state;
    };
    for (const _ of [1, 2, 3, 4, 5, 6]) fail();
    pool.policy({ streak: { retireAfter: 2 } });
    expect([fail(), fail()]).toEqual(["cooling", "retired"]);
  });

  test("begins a rest that resets the streak after more than n failures in a row, and retires at the m-th such rest", () => {
    const pool = new TestPool({ ...free, streak: { limit: 2, restMs: 1000, retireAfter: 2 } });
    const [id] = pool.add(proxyLines(1));
    for (let i = 0; i < 3; i++) pool.report(pool.granted(), { reason: "proxy-error" });
    expect(pool.proxy(id!)).toMatchObject({ state: "cooling", reasons: ["streak"], streak: 0 });
    pool.wait(1000);
    for (let i = 0; i < 3; i++) pool.report(pool.granted(), { reason: "proxy-error" });
    expect(pool.types().slice(-2)).toEqual(["RestBegan.cooling", "ProxyRetired.retired"]);
  });

  test("applies the longest of several rests and records all reasons", () => {
    const pool = new TestPool({
      ...policy,
      failures: { limit: 1, windowMs: 10_000, restMs: 5000 },
      backoff: { kind: "fixed", restMs: 9000 },
      usage: { limit: 2, restMs: 7000 },
    });
    const [id] = pool.add(proxyLines(1));
    const [a, b] = [pool.granted(), pool.granted()];
    pool.report(a, { reason: "target-error" });
    pool.policy({ failures: { limit: 1 } });
    pool.report(b, { reason: "blocked" });
    expect(pool.proxy(id!)).toMatchObject({
      state: "exhausted",
      reasons: ["backoff", "usage"],
      until: pool.at + 9000,
      usesSinceRest: 0,
    });
  });

  test("checks failures of older leases that are reported during a rest when it ends", () => {
    const pool = new TestPool({
      ...policy,
      failures: { limit: 2, windowMs: 60_000, restMs: 5000 },
      backoff: { kind: "fixed", restMs: 1000 },
    });
    const [id] = pool.add(proxyLines(1));
    const leases = [1, 2, 3, 4].map(() => pool.granted());
    for (const lease of leases) pool.report(lease, { reason: "proxy-error" });
    expect(pool.proxy(id!)).toMatchObject({ reasons: ["backoff"], until: pool.at + 1000, epoch: 1 });
    expect(pool.refused().retryAfterMs).toBe(6000);
    pool.wait(1000);
    expect(pool.proxy(id!)).toMatchObject({ reasons: ["failures"], until: pool.at + 5000, epoch: 2 });
    pool.wait(5000);
    pool.granted();
  });

  test("skips the rest for such failures if it would be over before the next look", () => {
    const failures = { limit: 2, windowMs: 60_000, restMs: 5000 };
    const pool = new TestPool({ ...policy, failures, backoff: { kind: "fixed", restMs: 1000 } });
    const [id] = pool.add(proxyLines(1));
    const leases = [1, 2, 3, 4].map(() => pool.granted());
    for (const lease of leases) pool.report(lease, { reason: "proxy-error" });
    pool.at += 6000; // No leader, and no tick.
    pool.turn((turn) => tick(turn));
    expect(pool.types()).toEqual(["RestEnded.available"]);
    expect(pool.proxy(id!)).toMatchObject({ state: "available", epoch: 1 });
  });
});

describe("epochs: an outcome of an older one", () => {
  const policy = { ...free, backoff: { kind: "fixed", restMs: 10_000 }, streak: { limit: 1, restMs: 99_000 } };

  test("counts in totals and score, but neither extends a rest nor touches the streak", () => {
    const pool = new TestPool(policy);
    const [id] = pool.add(proxyLines(1));
    const [a, b] = [pool.granted(), pool.granted()];
    pool.report(a, { reason: "proxy-error" });
    const { until } = pool.proxy(id!);
    pool.wait(5000);
    pool.report(b, { reason: "proxy-error" });
    expect(pool.types()).toEqual(["UseReported", "LeaseClosed.cooling"]);
    expect(pool.proxy(id!)).toMatchObject({ until, streak: 1, score: -2, totals: { failed: 2 }, openLeases: 0 });
  });

  test("does not end a rest by a late success", () => {
    const pool = new TestPool(policy);
    const [id] = pool.add(proxyLines(1));
    const [a, b] = [pool.granted(), pool.granted()];
    pool.report(a, { reason: "proxy-error" });
    pool.report(b, { status: 200 });
    expect(pool.proxy(id!)).toMatchObject({ state: "cooling", streak: 1, score: 0 });
  });

  test("lengthens a rest only by the target's retry time, and begins none that is over", () => {
    const pool = new TestPool(policy);
    const [id] = pool.add(proxyLines(1));
    const [a, b, shorter, c] = [pool.granted(), pool.granted(), pool.granted(), pool.granted()];
    pool.report(a, { reason: "proxy-error" });
    pool.report(b, { status: 429, retryAfterMs: 30_000 });
    expect(pool.proxy(id!)).toMatchObject({ until: pool.at + 30_000, reasons: ["backoff", "throttle"], epoch: 1 });
    pool.report(shorter, { status: 429, retryAfterMs: 29_999 });
    expect(pool.types()).toEqual(["UseReported", "LeaseClosed.cooling"]);
    pool.wait(30_000);
    pool.report(c, { status: 429, retryAfterMs: 30_000 });
    expect(pool.proxy(id!).state).toBe("available");
  });

  test("leaves open leases valid during a rest, and returns to in-use if some are still open", () => {
    const pool = new TestPool({ ...policy, lease: { ttlMs: 60_000 } });
    const [id] = pool.add(proxyLines(1));
    const [a, b] = [pool.granted(), pool.granted({ uses: 2 })];
    pool.report(a, { reason: "proxy-error" });
    pool.report(b, { n: 1, status: 200 });
    expect(pool.types()).toEqual(["UseReported"]);
    pool.wait(10_000);
    expect(pool.proxy(id!).state).toBe("in-use");
    pool.release(b);
    expect(pool.proxy(id!).state).toBe("available");
  });
});

describe("manual rests", () => {
  test("only lengthens a rest; reviving ends it and resets nothing", () => {
    const pool = new TestPool({ ...free, usage: { limit: 2, restMs: 1000 } });
    const [id] = pool.add(proxyLines(1));
    pool.release(pool.granted());
    expect([pool.rest(id!, 5000), pool.rest(id!, 1000), pool.rest(id!, 9000)]).toEqual([true, false, true]);
    expect(pool.proxy(id!)).toMatchObject({ reasons: ["manual"], until: pool.at + 9000, epoch: 1 });
    expect([pool.revive(id!), pool.revive(id!)]).toEqual([true, false]);
    expect(pool.proxy(id!)).toMatchObject({ state: "available", usesSinceRest: 1 });
  });

  test("ends a usage rest manually", () => {
    const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 } });
    const [id] = pool.add(proxyLines(1));
    pool.release(pool.granted());
    expect(pool.revive(id!)).toBe(true);
    pool.granted();
  });
});

test("begins no second rest for a failure of a lease from before its proxy was added again, while its exit rests", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 }, backoff: { kind: "fixed", restMs: 1000 } });
  const [id] = pool.add(proxyLines(2), gate);
  const lease = pool.granted();
  pool.retire(id!);
  pool.release(lease);
  pool.add(proxyLines(1), gate);
  expect(pool.proxy(id!)).toMatchObject({ state: "exhausted", epoch: 1 });
  pool.report(lease, { status: 403 });
  expect(pool.types()).toEqual(["UseReported"]);
});

test("spreads a usage rest over turns for an exit with many proxies, most of them retired, and ends it", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 } });
  const ids = pool.add(
    Array.from({ length: 1200 }, (_, i) => `198.51.100.7:${1000 + i}`),
    gate,
  );
  pool.turn(() => undefined);
  pool.turn((turn) => {
    for (const id of ids.slice(0, 450)) retire(turn, pool.state.proxies.get(id)!, {});
  });
  pool.release(pool.granted());
  for (let turns = 0; turns < 5 && !pool.turn((turn) => tick(turn)); turns++);
  expect(wakeAt(pool.state)).toBe(pool.at + 60_000);
  expect(ids.slice(450).every((id) => pool.proxy(id).state === "exhausted")).toBe(true);
});

test("does not end the exit's rest when a proxy is revived from its own rest", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 } });
  const [late] = pool.add(proxyLines(1));
  pool.rest(late!, 50_000);
  const [other] = pool.add(proxyLines(1, 2), gate);
  pool.release(pool.granted());
  expect(pool.proxy(other!).state).toBe("exhausted");
  pool.add(proxyLines(1), gate);
  pool.revive(late!);
  expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
});

test("applies the longer rest of two usage rules with the same limit at one exit, in either order", () => {
  for (const rests of [
    [1000, 2000],
    [2000, 1000],
  ]) {
    const pool = new TestPool(free);
    for (const [i, restMs] of rests.entries())
      pool.add(proxyLines(1, i + 1), { ...gate, limits: { usage: { limit: 1, restMs } } });
    pool.release(pool.granted());
    expect(pool.refused().retryAfterMs).toBe(2000);
  }
});
