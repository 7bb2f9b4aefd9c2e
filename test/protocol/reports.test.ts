// Outcomes that are sent as a report: which are counted, and which are ignored. Protocol §2.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Lease, type Released, type SharedWire, sharedWire, windows } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const unknownLease = "l_0123456789012345678901";

const proxyOf = ({ pool, proxyId }: Lease) => wire.get(pool, proxyId);

describe("a report", () => {
  test("accepts it once it is in the ledger, and counts it for score, totals and lease", async () => {
    const lease = await wire.leased("reported", "10.6.0.1", { uses: 3 });
    const { leaseId } = lease;
    const reply = await wire.report(
      "reported",
      {
        leaseId,
        n: 1,
        status: 200,
        latencyMs: 12.5,
        bytes: 100,
        target: "https://ann:hush@shop.example.com:8443/x?key=hush",
      },
      { leaseId, n: 2, result: "failure", reason: "timeout" },
    );
    expect(reply).toEqual({ accepted: 2, ignored: [], ignoredCount: 0, stop: [] });
    expect(await proxyOf(lease)).toMatchObject({
      state: "in-use",
      score: 0,
      streak: 1,
      openLeases: 1,
      totals: { granted: 3, succeeded: 1, failed: 1, neutral: 0, unreported: 0 },
    });
    const uses = await wire.dated("reported", "UseReported");
    expect(uses).toMatchObject([
      { leaseId, proxyId: lease.proxyId, n: 1, result: "success", status: 200, target: "shop.example.com" },
      { leaseId, proxyId: lease.proxyId, n: 2, result: "failure" },
    ]);
    for (const { storedAt, at } of uses) expect(storedAt).toBe(at); // It is stored with the commit that ingests it.
    expect(await wire.report("reported", { leaseId, n: 3, status: 200 })).toMatchObject({ accepted: 1 });
    expect(await proxyOf(lease)).toMatchObject({ state: "available", openLeases: 0, score: 1, streak: 0 });
  });

  test.each<[object, "succeeded" | "failed" | "neutral", string]>([
    [{ result: "success" }, "succeeded", "success"],
    [{ result: "failure" }, "failed", "proxy-error"],
    [{ status: 200 }, "succeeded", "success"],
    [{ status: 204 }, "succeeded", "success"],
    [{ status: 301 }, "succeeded", "success"],
    [{ status: 404 }, "succeeded", "success"],
    [{ status: 401 }, "failed", "blocked"],
    [{ status: 403 }, "failed", "blocked"],
    [{ status: 451 }, "failed", "blocked"],
    [{ status: 407 }, "failed", "proxy-auth"],
    [{ status: 429 }, "failed", "throttled"],
    [{ status: 500 }, "neutral", "target-error"],
    [{ status: 503 }, "neutral", "target-error"],
    [{ error: "ECONNREFUSED" }, "failed", "unreachable"],
    [{ error: "ETIMEDOUT" }, "failed", "timeout"],
    [{ result: "failure", reason: "unreachable" }, "failed", "unreachable"],
    [{ result: "failure", reason: "blocked", status: 200 }, "failed", "blocked"],
    [{ result: "failure", reason: "target-error" }, "neutral", "target-error"],
    [{ result: "failure", reason: "client-abort" }, "neutral", "client-abort"],
    [{ status: 401, tokenRejected: true }, "succeeded", "success"],
  ])("%o counts as %s", async (outcome, counted, kind) => {
    await wire.ok("pool.open", "classes", { policy: windows });
    await wire.ok("proxies.add", "classes", { proxies: ["10.6.0.2:80"] });
    const lease = await wire.lease("classes");
    const before = await proxyOf(lease);
    expect(await wire.report("classes", { leaseId: lease.leaseId, ...outcome })).toMatchObject({ accepted: 1 });
    const after = await proxyOf(lease);
    expect(after.totals[counted]).toBe(before.totals[counted] + 1);
    const change = counted === "succeeded" ? 1 : counted === "failed" ? -1 : 0;
    expect(after.score).toBe(before.score + change);
    expect(after.streak).toBe(counted === "succeeded" ? 0 : counted === "failed" ? before.streak + 1 : before.streak);
    expect((await wire.events("classes")).findLast(({ type }) => type === "UseReported")).toMatchObject({
      class: kind,
    });
  });

  test("names each ignored outcome with its reason, and counts the others", async () => {
    const { leaseId } = await wire.leased("ignored", "10.6.0.3", { uses: 5 });
    const reply = await wire.report(
      "ignored",
      { leaseId: unknownLease, n: 4, status: 200 },
      { leaseId, status: 200 },
      { leaseId, n: 1, status: 200 },
      { leaseId, n: 1, status: 500 },
      { leaseId, n: 2 },
      { leaseId, n: 0, status: 200 },
      { leaseId, n: 2, status: "200" },
      { leaseId, n: 2, result: "maybe" },
      { leaseId: 5, n: 2, status: 200 },
      "garbage",
      null,
      [],
      { leaseId, n: 2, status: 200 },
    );
    expect(reply.accepted).toBe(2);
    expect(reply.ignored).toEqual([
      { leaseId: unknownLease, n: 4, why: "unknown-lease", field: "leaseId" },
      { leaseId, n: expect.any(Number), why: "n-missing", field: "n" },
      { leaseId, n: 1, why: "duplicate" },
      { leaseId, n: 2, why: "no-result", field: "result" },
      ...["n", "status", "result", "leaseId"].map((field) => expect.objectContaining({ why: "unreadable", field })),
      ...Array.from({ length: 3 }, () => ({ leaseId: "", n: 0, why: "unreadable" })),
    ]);
    expect((await wire.stats("ignored")).outcomes).toEqual({ succeeded: 2, failed: 0, neutral: 0, ignored: 11 });
    const ignored = (await wire.events("ignored")).filter(({ type }) => type === "OutcomesIgnored");
    expect(ignored.reduce((sum, { count }) => sum + Number(count), 0)).toBe(11);
    expect(ignored.map(({ why }) => why)).toEqual(expect.arrayContaining(["unknown-lease", "n-missing", "duplicate"]));
  });

  test("needs no n for a lease of one use; a lease of several uses stays open without n", async () => {
    const single = await wire.leased("single", "10.6.0.4");
    expect(await wire.report("single", { leaseId: single.leaseId, status: 200 })).toMatchObject({ accepted: 1 });
    expect((await proxyOf(single)).openLeases).toBe(0);
    const block = await wire.lease("single", { uses: 2 });
    expect(await wire.report("single", { leaseId: block.leaseId, status: 200 })).toMatchObject({
      accepted: 0,
      ignored: [{ leaseId: block.leaseId, why: "n-missing" }],
    });
    expect((await proxyOf(block)).openLeases).toBe(1);
  });

  test("final closes the lease, sets used to the highest n, and returns the remainder", async () => {
    const lease = await wire.leased("final", "10.6.0.5", { uses: 10 });
    const { leaseId } = lease;
    await wire.report("final", { leaseId, n: 2, status: 200 });
    await wire.report("final", { leaseId, n: 4, status: 200, final: true });
    expect(await proxyOf(lease)).toMatchObject({ openLeases: 0, usesInWindow: 4, usesSinceRest: 4 });
    expect((await proxyOf(lease)).totals).toMatchObject({ granted: 10, succeeded: 2, unreported: 2 });
    const closed = (await wire.events("final")).filter(({ type }) => type === "LeaseClosed");
    expect(closed).toMatchObject([{ leaseId, how: "completed", used: 4 }]);
    expect(await wire.ok<Released>("release", "final", { leaseId })).toEqual({ leaseId, used: 4, returned: 6 });
  });

  test("counts an n above the uses against the limits", async () => {
    const lease = await wire.leased("over", "10.6.0.6", { uses: 2 });
    const { leaseId } = lease;
    expect(await wire.report("over", ...[1, 2, 3, 4].map((n) => ({ leaseId, n, status: 200 })))).toMatchObject({
      accepted: 4,
      ignored: [],
    });
    expect(await proxyOf(lease)).toMatchObject({ openLeases: 0, usesInWindow: 4, usesSinceRest: 4, score: 4 });
  });

  test("counts a use that was returned and is reported later against the limits", async () => {
    const lease = await wire.leased("sneaky", "10.6.0.7", { uses: 5 });
    const { leaseId } = lease;
    await wire.ok("release", "sneaky", { leaseId, used: 2 });
    expect(await proxyOf(lease)).toMatchObject({ usesInWindow: 2, usesSinceRest: 2 });
    expect(await wire.report("sneaky", { leaseId, n: 5, status: 200 })).toMatchObject({ accepted: 1 });
    expect(await proxyOf(lease)).toMatchObject({ usesInWindow: 3, usesSinceRest: 3 });
  });

  test("counts one after the lease's end and grace as a result, not as a new use", async () => {
    const lease = await wire.leased("late", "10.6.0.8", { uses: 3, ttlMs: 50 }, { ...windows, lease: { graceMs: 0 } });
    const { leaseId } = lease;
    await eventually(async () => expect((await wire.stats("late")).leases.expired).toBe(1));
    await wire.untilPast("late", lease.expiresAt);
    expect((await proxyOf(lease)).totals).toMatchObject({ unreported: 3 });
    expect(await wire.report("late", { leaseId, n: 2, status: 200 })).toEqual({
      accepted: 1,
      ignored: [],
      ignoredCount: 0,
      stop: [],
    });
    expect(await proxyOf(lease)).toMatchObject({
      score: 1,
      usesInWindow: 3,
      usesSinceRest: 3,
      totals: { granted: 3, succeeded: 1, unreported: 2 },
    });
    expect(await wire.report("late", { leaseId, n: 2, status: 200 })).toMatchObject({ accepted: 0 });
  });

  test("accepts an empty report; refuses more than a thousand outcomes as a whole", async () => {
    const lease = await wire.leased("sized", "10.6.0.9", { uses: 1000 });
    const { leaseId } = lease;
    expect(await wire.report("sized")).toEqual({ accepted: 0, ignored: [], ignoredCount: 0, stop: [] });
    const uses = Array.from({ length: 1000 }, (_, index) => ({ leaseId, n: index + 1, status: 200 }));
    await wire.changesNothing("sized", () =>
      wire.refused("report", "sized", { outcomes: [...uses, { leaseId, n: 1001, status: 200 }] }, "invalid-request"),
    );
    expect(await wire.report("sized", ...uses)).toEqual({ accepted: 1000, ignored: [], ignoredCount: 0, stop: [] });
    expect(await proxyOf(lease)).toMatchObject({ score: 1000, openLeases: 0 });
  });

  test.each(["constructor", "toString", "__proto__", "hasOwnProperty"])(
    "an error with the unlucky name %s is an outcome like any other",
    async (error) => {
      const pool = `unlucky-${error.toLowerCase().replaceAll("_", "")}`;
      const { leaseId } = await wire.leased(pool, "10.6.0.10");
      expect(await wire.report(pool, { leaseId, error })).toMatchObject({ accepted: 1 });
      await wire.lease(pool);
    },
  );
});
