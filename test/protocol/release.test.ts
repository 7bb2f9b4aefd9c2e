// Releasing a lease on the wire. Protocol §1.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lax, type Released, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const unknownLease = "l_0123456789012345678901";
const minute = 60_000;

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
      await wire.refused("release", "here", { leaseId: unknownLease }, "unknown-lease");
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
