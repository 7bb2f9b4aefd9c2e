// Resting, reviving and retiring proxies on the wire. Protocol §3.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Added, type Changed, lax, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const add = (pool: string, ...proxies: unknown[]) => wire.ok<Added>("proxies.add", pool, { proxies });
const change = (verb: "retire" | "rest" | "revive", pool: string, body: object) =>
  wire.ok<Changed>(`proxies.${verb}`, pool, body);

describe("rest, revive, retire", () => {
  test("a manual rest keeps the proxy from being leased until it ends", async () => {
    await wire.open("resting", lax, ["10.2.6.1:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("resting");
    const rest = { ids: [id], forMs: 60_000, reason: "look" };
    expect(await change("rest", "resting", rest)).toEqual({ changed: 1, unknown: [] });
    const resting = await wire.get("resting", id);
    expect(resting).toMatchObject({ state: "cooling", epoch: 1, reasons: [expect.stringMatching(/\S/)] });
    const [began] = await wire.dated("resting", "RestBegan");
    expect(resting.until).toBe((began?.at ?? 0) + 60_000);
    const refusal = await wire.refusedUntil(resting.until ?? 0, "lease", "resting", {}, "pool-exhausted");
    expect(refusal.limitedBy).toMatchObject({ rest: 1 });
  });

  test("a rest ends at its time, and the proxy becomes available without a command", async () => {
    await wire.open("rested", lax, ["10.2.6.8:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("rested");
    await change("rest", "rested", { ids: [id], forMs: 400 });
    await eventually(async () => expect((await wire.get("rested", id)).state).toBe("available"));
    const [began] = await wire.dated("rested", "RestBegan");
    const [ended] = await wire.dated("rested", "RestEnded");
    expect(began).toMatchObject({ until: (began?.at ?? 0) + 400 });
    expect(ended).toMatchObject({ how: "over", at: expect.any(Number) });
    expect(ended?.at).toBeGreaterThanOrEqual(Number(began?.["until"]));
    const rested = await wire.get("rested", id);
    expect(rested).not.toHaveProperty("until");
    expect(rested).not.toHaveProperty("reasons");
    expect(rested.epoch).toBe(1);
    expect((await wire.lease("rested")).epoch).toBe(1);
    const types = (await wire.events("rested")).map(({ type }) => type);
    expect(types.filter((type) => type.startsWith("Rest"))).toEqual(["RestBegan", "RestEnded"]);
  });

  test("the longer of two rests wins", async () => {
    await wire.open("longer", lax, ["10.2.6.2:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("longer");
    await change("rest", "longer", { ids: [id], forMs: 60_000 });
    const long = await wire.get("longer", id);
    await change("rest", "longer", { ids: [id], forMs: 1000 });
    expect(await wire.get("longer", id)).toEqual(long);
    await change("rest", "longer", { ids: [id], forMs: 120_000 });
    const longer = await wire.get("longer", id);
    expect(longer.until).toBeGreaterThanOrEqual((long.until ?? 0) + 60_000);
    expect(longer.epoch).toBe(long.epoch); // It has begun only one rest.
  });

  test("revive ends a rest at once, and leaves a proxy that does not rest unchanged", async () => {
    await wire.open("reviving", lax, ["10.2.6.3:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("reviving");
    expect(await change("revive", "reviving", { ids: [id] })).toEqual({ changed: 0, unknown: [] });
    await change("rest", "reviving", { ids: [id], forMs: 60_000 });
    expect(await change("revive", "reviving", { ids: [id] })).toEqual({ changed: 1, unknown: [] });
    expect((await wire.lease("reviving")).proxyId).toBe(id);
  });

  test("leases that are open when a rest begins stay valid; when it ends, the proxy is in-use again", async () => {
    await wire.open("interrupted", lax, ["10.2.6.4:80"]);
    const lease = await wire.lease("interrupted", { uses: 2 });
    const ids = [lease.proxyId];
    await change("rest", "interrupted", { ids, forMs: 60_000 });
    expect(await wire.get("interrupted", lease.proxyId)).toMatchObject({ state: "cooling", openLeases: 1 });
    expect(await wire.report("interrupted", { leaseId: lease.leaseId, n: 1, status: 200 })).toMatchObject({
      accepted: 1,
      stop: [{ leaseId: lease.leaseId, until: expect.any(Number) }],
    });
    await wire.ok("renew", "interrupted", { leaseId: lease.leaseId });
    await change("revive", "interrupted", { ids });
    expect((await wire.get("interrupted", lease.proxyId)).state).toBe("in-use");
  });

  test("a retired proxy is not leased; only add brings it back, with a fresh score and streak", async () => {
    await wire.open("retiring", lax, ["10.2.6.5:80"]);
    const lease = await wire.lease("retiring", { uses: 3 });
    const ids = [lease.proxyId];
    await wire.report("retiring", { leaseId: lease.leaseId, n: 1, status: 403 });
    expect(await change("retire", "retiring", { ids, reason: "sold" })).toEqual({ changed: 1, unknown: [] });
    expect(await change("retire", "retiring", { ids })).toEqual({ changed: 0, unknown: [] });
    expect(await change("revive", "retiring", { ids })).toEqual({ changed: 0, unknown: [] });
    expect(await change("rest", "retiring", { ids, forMs: 1000 })).toEqual({ changed: 0, unknown: [] });
    expect(await wire.get("retiring", lease.proxyId)).toMatchObject({ state: "retired", score: -1, openLeases: 1 });
    await wire.refused("lease", "retiring", {}, "no-match");
    // The end of its open lease is still recorded.
    await wire.report("retiring", { leaseId: lease.leaseId, n: 2, status: 200 });
    expect(await wire.ok("release", "retiring", { leaseId: lease.leaseId, used: 2 })).toMatchObject({ returned: 1 });
    expect(await wire.get("retiring", lease.proxyId)).toMatchObject({ state: "retired", openLeases: 0 });
    expect(await add("retiring", "10.2.6.5:80")).toMatchObject({ added: 1, already: 0 });
    expect(await wire.get("retiring", lease.proxyId)).toMatchObject({
      state: "available",
      score: 0,
      streak: 0,
      usesSinceRest: 2,
    });
  });

  test("retiring and adding again does not escape a rest, a usage quota or a window", async () => {
    const rate = { limit: 3, windowMs: 60_000 };
    await wire.open("round", { ...lax, rate, usage: { limit: 500, restMs: 60_000 } }, ["10.2.6.6:80"]);
    const lease = await wire.lease("round", { uses: 2 });
    const ids = [lease.proxyId];
    await wire.ok("release", "round", { leaseId: lease.leaseId });
    await change("rest", "round", { ids, forMs: 60_000 });
    const before = await wire.get("round", lease.proxyId);
    await change("retire", "round", { ids });
    await add("round", "10.2.6.6:80");
    const { addedAt: _, ...after } = await wire.get("round", lease.proxyId);
    expect(after).toMatchObject({ state: "cooling", until: before.until, epoch: before.epoch });
    expect(after).toMatchObject({ usesSinceRest: 2, usesInWindow: 2 });
    expect((await wire.refused("lease", "round", {}, "pool-exhausted")).limitedBy?.rest).toBe(1);
  });

  test("names unknown ids, and applies the command to the others", async () => {
    await wire.open("some", lax, ["10.2.6.7:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("some");
    const ids = ["p_0123456789abcdef", id, "nonsense"];
    const unknown = ["p_0123456789abcdef", "nonsense"];
    expect(await change("rest", "some", { ids, forMs: 60_000 })).toEqual({ changed: 1, unknown });
    expect(await change("revive", "some", { ids })).toEqual({ changed: 1, unknown });
    expect(await change("retire", "some", { ids })).toEqual({ changed: 1, unknown });
  });
});
