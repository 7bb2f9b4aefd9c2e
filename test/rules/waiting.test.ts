// Waiting requests of every kind, mixed. A waiting request is answered in the very commit in which it can be served,
// first come, first served among those that can be. `WaitingPool` checks both at every turn.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { proxyLines } from "../kit/pool.ts";
import { WaitingPool } from "../kit/waiting-pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const proxyIdsOf = (pool: WaitingPool) => pool.served.map(({ proxyId }) => proxyId);

describe("a waiting request", () => {
  test("does not hold others up while it waits for its session's proxy, and is served before later ones", () => {
    const pool = new WaitingPool({ ...free, concurrency: 1 });
    const [a, b] = pool.add(proxyLines(2));
    const first = pool.granted({ session: "s" });
    const other = pool.granted();
    const bound = pool.ask({ session: "s" });
    const any = pool.ask({});
    expect([first.proxyId, other.proxyId]).toEqual([a, b]);
    pool.release(other);
    expect(pool.served).toEqual([{ waiter: any, proxyId: b }]);
    pool.ask({});
    pool.release(first);
    expect(pool.served[1]).toEqual({ waiter: bound, proxyId: a });
    expect(pool.queue).toHaveLength(1);
  });

  test("is served before a later request that begins the rest that frees its session", () => {
    const pool = new WaitingPool({
      ...free,
      concurrency: 1,
      rate: { limit: 3, windowMs: 5000 },
      usage: { limit: 4, restMs: 10_000 },
      session: { patienceMs: 1000 },
    });
    const [a, b] = pool.add(proxyLines(2));
    const first = pool.granted({ session: "s", uses: 3 });
    expect(first.proxyId).toBe(a);
    pool.release(first);
    const earlier = pool.ask({ session: "s" });
    expect(pool.queue).toEqual([earlier]);
    const later = pool.ask({ session: "s", uses: 2, minUses: 2 });
    expect(pool.served).toEqual([{ waiter: earlier, proxyId: b }]);
    expect(pool.queue).toEqual([later]);
  });

  test("is refused if those that wait exclude too many proxies, which would fill the memory", () => {
    const pool = new WaitingPool({ ...free, concurrency: 1 });
    pool.add(proxyLines(1));
    pool.granted();
    const ask = (count: number) =>
      pool.turn((turn) =>
        Array.from({ length: count }, () => {
          const exclude = Array.from({ length: 1000 }, (_, i) => `p_other_${i}`);
          const request = leaseRequestSchema.parse({ waitMs: 60_000, exclude });
          const command = { type: "lease", request, leaseId: "l_any", deadline: pool.at + 60_000 } as const;
          return pool.waiting?.ask(turn, command, { request, leaseId: "l_any" }, { isSettled: true });
        }),
      );
    expect(new Set(ask(200))).toEqual(new Set(["waits"]));
    expect(ask(1)).toMatchObject([{ refusal: { code: "overloaded" } }]);
  });

  test("gets the proxy of the first request under the same new session", () => {
    const pool = new WaitingPool({ ...free, concurrency: 1 });
    const [a, b] = pool.add(proxyLines(2));
    const leases = [pool.granted(), pool.granted()];
    for (const _ of [1, 2]) pool.ask({ session: "s" });
    pool.release(leases[0]!);
    pool.release(leases[1]!);
    expect(proxyIdsOf(pool)).toEqual([a]);
    expect(pool.proxy(b!).openLeases).toBe(0);
  });

  test("is freed from its session when that ends, or when its proxy is retired or begins a long rest", () => {
    for (const free of [
      (pool: WaitingPool, id: string) => void pool.retire(id),
      (pool: WaitingPool, id: string) => void pool.rest(id, 10_001),
      (pool: WaitingPool, id: string) => void pool.add(["192.0.2.1:8080"], { labels: { moved: id } }),
    ]) {
      const pool = new WaitingPool({ rate: null, concurrency: 1 });
      const [a, b] = pool.add(proxyLines(2), { labels: { moved: "" } });
      pool.granted({ session: "s" });
      pool.ask({ session: "s", labels: { moved: "" } });
      expect(pool.served).toEqual([]);
      free(pool, a!);
      expect(proxyIdsOf(pool)).toEqual([b]);
    }
    const pool = new WaitingPool({ rate: { limit: 1, windowMs: 60_000 }, session: { ttlMs: 1000 }, marginMs: 0 });
    const [, b] = pool.add(proxyLines(2));
    pool.report(pool.granted({ session: "s" }), { status: 200 });
    pool.ask({ session: "s" });
    pool.wait(999);
    expect(pool.served).toEqual([]);
    pool.wait(1);
    expect(proxyIdsOf(pool)).toEqual([b]);
  });

  test("is bound again when its session's proxy or its labels come back before it is served", () => {
    const retired = new WaitingPool({ ...free, concurrency: 1 });
    const [gone] = retired.add(proxyLines(2));
    retired.granted({ session: "s" });
    const taken = retired.granted();
    retired.retire(gone!);
    retired.ask({ session: "s" });
    retired.add(proxyLines(1));
    retired.release(taken);
    expect(retired.served).toEqual([]);
    const pool = new WaitingPool({ ...free, concurrency: 1 });
    const [a, b] = pool.add(proxyLines(2), { labels: { kind: "x" } });
    const first = pool.granted({ session: "s" });
    const other = pool.granted();
    pool.add(proxyLines(1), { labels: { kind: "y" } });
    pool.ask({ session: "s", labels: { kind: "x" } });
    pool.add(proxyLines(1), { labels: { kind: "x" } });
    pool.release(other);
    expect(pool.served).toEqual([]);
    pool.release(first);
    expect(proxyIdsOf(pool)).toEqual([a]);
    expect(pool.proxy(b!).openLeases).toBe(0);
  });

  test("holds no other up while it waits for its holder's cap, and is served when a lease of the holder ends", () => {
    const pool = new WaitingPool({ ...free, holder: { leasesMax: 1 } });
    pool.add(proxyLines(1));
    const lease = pool.granted({ holder: "x" });
    const capped = pool.ask({ holder: "x" });
    expect(pool.ask({ holder: "y" })).toHaveProperty("proxyId");
    expect(pool.ask({})).toHaveProperty("proxyId");
    expect(pool.served).toEqual([]);
    pool.release(lease);
    expect(pool.served.map(({ waiter }) => waiter)).toEqual([capped]);
    pool.ask({ holder: "x" });
    pool.policy({ holder: { leasesMax: 2 } });
    expect(pool.served).toHaveLength(2);
  });

  test("gets the first proxy that it does not exclude", () => {
    const pool = new WaitingPool({ ...free, concurrency: 1 });
    const [a, b] = pool.add(proxyLines(2));
    const leases = [pool.granted(), pool.granted()];
    pool.ask({ exclude: [a] });
    pool.release(leases[0]!);
    expect(pool.served).toEqual([]);
    pool.release(leases[1]!);
    expect(proxyIdsOf(pool)).toEqual([b]);
  });
});

const request = fc.record(
  {
    uses: fc.integer({ min: 1, max: 4 }),
    minUses: fc.integer({ min: 1, max: 4 }),
    ttlMs: fc.integer({ min: 100, max: 2000 }),
    session: fc.constantFrom("a", "b", "c"),
    holder: fc.constantFrom("x", "y"),
    labels: fc.constantFrom({ kind: "a" }, { kind: "b" }),
    schemes: fc.constantFrom(["http"], ["socks5"]),
    exclude: fc.uniqueArray(fc.nat({ max: 2 }), { maxLength: 1 }),
  },
  { requiredKeys: ["ttlMs"] },
);
type Step =
  | { do: "ask"; request: Record<string, unknown> }
  | { do: "end"; lease: number; report: boolean }
  | { do: "renew"; lease: number; ttlMs: number }
  | { do: "wait"; ms: number }
  | { do: "rest" | "revive" | "retire" | "add"; proxy: number; ms: number }
  | { do: "policy"; patch: Record<string, unknown> };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 14, arbitrary: fc.record({ do: fc.constant("ask" as const), request }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("end" as const), lease: fc.nat({ max: 20 }), report: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("renew" as const),
      lease: fc.nat({ max: 20 }),
      ttlMs: fc.integer({ min: 1, max: 2000 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 700 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom("rest" as const, "revive" as const, "retire" as const, "add" as const),
      proxy: fc.nat({ max: 2 }),
      ms: fc.integer({ min: 1, max: 1000 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("policy" as const),
      patch: fc.constantFrom<Record<string, unknown>>(
        { concurrency: 2 },
        { concurrency: 1 },
        { holder: { leasesMax: null } },
        { holder: { leasesMax: 1 } },
        { rate: { limit: 3, windowMs: 700 } },
        { rate: null },
        { usage: { limit: 4, restMs: 300 } },
        { session: { ttlMs: 50 } },
        { session: { patienceMs: 0 } },
        { strategy: { kind: "drain" } },
        { strategy: { kind: "time-based", intervalMs: 300 } },
        { strategy: { kind: "least-used" } },
        { strategy: { kind: "bandit" } },
        { lease: { graceMs: 0 } },
        { marginMs: 0 },
      ),
    }),
  },
);
const lines = ["192.0.2.1:80", "socks5://192.0.2.1:81", "192.0.2.2:80"];

test("is answered in the very commit in which it can be served, and the first of those that can be", {
  timeout: 120_000,
}, () => {
  let served = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 80, size: "max" }), (steps) => {
      const pool = new WaitingPool({
        ...free,
        concurrency: 1,
        rate: { limit: 5, windowMs: 500 },
        usage: { limit: 9, restMs: 400 },
        holder: { leasesMax: 2 },
        session: { ttlMs: 900, patienceMs: 200, max: 10 },
      });
      const ids = lines.flatMap((line, i) => pool.add([line], { labels: { kind: i % 2 === 0 ? "a" : "b" } }));
      for (const each of steps) run(pool, ids, each);
      pool.wait(60_000);
      served += pool.served.length;
    }),
    { numRuns: 150 },
  );
  expect(served).toBeGreaterThan(400); // Otherwise nothing waited, and a pass would say nothing.
});

function run(pool: WaitingPool, ids: readonly string[], step: Step): void {
  switch (step.do) {
    case "ask": {
      const exclude = (step.request["exclude"] as number[] | undefined)?.map((i) => ids[i]);
      return void pool.ask({ ...step.request, ...(exclude === undefined ? {} : { exclude }) });
    }
    case "end": {
      const open = [...pool.state.leases.keys()];
      const leaseId = open[step.lease % open.length];
      if (leaseId === undefined) return;
      if (step.report) pool.report({ leaseId }, { n: 1, status: 200, final: true });
      else pool.release({ leaseId });
      return;
    }
    case "renew": {
      const open = [...pool.state.leases.keys()];
      const leaseId = open[step.lease % open.length];
      if (leaseId !== undefined) pool.renew({ leaseId }, step.ttlMs);
      return;
    }
    case "wait":
      return pool.wait(step.ms);
    case "rest":
      return void pool.rest(ids[step.proxy]!, step.ms);
    case "revive":
      return void pool.revive(ids[step.proxy]!);
    case "retire":
      return void pool.retire(ids[step.proxy]!);
    case "add":
      return void pool.add([lines[step.proxy]!], { labels: { kind: step.ms % 2 === 0 ? "a" : "b" } });
    case "policy":
      return void pool.policy(step.patch);
  }
}
