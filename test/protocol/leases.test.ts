// Leases on the wire: the request and its answer, requestId, renew, release, list. Protocol §1.

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Lease, lax, type Released, startWire, type Wire } from "./wire.ts";

let wire: Wire;
beforeAll(async () => {
  wire = await startWire();
});
afterAll(() => wire.stop());

const nobodys = "l_0123456789012345678901";
const minute = 60_000;

describe("a lease", () => {
  test("has exactly the fields of the contract", async () => {
    await wire.open("plain", lax, ["10.4.0.1:8080"]);
    const proxy = await wire.proxyAt("plain", "10.4.0.1");
    const { answer: lease, from, to } = await wire.timed("plain", () => wire.lease("plain"));
    expect(lease).toEqual({
      leaseId: expect.stringMatching(/^l_.{20,}$/),
      pool: "plain",
      proxyId: proxy.id,
      url: "http://10.4.0.1:8080",
      scheme: "http",
      host: "10.4.0.1",
      port: 8080,
      uses: 1,
      epoch: 0,
      grantedAt: expect.any(Number),
      expiresAt: lease.grantedAt + 90_000,
      leftMs: expect.any(Number),
      labels: {},
    });
    expect(Number.isInteger(lease.grantedAt)).toBe(true);
    expect(lease.grantedAt).toBeGreaterThanOrEqual(from);
    expect(lease.grantedAt).toBeLessThanOrEqual(to);
    // Counted from the arrival of the request, which is before the grant.
    expect(lease.leftMs).toBeGreaterThanOrEqual(90_000);
    expect(lease.leftMs).toBeLessThanOrEqual(lease.expiresAt - from);
  });

  test("returns the requested fields, and puts percent-encoded credentials into the url", async () => {
    const username = "ann@home";
    const password = "p:a/s%s?#&";
    const login = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`;
    await wire.open("login", lax, [{ url: `https://${login}@10.4.0.2:3128`, labels: { country: "DE" } }]);
    const requestId = randomUUID();
    const lease = await wire.lease("login", { requestId, uses: 7, ttlMs: 5000, holder: "worker 1" });
    expect(Object.keys(lease).sort()).toEqual(
      [
        ...["leaseId", "pool", "proxyId", "url", "scheme", "host", "port", "username", "password", "uses", "epoch"],
        ...["grantedAt", "expiresAt", "leftMs", "labels", "requestId"],
      ].sort(),
    );
    expect(lease).toMatchObject({
      url: `https://${login}@10.4.0.2:3128`,
      scheme: "https",
      username,
      password,
      uses: 7,
      expiresAt: lease.grantedAt + 5000,
      labels: { country: "DE" },
      requestId,
    });
    const { username: inUrl, password: secret } = new URL(lease.url);
    expect([decodeURIComponent(inUrl), decodeURIComponent(secret)]).toEqual([username, password]);
  });

  test("has an unguessable id: two ids share only their prefix", async () => {
    await wire.open("ids", lax, ["10.4.0.3:80"]);
    const leases = await Promise.all(Array.from({ length: 50 }, () => wire.lease("ids")));
    expect(new Set(leases.map(({ leaseId }) => leaseId.slice(2, 12))).size).toBe(50);
  });

  test("grants the smaller of the requested and the available uses, and never fewer than minUses", async () => {
    await wire.open("blocks", { ...lax, rate: { limit: 10, windowMs: minute } }, ["10.4.0.4:80"]);
    expect((await wire.lease("blocks", { uses: 7 })).uses).toBe(7);
    const refusal = await wire.refused("lease", "blocks", { uses: 7, minUses: 4 }, "pool-exhausted");
    expect(refusal.limitedBy?.rate).toBe(1);
    expect((await wire.lease("blocks", { uses: 7, minUses: 3 })).uses).toBe(3);
    await wire.refused("lease", "blocks", {}, "pool-exhausted");
  });

  test("expires if it is not renewed in time, and then all its uses count as made", async () => {
    await wire.open("brief", { ...lax, lease: { graceMs: 0 }, rate: { limit: 5, windowMs: minute } }, ["10.4.0.5:80"]);
    const lease = await wire.lease("brief", { uses: 3, ttlMs: 50 });
    await eventually(async () => {
      expect((await wire.stats("brief")).leases).toEqual({ open: 0, granted: 1, expired: 1 });
    });
    expect(await wire.get("brief", lease.proxyId)).toMatchObject({
      state: "available",
      usesInWindow: 3,
      usesSinceRest: 3,
      totals: { granted: 3, unreported: 3 },
    });
    await wire.refused("renew", "brief", { leaseId: lease.leaseId }, "unknown-lease");
    const released = { leaseId: lease.leaseId, used: 3, returned: 0 };
    expect(await wire.ok<Released>("release", "brief", { leaseId: lease.leaseId, used: 1 })).toEqual(released);
  });
});

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
      for (const requestId of ["", "x".repeat(15), "x".repeat(129), 5, null, ["x".repeat(20)]]) {
        expect((await wire.refused("lease", "length", { requestId }, "invalid-request")).field).toMatch(/^requestId/);
      }
    });
  });
});

describe("renew", () => {
  test("returns the lease with its new end, and never an earlier one", async () => {
    await wire.open("renewing", lax, ["http://ann:hush@10.4.5.1:80"]);
    const lease = await wire.lease("renewing", { ttlMs: 30_000, uses: 2, requestId: randomUUID() });
    const { leaseId } = lease;
    const longer = await wire.timed("renewing", () => wire.ok<Lease>("renew", "renewing", { leaseId, ttlMs: 50_000 }));
    const { answer: renewed, from, to } = longer;
    expect({ ...renewed, expiresAt: lease.expiresAt, leftMs: lease.leftMs }).toEqual(lease);
    expect(renewed.expiresAt).toBeGreaterThanOrEqual(from + 50_000);
    expect(renewed.expiresAt).toBeLessThanOrEqual(to + 50_000);
    expect(renewed.leftMs).toBeGreaterThanOrEqual(50_000);
    expect(renewed.leftMs).toBeLessThanOrEqual(renewed.expiresAt - from);
    const shorter = await wire.ok<Lease>("renew", "renewing", { leaseId, ttlMs: 100 });
    expect(shorter.expiresAt).toBe(renewed.expiresAt);
    const byDefault = await wire.ok<Lease>("renew", "renewing", { leaseId });
    expect(byDefault.expiresAt).toBeGreaterThanOrEqual(to + 90_000);
  });

  test("keeps a renewed lease open past its first end", async () => {
    await wire.open("living", lax, ["10.4.5.2:80"]);
    const renewedOne = await wire.lease("living", { ttlMs: 2000 });
    const other = await wire.lease("living", { ttlMs: 1 });
    await wire.ok("renew", "living", { leaseId: renewedOne.leaseId, ttlMs: 20_000 });
    await eventually(async () => expect((await wire.stats("living")).leases.expired).toBe(1));
    await wire.refused("renew", "living", { leaseId: other.leaseId }, "unknown-lease");
    await wire.untilPast("living", renewedOne.expiresAt);
    expect((await wire.stats("living")).leases).toEqual({ open: 1, granted: 2, expired: 1 });
    await wire.ok("renew", "living", { leaseId: renewedOne.leaseId });
  });

  test("answers unknown-lease for an unknown or ended lease; refuses a ttl above the maximum, with the bound", async () => {
    await wire.open("unrenewed", lax, ["10.4.5.3:80"]);
    const lease = await wire.lease("unrenewed");
    await wire.changesNothing("unrenewed", async () => {
      await wire.refused("renew", "unrenewed", { leaseId: nobodys }, "unknown-lease");
      const over = { leaseId: lease.leaseId, ttlMs: 3_600_001 };
      const refusal = await wire.refused("renew", "unrenewed", over, "invalid-request");
      expect(refusal).toMatchObject({ field: "ttlMs", message: expect.stringContaining("3600000") });
    });
    await wire.ok("release", "unrenewed", { leaseId: lease.leaseId });
    await wire.refused("renew", "unrenewed", { leaseId: lease.leaseId }, "unknown-lease");
  });
});

describe("release", () => {
  const policy = { ...lax, rate: { limit: 100, windowMs: minute }, usage: { limit: 500, restMs: minute } };

  test("counts all uses as made unless fewer are named, and returns the remainder", async () => {
    await wire.open("releasing", policy, ["10.4.6.1:80"]);
    const all = await wire.lease("releasing", { uses: 5 });
    expect(await wire.ok<Released>("release", "releasing", { leaseId: all.leaseId })).toEqual({
      leaseId: all.leaseId,
      used: 5,
      returned: 0,
    });
    expect(await wire.get("releasing", all.proxyId)).toMatchObject({
      usesInWindow: 5,
      usesSinceRest: 5,
      openLeases: 0,
    });
    const some = await wire.lease("releasing", { uses: 5 });
    expect(await wire.ok<Released>("release", "releasing", { leaseId: some.leaseId, used: 2 })).toEqual({
      leaseId: some.leaseId,
      used: 2,
      returned: 3,
    });
    expect(await wire.get("releasing", all.proxyId)).toMatchObject({
      usesInWindow: 7,
      usesSinceRest: 7,
      totals: { unreported: 7 },
    });
    const none = await wire.lease("releasing", { uses: 5 });
    expect(await wire.ok<Released>("release", "releasing", { leaseId: none.leaseId, used: 0 })).toEqual({
      leaseId: none.leaseId,
      used: 0,
      returned: 5,
    });
    expect(await wire.get("releasing", all.proxyId)).toMatchObject({ usesInWindow: 7, usesSinceRest: 7 });
  });

  test("refuses fewer uses than the highest one reported and more than granted; the lease stays open", async () => {
    await wire.open("bounded", policy, ["10.4.6.2:80"]);
    const { leaseId } = await wire.lease("bounded", { uses: 5 });
    await wire.report("bounded", { leaseId, n: 3, status: 200 });
    await wire.changesNothing("bounded", async () => {
      for (const used of [0, 2, 6, -1, 1.5, "3"]) {
        expect((await wire.refused("release", "bounded", { leaseId, used }, "invalid-request")).field).toBe("used");
      }
    });
    expect(await wire.ok<Released>("release", "bounded", { leaseId, used: 3 })).toEqual({
      leaseId,
      used: 3,
      returned: 2,
    });
  });

  test("gives the same reply when released again, whatever the second request says", async () => {
    await wire.open("repeated", policy, ["10.4.6.3:80"]);
    const { leaseId } = await wire.lease("repeated", { uses: 5 });
    const first = await wire.ok<Released>("release", "repeated", { leaseId, used: 2 });
    await wire.changesNothing("repeated", async () => {
      for (const body of [{ leaseId, used: 2 }, { leaseId }, { leaseId, used: 5 }]) {
        expect(await wire.ok<Released>("release", "repeated", body)).toEqual(first);
      }
    });
  });

  test("releases a lease that its reports have closed, with its count of used uses", async () => {
    await wire.open("completed", policy, ["10.4.6.4:80"]);
    const { leaseId } = await wire.lease("completed", { uses: 5 });
    await wire.report("completed", { leaseId, n: 2, status: 200, final: true });
    expect(await wire.ok<Released>("release", "completed", { leaseId })).toEqual({ leaseId, used: 2, returned: 3 });
  });

  test("an unknown lease is unknown-lease, as is one of another pool", async () => {
    await wire.open("here", lax, ["10.4.6.5:80"]);
    await wire.open("there", lax, ["10.4.6.5:80"]);
    const { leaseId } = await wire.lease("here");
    await wire.changesNothing("here", async () => {
      await wire.refused("release", "here", { leaseId: nobodys }, "unknown-lease");
      await wire.refused("release", "there", { leaseId }, "unknown-lease");
      await wire.refused("renew", "there", { leaseId }, "unknown-lease");
    });
  });

  test("a usage rest begins when the quota is used up and no lease is open; returned uses do not count", async () => {
    await wire.open("quota", { ...lax, usage: { limit: 4, restMs: minute } }, ["10.4.6.6:80"]);
    const first = await wire.lease("quota", { uses: 3 });
    const second = await wire.lease("quota", { uses: 3 });
    expect(second.uses).toBe(1);
    await wire.ok("release", "quota", { leaseId: first.leaseId, used: 2 });
    await wire.ok("release", "quota", { leaseId: second.leaseId });
    expect(await wire.get("quota", first.proxyId)).toMatchObject({ state: "available", usesSinceRest: 3 });
    const last = await wire.lease("quota", { uses: 3 });
    expect(last.uses).toBe(1);
    expect((await wire.get("quota", first.proxyId)).state).toBe("in-use");
    await wire.ok("release", "quota", { leaseId: last.leaseId });
    const rested = await wire.get("quota", first.proxyId);
    expect(rested).toMatchObject({ state: "exhausted", reasons: ["usage"], usesSinceRest: 0, epoch: 1 });
  });
});

describe("leases.list", () => {
  type Page = { leases: (Lease & { holder?: string })[]; next?: string };
  const list = (pool: string, body: object = {}) => wire.ok<Page>("leases.list", pool, body);

  test("lists open leases without url and password, by holder, by proxy, in pages", async () => {
    await wire.open("held-by", lax, ["http://ann:hush@10.4.7.1:80", "http://ann:hush@10.4.7.2:80"]);
    const leases = [];
    for (let n = 0; n < 7; n++) leases.push(await wire.lease("held-by", { holder: n < 3 ? "ann" : "bob", uses: 2 }));
    const closed = await wire.lease("held-by", { holder: "ann" });
    await wire.ok("release", "held-by", { leaseId: closed.leaseId });
    const message = await wire.ask("leases.list", "held-by", {});
    expect(message.body).not.toContain("hush");
    expect(message.body).not.toContain('"url"');
    const all = await list("held-by");
    expect(all).not.toHaveProperty("next");
    expect(all.leases.map(({ leaseId }) => leaseId)).toEqual(leases.map(({ leaseId }) => leaseId).sort());
    for (const listed of all.leases) {
      const lease = leases.find(({ leaseId }) => leaseId === listed.leaseId);
      const { url: _, password: __, leftMs: ___, ...rest } = lease as Lease;
      expect(listed).toMatchObject(rest);
      expect(listed.leftMs).toBeLessThanOrEqual(90_000);
    }
    expect((await list("held-by", { holder: "ann" })).leases).toHaveLength(3);
    expect((await list("held-by", { holder: "nobody" })).leases).toEqual([]);
    const [first] = leases;
    const ofProxy = leases.filter(({ proxyId }) => proxyId === first?.proxyId);
    expect((await list("held-by", { proxyId: first?.proxyId })).leases).toHaveLength(ofProxy.length);
    const paged: string[] = [];
    for (let after: string | undefined; ; ) {
      const page: Page = await list("held-by", { limit: 3, after });
      paged.push(...page.leases.map(({ leaseId }) => leaseId));
      expect(page.leases.length).toBeLessThanOrEqual(3);
      if (page.next === undefined) break;
      after = page.next;
    }
    expect(paged).toEqual(all.leases.map(({ leaseId }) => leaseId));
  });
});
