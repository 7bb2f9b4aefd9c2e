// `retryAfterMs` is exact: at that instant a lease would succeed if nothing more were reported, released or granted,
// 1 ms before it would not. Random histories of random pools; the pool itself is asked at both instants.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { everyStrategy } from "../../../bench/strategies.ts";
import { isRefusal } from "../../../protocol/refusal.ts";
import { type Granted, TestPool } from "../../kit/pool.ts";

/** The answer if no known event will ever help. */
const unknownMs = 60_000;
const spanMs = fc.integer({ min: 1, max: 3000 });
const small = fc.integer({ min: 1, max: 5 });
const orNull = <T>(value: fc.Arbitrary<T>) => fc.option(value, { freq: 5 });

const rate = orNull(
  fc.oneof(
    fc.record({ limit: small, windowMs: spanMs }),
    fc
      .tuple(fc.record({ limit: small, windowMs: fc.integer({ min: 1, max: 999 }) }), small)
      .map(([first, more]) => [first, { limit: first.limit + more, windowMs: 2500 }]),
  ),
);
const usage = orNull(fc.record({ limit: fc.integer({ min: 2, max: 9 }), restMs: spanMs }));
const policy = fc.record({
  rate,
  concurrency: orNull(fc.integer({ min: 1, max: 2 })),
  usage,
  failures: orNull(fc.record({ limit: fc.integer({ min: 1, max: 3 }), windowMs: spanMs, restMs: spanMs })),
  streak: fc.constant(null),
  backoff: fc.oneof(
    fc.constant({ kind: "none" }),
    fc.record({ kind: fc.constant("fixed"), restMs: spanMs, jitterMs: fc.constant(0) }),
  ),
  marginMs: fc.integer({ min: 0, max: 100 }),
  countFrom: fc.constantFrom("report", "grant"),
  limitBy: fc.constantFrom("exit", "proxy"),
  lease: fc.record({
    ttlMs: spanMs,
    ttlMsMax: fc.constant(5000),
    graceMs: fc.integer({ min: 0, max: 500 }),
    usesMax: fc.constant(12),
  }),
  session: fc.record({
    ttlMs: spanMs,
    patienceMs: fc.integer({ min: 0, max: 2000 }),
    max: fc.integer({ min: 1, max: 3 }),
  }),
  holder: fc.record({ leasesMax: orNull(fc.integer({ min: 1, max: 3 })) }),
  strategy: fc.constantFrom(...everyStrategy({ intervalMs: 700, halfLifeMs: 600_000 })),
});

const proxies = 4;
const index = fc.nat({ max: 50 });
const request = fc.record(
  {
    uses: fc.integer({ min: 1, max: 6 }),
    minUses: fc.integer({ min: 1, max: 4 }),
    ttlMs: spanMs,
    session: fc.constantFrom("a", "b", "c"),
    holder: fc.constantFrom("x", "y"),
    labels: fc.constantFrom({ kind: "a" }, { kind: "b" }),
    exclude: fc.uniqueArray(fc.nat({ max: proxies - 1 }), { maxLength: proxies - 1 }),
  },
  { requiredKeys: [] },
);
const limits = fc.record({ rate, concurrency: orNull(small), usage }, { requiredKeys: [] });

type Step =
  | { do: "lease" | "probe"; request: Record<string, unknown> }
  | { do: "report"; lease: number; n: number; reason: string | null; final: boolean }
  | { do: "release"; lease: number; used: number }
  | { do: "renew"; lease: number; ttlMs: number }
  | { do: "wait"; ms: number }
  | { do: "retire" | "revive" | "add"; proxy: number; limits: object | undefined; kind: string }
  | { do: "rest"; proxy: number; ms: number }
  /** All uses of a lease fail; they are reported when its proxy has begun a rest, or that is over. */
  | { do: "fail"; proxy: number; uses: number; restMs: number; waitMs: number }
  | { do: "policy"; patch: Record<string, unknown> };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("lease" as const), request }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("probe" as const), request }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant("report" as const),
      lease: index,
      n: fc.integer({ min: 1, max: 7 }),
      reason: fc.constantFrom(null, null, "proxy-error", "timeout", "target-error"),
      final: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("release" as const), lease: index, used: fc.nat({ max: 6 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("renew" as const), lease: index, ttlMs: spanMs }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 700 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom("retire" as const, "revive" as const, "add" as const),
      proxy: fc.nat({ max: proxies - 1 }),
      limits: fc.option(limits, { nil: undefined }),
      kind: fc.constantFrom("a", "b"),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("rest" as const), proxy: fc.nat({ max: proxies - 1 }), ms: spanMs }),
  },
  {
    weight: 1,
    arbitrary: policy.chain((document) =>
      fc.subarray(Object.keys(document), { minLength: 1, maxLength: 3 }).map((keys) => ({
        do: "policy" as const,
        patch: Object.fromEntries(keys.map((key) => [key, document[key as keyof typeof document]])),
      })),
    ),
  },
);

/** Where failures of older epochs pile up, and usage quotas end or fall short while proxies rest. */
const checkedLater = policy.map((document) => ({
  ...document,
  rate: null,
  usage: document.usage ?? { limit: 5, restMs: 700 },
  failures: { limit: 1, windowMs: 2500, restMs: 1500 },
  backoff: { kind: "none" },
}));
const checkingLater: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant("lease" as const), request }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("probe" as const), request }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("fail" as const),
      proxy: fc.nat({ max: 1 }),
      uses: fc.integer({ min: 1, max: 3 }),
      restMs: fc.integer({ min: 1, max: 50 }),
      waitMs: fc.integer({ min: 1, max: 60 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 300 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("rest" as const), proxy: fc.nat({ max: 1 }), ms: spanMs }),
  },
);

/** Two of them, or all, leave by one address. */
const lines = ["192.0.2.1:8080", "192.0.2.1:8081", "192.0.2.2:8080", "192.0.2.3:8080"];
const anyKinds = fc.array(fc.constantFrom("a", "b"), { minLength: 1, maxLength: proxies });
const linesOfOne = lines.map((_line, i) => `192.0.2.1:808${i}`);

class History {
  readonly pool: TestPool;
  readonly ids: string[];
  readonly leases: Granted[] = [];
  readonly lines: readonly string[];
  probed = 0;

  constructor(document: Record<string, unknown>, kinds: readonly string[], given: { isOneExit: boolean }) {
    this.pool = new TestPool(document);
    this.lines = given.isOneExit ? linesOfOne : lines;
    this.ids = this.lines.flatMap((line, i) => {
      const ids = this.pool.add([line], { labels: { kind: kinds[i] ?? "a" } });
      if (kinds[i] === undefined) this.pool.retire(ids[0]!); // Known, and to be added later perhaps.
      return ids;
    });
  }

  run(step: Step): void {
    const { pool } = this;
    switch (step.do) {
      case "lease": {
        const lease = pool.lease(this.#request(step.request));
        if (!isRefusal(lease)) this.leases.push(lease);
        return;
      }
      case "probe":
        return this.#probe(this.#request(step.request));
      case "report": {
        const lease = this.leases[step.lease % this.leases.length];
        const seen = step.reason === null ? { status: 200 } : { reason: step.reason };
        if (lease !== undefined) pool.report(lease, { n: step.n, final: step.final, ...seen });
        return;
      }
      case "release": {
        const lease = this.leases[step.lease % this.leases.length];
        if (lease !== undefined) pool.release(lease, step.used);
        return;
      }
      case "renew": {
        const lease = this.leases[step.lease % this.leases.length];
        if (lease !== undefined) pool.renew(lease, step.ttlMs);
        return;
      }
      case "wait":
        return pool.wait(step.ms);
      case "retire":
        return void pool.retire(this.ids[step.proxy]!);
      case "revive":
        return void pool.revive(this.ids[step.proxy]!);
      case "add": {
        const given = { labels: { kind: step.kind } };
        pool.add([this.lines[step.proxy]!], step.limits === undefined ? given : { ...given, limits: step.limits });
        return;
      }
      case "rest":
        return void pool.rest(this.ids[step.proxy]!, step.ms);
      case "fail": {
        const exclude = this.ids.filter((_id, i) => i !== step.proxy);
        const lease = pool.lease({ uses: step.uses, exclude, ttlMs: 3000 });
        if (isRefusal(lease)) return;
        pool.rest(this.ids[step.proxy]!, step.restMs);
        pool.wait(step.waitMs);
        for (let n = 1; n <= lease.uses; n++) pool.report(lease, { n, reason: "proxy-error" });
        return;
      }
      case "policy":
        return void pool.policy(step.patch);
    }
  }

  #request(request: Record<string, unknown>): Record<string, unknown> {
    const exclude = request["exclude"] as number[] | undefined;
    return exclude === undefined ? request : { ...request, exclude: exclude.map((i) => this.ids[i]) };
  }

  #probe(request: Record<string, unknown>): void {
    const { pool } = this;
    let refusal = pool.lease(request);
    for (let n = 0; n < 10 && !isRefusal(refusal); n++) {
      this.leases.push(refusal);
      refusal = pool.lease(request);
    }
    if (!isRefusal(refusal) || refusal.code !== "pool-exhausted") return;
    const retryAfterMs = refusal.retryAfterMs!;
    if (retryAfterMs === unknownMs) {
      pool.wait(30_000);
      expect(pool.lease(request), "nothing will ever help").toMatchObject({ code: "pool-exhausted" });
      return;
    }
    this.probed++;
    pool.wait(retryAfterMs - 1);
    // Asked before or not, the answer at the instant itself is the same.
    if (this.probed % 2 === 0) {
      const before = pool.lease(request);
      expect(before, `${retryAfterMs} ms were told, and 1 ms before`).toMatchObject({
        code: "pool-exhausted",
        retryAfterMs: 1,
      });
    }
    pool.wait(1);
    const lease = pool.lease(request);
    expect(isRefusal(lease) ? lease : null, `${retryAfterMs} ms were told`).toBeNull();
    if (!isRefusal(lease)) this.leases.push(lease);
  }
}

describe("retryAfterMs", () => {
  test("knows of failures that will be checked when the coming usage rest is over", () => {
    const off = { rate: null, concurrency: null, streak: null, backoff: { kind: "none" } };
    const failures = { limit: 1, windowMs: 60_000, restMs: 5000 };
    const pool = new TestPool({ ...off, failures, usage: { limit: 3, restMs: 1000 } });
    const [id] = pool.add([lines[0]!]);
    const older = [pool.granted(), pool.granted()];
    pool.rest(id!, 10);
    pool.wait(10);
    for (const lease of older) pool.report(lease, { reason: "proxy-error" });
    expect(pool.proxy(id!).state).toBe("available"); // Of an older epoch: they begin no rest.
    pool.granted({ ttlMs: 500 });
    expect(pool.refused().retryAfterMs).toBe(500 + 1000 + 5000);
    pool.wait(6499);
    expect(pool.proxy(id!).reasons).toEqual(["failures"]);
    pool.refused();
    pool.wait(1);
    pool.granted();
  });

  test("knows of such failures of each proxy of an exit, those at rest included", () => {
    const off = { rate: null, concurrency: null, streak: null, backoff: { kind: "none" } };
    const failures = { limit: 1, windowMs: 60_000, restMs: 5000 };
    const pool = new TestPool({ ...off, failures, usage: { limit: 3, restMs: 1000 } });
    const [id, other] = pool.add(linesOfOne.slice(0, 2));
    pool.rest(other!, 7000);
    const older = [pool.granted(), pool.granted()];
    pool.rest(id!, 10);
    pool.wait(10);
    for (const lease of older) pool.report(lease, { reason: "proxy-error" });
    pool.granted({ ttlMs: 490 });
    // The one will rest for its failures until 6500, the other one manually until 7000.
    expect(pool.refused().retryAfterMs).toBe(490 + 1000 + 5000);
    expect(pool.refused({ exclude: [id!] }).retryAfterMs).toBe(6990);
    pool.wait(6489);
    pool.refused();
    pool.wait(1);
    expect(pool.granted().proxyId).toBe(id);
  });

  test("knows that only one of two resting proxies has failures to rest for", () => {
    const off = { rate: null, concurrency: null, usage: null, streak: null, backoff: { kind: "none" } };
    const pool = new TestPool({ ...off, failures: { limit: 1, windowMs: 500, restMs: 5000 } });
    const [id, other] = pool.add(linesOfOne.slice(0, 2));
    const older = [pool.granted({ exclude: [other!] }), pool.granted({ exclude: [other!] })];
    pool.rest(id!, 100);
    pool.rest(other!, 3000);
    for (const lease of older) pool.report(lease, { reason: "proxy-error" });
    expect(pool.refused().retryAfterMs).toBe(3000);
    pool.wait(3000);
    expect(pool.granted().proxyId).toBe(other);
  });

  test("knows of failures that are checked as of the end of a usage rest, after a rest in which they were too few", () => {
    const off = { rate: null, concurrency: null, streak: null, backoff: { kind: "none" } };
    const failures = { limit: 1, windowMs: 1000, restMs: 9000 };
    const pool = new TestPool({ ...off, failures, usage: { limit: 3, restMs: 500 } });
    const [id] = pool.add([lines[0]!]);
    const older = [pool.granted(), pool.granted()];
    pool.rest(id!, 3000);
    for (const lease of older) pool.report(lease, { reason: "proxy-error" });
    const { retryAfterMs = 0 } = pool.refused({ uses: 2, minUses: 2 });
    pool.wait(retryAfterMs - 1);
    pool.refused({ uses: 2, minUses: 2 });
    pool.wait(1);
    pool.granted({ uses: 2, minUses: 2 });
  });

  test("knows whether there will be room for a session once it has ended", () => {
    const off = { concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
    const rate = { limit: 1, windowMs: 60_000 };
    const pool = new TestPool({ ...off, rate, session: { ttlMs: 1000 }, strategy: { kind: "round-robin" } });
    pool.add(lines.slice(1));
    pool.report(pool.granted({ session: "first" }), { status: 200 });
    pool.granted({ session: "second", ttlMs: 5000 });
    pool.policy({ session: { max: 1 } });
    expect(pool.refused({ session: "first" }).retryAfterMs).toBe(5000);
    pool.wait(4999);
    expect(pool.refused({ session: "first" }).code).toBe("overloaded");
    pool.wait(1);
    pool.granted({ session: "first" });
  });

  test.each([
    ["whatever has happened before", policy, anyKinds, step],
    [
      "of an exit that two share, with failures to be checked after coming rests",
      checkedLater,
      fc.constant(["a", "a"]),
      checkingLater,
    ],
  ])("is exact, %s", { timeout: 120_000 }, (_what, policies, kindsOfSome, doing) => {
    let probed = 0;
    const isExact = fc.property(
      policies,
      kindsOfSome,
      fc.boolean(),
      fc.array(doing, { minLength: 10, maxLength: 50, size: "max" }),
      (document, kinds, isOneExit, steps) => {
        const history = new History(document, kinds, { isOneExit });
        for (const each of steps) history.run(each);
        probed += history.probed;
      },
    );
    // The histories must have led to refusals, or their silence says nothing: where chance has made few, there are
    // more.
    for (let rounds = 0; rounds === 0 || (rounds < 4 && probed <= 300); rounds++) fc.assert(isExact, { numRuns: 250 });
    expect(probed).toBeGreaterThan(300);
  });
});
