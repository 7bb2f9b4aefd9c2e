// Leases on the wire: the lease itself, renew, list. Protocol §1.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Lease, lax, type Released, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const unknownLease = "l_0123456789012345678901";
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
      await wire.refused("renew", "unrenewed", { leaseId: unknownLease }, "unknown-lease");
      const over = { leaseId: lease.leaseId, ttlMs: 3_600_001 };
      const refusal = await wire.refused("renew", "unrenewed", over, "invalid-request");
      expect(refusal).toMatchObject({ field: "ttlMs", message: expect.stringContaining("3600000") });
    });
    await wire.ok("release", "unrenewed", { leaseId: lease.leaseId });
    await wire.refused("renew", "unrenewed", { leaseId: lease.leaseId }, "unknown-lease");
  });
});

describe("leases.list", () => {
  type Page = { leases: (Lease & { holder?: string })[]; next?: string };
  const list = (pool: string, body: object = {}) => wire.ok<Page>("leases.list", pool, body);

  test("lists open leases without url and login, by holder, by proxy, in pages", async () => {
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
      expect(listed).toMatchObject({ ...rest, username: "…" });
      expect(listed.leftMs).toBeLessThanOrEqual(90_000);
    }
    expect((await list("held-by", { holder: "ann" })).leases).toHaveLength(3);
    expect((await list("held-by", { holder: "unknown" })).leases).toEqual([]);
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
