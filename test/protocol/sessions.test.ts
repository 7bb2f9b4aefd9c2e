// Sessions and caps per holder on the wire. Protocol §1 (`session`, `holder`, `limitedBy`), §7 (`session`, `holder`).

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lax, refusalIn, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const minute = 60_000;
const two = (net: number) => [`10.20.${net}.1:80`, `10.20.${net}.2:80`];
const rotating = { ...lax, strategy: { kind: "round-robin" } };

describe("a session", () => {
  test("gets the same proxy and its own name in each answer, and its leases are listed with the name", async () => {
    await wire.open("same", rotating, two(1));
    const first = await wire.lease("same", { session: "cart 42" });
    expect(first).toMatchObject({ session: "cart 42" });
    const others = [await wire.lease("same"), await wire.lease("same")];
    expect(new Set(others.map(({ proxyId }) => proxyId)).size).toBe(2);
    for (const lease of others) expect(lease).not.toHaveProperty("session");
    for (let n = 0; n < 3; n++) {
      const again = await wire.lease("same", { session: "cart 42" });
      expect(again).toMatchObject({ proxyId: first.proxyId, session: "cart 42" });
      await wire.ok("release", "same", { leaseId: again.leaseId });
    }
    const { leases } = await wire.ok<{ leases: { leaseId: string; session?: string }[] }>("leases.list", "same");
    expect(leases.find(({ leaseId }) => leaseId === first.leaseId)).toMatchObject({ session: "cart 42" });
    const renewed = await wire.ok("renew", "same", { leaseId: first.leaseId });
    expect(renewed).toMatchObject({ session: "cart 42", proxyId: first.proxyId });
    const granted = (await wire.events("same")).find(({ type }) => type === "LeaseGranted");
    expect(granted).toMatchObject({ proxyId: first.proxyId, request: { session: "cart 42" } });
  });

  test("whose proxy is busy is refused with the limit that holds it back, or waits and gets that very proxy", async () => {
    await wire.open("busy", { ...rotating, concurrency: 1 }, two(2));
    const first = await wire.lease("busy", { session: "s", ttlMs: minute });
    const refusal = await wire.refusedUntil(first.expiresAt, "lease", "busy", { session: "s" }, "pool-exhausted");
    expect(refusal.limitedBy).toEqual({ rate: 0, concurrency: 1, usage: 0, rest: 0, exclude: 0, session: 1 });
    const waiting = wire.lease("busy", { session: "s", waitMs: minute });
    await wire.untilWaiting("busy", 1);
    await wire.lease("busy"); // The other proxy is granted: a request that waits for its own proxy blocks no other.
    await wire.ok("release", "busy", { leaseId: first.leaseId });
    expect((await waiting).proxyId).toBe(first.proxyId);
  });

  test("is rebound when its proxy rests for longer than its patience or is retired, and stays with the new one", async () => {
    await wire.open("anew", { ...rotating, session: { patienceMs: minute } }, [...two(3), "10.20.3.3:80"]);
    const first = await wire.lease("anew", { session: "s" });
    await wire.ok("proxies.rest", "anew", { ids: [first.proxyId], forMs: minute });
    const { until = 0 } = await wire.get("anew", first.proxyId);
    const refusal = await wire.refusedUntil(until, "lease", "anew", { session: "s" }, "pool-exhausted");
    expect(refusal.limitedBy).toMatchObject({ rest: 1, session: 2 });
    await wire.ok("proxies.rest", "anew", { ids: [first.proxyId], forMs: 3 * minute });
    const second = await wire.lease("anew", { session: "s" });
    expect(second.proxyId).not.toBe(first.proxyId);
    await wire.ok("proxies.revive", "anew", { ids: [first.proxyId] });
    expect((await wire.lease("anew", { session: "s" })).proxyId).toBe(second.proxyId);
    await wire.ok("proxies.retire", "anew", { ids: [second.proxyId] });
    expect((await wire.lease("anew", { session: "s" })).proxyId).not.toBe(second.proxyId);
  });

  test("gives way to the labels and excluded proxies of the request itself", async () => {
    await wire.open("explicit", lax, [
      { url: "10.20.4.1:80", labels: { country: "DE" } },
      { url: "10.20.4.2:80", labels: { country: "FR" } },
    ]);
    const first = await wire.lease("explicit", { session: "s", labels: { country: "DE" } });
    expect(first.host).toBe("10.20.4.1");
    const second = await wire.lease("explicit", { session: "s", labels: { country: "FR" } });
    expect(second.host).toBe("10.20.4.2");
    const third = await wire.lease("explicit", { session: "s", exclude: [second.proxyId] });
    expect(third.host).toBe("10.20.4.1");
  });

  test("is forgotten ttlMs after its last lease, without an event of its own", async () => {
    await wire.open("short-session", { ...rotating, session: { ttlMs: 300 } }, two(5));
    const first = await wire.lease("short-session", { session: "s" });
    await wire.ok("release", "short-session", { leaseId: first.leaseId });
    const types = (await wire.events("short-session")).map(({ type }) => type);
    const { at: releasedBy } = await wire.stats("short-session");
    await wire.untilPast("short-session", releasedBy + 300);
    expect((await wire.events("short-session")).map(({ type }) => type)).toEqual(types);
    expect((await wire.lease("short-session", { session: "s" })).proxyId).not.toBe(first.proxyId);
  });

  test("over session.max gets overloaded while all sessions are in use", async () => {
    await wire.open("full", { ...lax, session: { max: 1 } }, two(6));
    const first = await wire.lease("full", { session: "one" });
    await wire.refused("lease", "full", { session: "two" }, "overloaded");
    await wire.lease("full");
    await wire.ok("release", "full", { leaseId: first.leaseId });
    expect(await wire.lease("full", { session: "two" })).toMatchObject({ session: "two" });
  });

  test("must have the same name in a repeated requestId", async () => {
    await wire.open("request", lax, two(7));
    const requestId = randomUUID();
    const lease = await wire.lease("request", { requestId, session: "s" });
    expect((await wire.lease("request", { requestId, session: "s" })).leaseId).toBe(lease.leaseId);
    const refusal = await wire.refused("lease", "request", { requestId, session: "t" }, "invalid-request");
    expect(refusal.field).toBe("requestId");
  });

  test.each([
    ["session", ""],
    ["session", "x".repeat(129)],
    ["session", "two\nlines"],
    ["session", 7],
    ["holder", ""],
    ["holder", "x".repeat(129)],
  ])("a %s of %j is an invalid request that names the field", async (field, name) => {
    await wire.ok("pool.open", "names");
    const refusal = await wire.refused("lease", "names", { [field]: name }, "invalid-request");
    expect(refusal.field).toBe(field);
  });
});

describe("a cap per holder", () => {
  test("refuses the lease that would exceed it, and only to that holder", async () => {
    await wire.open("capped", { ...lax, holder: { leasesMax: 2 } }, two(8));
    const leases = [];
    for (const ttlMs of [minute, 2 * minute]) leases.push(await wire.lease("capped", { holder: "crawler", ttlMs }));
    const [firstEnd = 0] = leases.map(({ expiresAt }) => expiresAt);
    const refusal = await wire.refusedUntil(firstEnd, "lease", "capped", { holder: "crawler" }, "pool-exhausted");
    expect(refusal.limitedBy).toEqual({
      rate: 0,
      concurrency: 0,
      usage: 0,
      rest: 0,
      exclude: 0,
      session: 0,
      holder: 2,
    });
    expect(refusal.message).toContain("holder.leasesMax");
    await wire.lease("capped", { holder: "other" });
    await wire.lease("capped");
    await wire.ok("release", "capped", { leaseId: leases[0]?.leaseId });
    await wire.lease("capped", { holder: "crawler" });
  });

  test("makes a lease request wait until a lease of its holder ends, and does not block those behind it", async () => {
    await wire.open("patient", { ...lax, holder: { leasesMax: 1 } }, two(9));
    const first = await wire.lease("patient", { holder: "crawler" });
    const waiting = wire.lease("patient", { holder: "crawler", waitMs: minute });
    await wire.untilWaiting("patient", 1);
    const order: string[] = [];
    const brief = wire
      .ask("lease", "patient", { holder: "crawler", waitMs: 500 })
      .finally(() => order.push("short-session"));
    // Sent after both, and served while they wait.
    await wire.lease("patient", { waitMs: minute }).finally(() => order.push("another's"));
    expect(refusalIn(await brief, "pool-exhausted").limitedBy).toMatchObject({ holder: 2 });
    expect(order).toEqual(["another's", "short-session"]);
    await wire.report("patient", { leaseId: first.leaseId, status: 200 });
    expect((await waiting).leaseId).not.toBe(first.leaseId);
  });
});
