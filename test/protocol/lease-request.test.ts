// The lease request on the wire: which proxies it matches, when it is refused, and what its requestId does. Protocol
// §1.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Lease, lax, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const minute = 60_000;

describe("labels, schemes, exclude", () => {
  beforeAll(async () => {
    await wire.open("choice", lax, [
      { url: "10.4.1.1:80", labels: { country: "DE", tier: "gold" } },
      { url: "10.4.1.2:80", labels: { country: "DE" } },
      { url: "socks5://10.4.1.3:80", labels: { country: "FR" } },
      "socks4://10.4.1.4:80",
    ]);
  });

  const hosts = async (request: object, count = 6) => {
    const leases = await Promise.all(Array.from({ length: count }, () => wire.lease("choice", request)));
    return [...new Set(leases.map(({ host }) => host))].sort();
  };

  test("leases only proxies with all the labels and one of the schemes", async () => {
    expect(await hosts({ labels: { country: "DE" } })).toEqual(["10.4.1.1", "10.4.1.2"]);
    expect(await hosts({ labels: { country: "DE", tier: "gold" } })).toEqual(["10.4.1.1"]);
    expect(await hosts({ schemes: ["socks5", "socks4"] })).toEqual(["10.4.1.3", "10.4.1.4"]);
    expect(await hosts({ schemes: ["socks5"], labels: { country: "FR" } })).toEqual(["10.4.1.3"]);
    expect(await hosts({ labels: {} }, 12)).toHaveLength(4);
  });

  test("answers no-match at once if no proxy has them, whether proxies rest or not and whatever waitMs is", async () => {
    for (const request of [
      { labels: { country: "IT" } },
      { labels: { country: "FR" }, schemes: ["http"] },
      { schemes: ["socks5h"] },
    ]) {
      // Answered in order, like a lease request that does not wait: a later question finds no waiting request.
      const order: string[] = [];
      const [, { waiting }] = await Promise.all([
        wire
          .refused("lease", "choice", { ...request, waitMs: 60_000 }, "no-match")
          .finally(() => order.push("refused")),
        wire.stats("choice").finally(() => order.push("asked later")),
      ]);
      expect({ order, waiting }).toEqual({ order: ["refused", "asked later"], waiting: 0 });
    }
    await wire.open("empty", lax);
    await wire.refused("lease", "empty", {}, "no-match");
  });

  test("skips excluded proxies; if only excluded ones match, the pool is exhausted", async () => {
    const german = { labels: { country: "DE" } };
    const first = await wire.proxyAt("choice", "10.4.1.1");
    const second = await wire.proxyAt("choice", "10.4.1.2");
    expect(await hosts({ ...german, exclude: [first.id] })).toEqual(["10.4.1.2"]);
    const refusal = await wire.refused(
      "lease",
      "choice",
      { ...german, exclude: [first.id, second.id] },
      "pool-exhausted",
    );
    expect(refusal.limitedBy).toEqual({ rate: 0, concurrency: 0, usage: 0, rest: 0, exclude: 2, session: 0 });
    expect(await hosts({ exclude: ["p_0123456789abcdef"], labels: { country: "FR" } })).toEqual(["10.4.1.3"]);
  });
});

describe("pool-exhausted", () => {
  test("counts the matching proxies that each rule holds back", async () => {
    const long = { windowMs: minute };
    const matching = { labels: { kind: "held" } };
    await wire.open("held", { ...lax, lease: { ttlMs: minute } }, [
      { url: "10.4.2.1:80", labels: { kind: "held" }, limits: { rate: { limit: 1, ...long } } },
      { url: "10.4.2.2:80", labels: { kind: "held" }, limits: { concurrency: 1 } },
      { url: "10.4.2.3:80", labels: { kind: "held" }, limits: { concurrency: 1 } },
      { url: "10.4.2.4:80", labels: { kind: "held" }, limits: { usage: { limit: 1, restMs: minute } } },
      { url: "10.4.2.5:80", labels: { kind: "held" } },
      { url: "10.4.2.6:80", labels: { kind: "held" } },
      { url: "10.4.2.7:80", labels: { kind: "free" } },
    ]);
    const ids = new Map((await wire.proxies("held")).map(({ host, id }) => [host, id]));
    const excluded = ids.get("10.4.2.6");
    await wire.ok("proxies.rest", "held", { ids: [ids.get("10.4.2.5")], forMs: minute });
    for (let n = 0; n < 4; n++) await wire.lease("held", { ...matching, exclude: [excluded] });
    const refusal = await wire.refused("lease", "held", { ...matching, exclude: [excluded] }, "pool-exhausted");
    expect(refusal.limitedBy).toEqual({ rate: 1, concurrency: 2, usage: 1, rest: 1, exclude: 1, session: 0 });
  });

  test("retryAfterMs is the time until one can be leased if nothing else happens", async () => {
    const policy = { ...lax, marginMs: 3000, lease: { graceMs: 5000 } };
    const exhaustedUntil = (due: number | undefined, pool: string, request: object = {}) =>
      wire.refusedUntil(due ?? 0, "lease", pool, request, "pool-exhausted");
    // Concurrency: the end of the lease that ends first.
    await wire.open("until-end", { ...policy, concurrency: 1 }, ["10.4.3.1:80", "10.4.3.2:80"]);
    await wire.lease("until-end", { ttlMs: 30_000 });
    const first = await wire.lease("until-end", { ttlMs: 20_000 });
    await exhaustedUntil(first.expiresAt, "until-end");
    // Rate, not yet reported: the lease's end, the grace, the window and the margin. A slot is free when more than that
    // is over.
    await wire.open("until-window", { ...policy, rate: { limit: 2, windowMs: 10_000 } }, ["10.4.3.3:80"]);
    const lease = await wire.lease("until-window", { uses: 2, ttlMs: 20_000 });
    await exhaustedUntil(lease.expiresAt + 5000 + 10_000 + 3000 + 1, "until-window");
    // Reported: the window and the margin.
    await wire.report("until-window", { leaseId: lease.leaseId, n: 1, status: 200 });
    const [use] = await wire.dated("until-window", "UseReported");
    await exhaustedUntil((use?.at ?? 0) + 10_000 + 3000 + 1, "until-window");
    // A rest: its end. Of several proxies, the first end.
    await wire.open("until-rest", policy, ["10.4.3.4:80", "10.4.3.5:80"]);
    const [one, two] = await wire.proxies("until-rest");
    await wire.ok("proxies.rest", "until-rest", { ids: [one?.id], forMs: 40_000 });
    await wire.ok("proxies.rest", "until-rest", { ids: [two?.id], forMs: 25_000 });
    const [long, short] = (await wire.dated("until-rest", "RestBegan")).map(({ until }) => Number(until));
    await exhaustedUntil(short, "until-rest");
    await exhaustedUntil(long, "until-rest", { exclude: [two?.id] });
    // A usage quota that is used up while a lease is open: the lease's end, plus the rest that begins then.
    await wire.open("until-quota", { ...policy, usage: { limit: 2, restMs: 15_000 } }, ["10.4.3.6:80"]);
    const all = await wire.lease("until-quota", { uses: 2, ttlMs: 20_000 });
    await exhaustedUntil(all.expiresAt + 15_000, "until-quota");
  });

  test("a proxy is available at retryAfterMs, and not before", async () => {
    await wire.open("punctual", { ...lax, marginMs: 20, rate: { limit: 1, windowMs: 1000 } }, ["10.4.3.7:80"]);
    const { leaseId } = await wire.lease("punctual");
    // Sent at once, and decided one after the other.
    const { answer, from, to } = await wire.timed("punctual", () =>
      Promise.all([
        wire.report("punctual", { leaseId, status: 200 }),
        wire.refused("lease", "punctual", {}, "pool-exhausted"),
      ]),
    );
    const [, refusal] = answer;
    const next = await wire.lease("punctual", { waitMs: 60_000 });
    const [use] = await wire.dated("punctual", "UseReported");
    const due = (use?.at ?? 0) + 1000 + 20 + 1;
    expect(refusal.retryAfterMs).toBeGreaterThanOrEqual(due - to);
    expect(refusal.retryAfterMs).toBeLessThanOrEqual(due - from);
    expect(next.grantedAt).toBeGreaterThanOrEqual(due);
    // Granted by the pool's own timer, long before any request's wait was over.
    expect(next.grantedAt).toBeLessThan(due + 10_000);
  });
});

describe("requestId", () => {
  test("gives the same lease for the same id, and grants nothing more", async () => {
    await wire.open("again", lax, ["10.4.4.1:80", "10.4.4.2:80"]);
    const request = { requestId: randomUUID(), uses: 3, labels: {}, holder: "h" };
    const lease = await wire.lease("again", request);
    await wire.untilPast("again", lease.grantedAt + 100);
    await wire.changesNothing("again", async () => {
      const { answer, from, to } = await wire.timed("again", () => wire.lease("again", request));
      const { leftMs, ...again } = answer;
      expect({ ...again, leftMs: lease.leftMs }).toEqual(lease);
      // Counted from its own arrival.
      expect(leftMs).toBeLessThanOrEqual(lease.expiresAt - from);
      expect(leftMs).toBeGreaterThanOrEqual(lease.expiresAt - to);
      expect(leftMs).toBeLessThan(90_000 - 100);
      // The waiting time is not part of the request that must be the same.
      expect((await wire.lease("again", { ...request, waitMs: 500 })).leaseId).toBe(lease.leaseId);
    });
    expect(await wire.stats("again")).toMatchObject({ leases: { open: 1, granted: 1 } });
  });

  test("gives one lease to many simultaneous requests", async () => {
    await wire.open("storm", lax, ["10.4.4.3:80", "10.4.4.4:80"]);
    const requestId = randomUUID();
    const leases = await Promise.all(Array.from({ length: 20 }, () => wire.lease("storm", { requestId })));
    expect(new Set(leases.map(({ leaseId }) => leaseId)).size).toBe(1);
    expect(await wire.stats("storm")).toMatchObject({ leases: { granted: 1 } });
  });

  test.each([
    { uses: 3 },
    { minUses: 2, uses: 2 },
    { ttlMs: 1234 },
    { labels: { a: "b" } },
    { schemes: ["socks5"] },
    { exclude: ["p_0123456789abcdef"] },
    { holder: "another" },
  ])("refuses the same id with a different request (%o)", async (other) => {
    await wire.ok("pool.open", "different", { policy: lax });
    await wire.ok("proxies.add", "different", { proxies: ["10.4.4.5:80"] });
    const requestId = randomUUID();
    await wire.lease("different", { requestId, uses: 2 });
    await wire.changesNothing("different", async () => {
      const refusal = await wire.refused("lease", "different", { requestId, uses: 2, ...other }, "invalid-request");
      expect(refusal.field).toBe("requestId");
    });
  });

  test("is free for another request when its lease has ended", async () => {
    await wire.open("reused", lax, ["10.4.4.6:80"]);
    const requestId = randomUUID();
    const first = await wire.lease("reused", { requestId });
    await wire.ok("release", "reused", { leaseId: first.leaseId });
    const second = await wire.lease("reused", { requestId, uses: 2 });
    expect(second.leaseId).not.toBe(first.leaseId);
    expect(second).toMatchObject({ requestId, uses: 2 });
  });

  test("accepts any characters", async () => {
    await wire.open("characters", lax, ["10.4.4.8:80"]);
    for (const requestId of ["job 42, attempt 00001", "ünïque-ïdentifïer-1"]) {
      expect(await wire.lease("characters", { requestId })).toMatchObject({ requestId });
    }
  });

  test("accepts 16 to 128 characters", async () => {
    await wire.open("length", lax, ["10.4.4.7:80"]);
    for (const length of [16, 128]) {
      expect((await wire.lease("length", { requestId: "x".repeat(length) })).requestId).toHaveLength(length);
    }
    await wire.changesNothing("length", async () => {
      for (const requestId of ["", "x".repeat(15), "x".repeat(129), 5, ["x".repeat(20)]]) {
        expect((await wire.refused("lease", "length", { requestId }, "invalid-request")).field).toMatch(/^requestId/);
      }
    });
  });
});

describe("count", () => {
  beforeAll(() =>
    wire.open("several", { ...lax, rate: { limit: 2, windowMs: minute } }, ["10.4.9.1:80", "10.4.9.2:80"]),
  );

  test("grants as many leases as can be had at once, in one reply, and the same ones to the same request", async () => {
    const request = { count: 3, requestId: randomUUID() };
    const { leases } = await wire.ok<{ leases: Lease[] }>("lease", "several", request);
    expect(leases.map(({ host }) => host).sort()).toEqual(["10.4.9.1", "10.4.9.2"]);
    expect(await wire.ok("lease", "several", { ...request, requestId: request.requestId })).toMatchObject({
      leases: leases.map(({ leaseId }) => ({ leaseId })),
    });
    expect(await wire.ok("lease", "several", { count: 1 })).toMatchObject({ leases: [{ pool: "several" }] });
    expect(await wire.ok("lease", "several", {})).toHaveProperty("leaseId");
    expect(await wire.refused("lease", "several", { count: 2 }, "pool-exhausted")).toMatchObject({
      limitedBy: { rate: 2 },
    });
  });

  test("rejects a count that is out of range, and one with which a commit would record too much", async () => {
    for (const count of [0, 101]) {
      const refusal = await wire.refused("lease", "several", { count }, "invalid-request");
      expect(refusal).toMatchObject({ field: "count" });
    }
    const exclude = Array.from({ length: 101 }, (_, i) => `p_${String(i).padStart(16, "0")}`);
    const refusal = await wire.refused("lease", "several", { count: 100, exclude }, "invalid-request");
    expect(refusal).toMatchObject({ field: "count" });
  });

  test("answers a request that waits with the first lease that can be had", async () => {
    await wire.open("awaited", { ...lax, concurrency: 1 }, ["10.4.9.3:80", "10.4.9.4:80"]);
    const { leases } = await wire.ok<{ leases: Lease[] }>("lease", "awaited", { count: 2 });
    const waiting = wire.ok<{ leases: Lease[] }>("lease", "awaited", { count: 2, waitMs: 20_000 });
    await wire.ok("release", "awaited", { leaseId: leases[0]?.leaseId });
    expect((await waiting).leases.map(({ proxyId }) => proxyId)).toEqual([leases[0]?.proxyId]);
  });
});
