// Outcomes on the wire: sent as a report, published to JetStream, alone and in arrays, repeated, late, too many, and
// invalid. Protocol §2. Also their effects under the policy (§7).

import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { asking, type Lease, lax, type Policy, type Released, startWire, type Wire } from "./wire.ts";

let wire: Wire;
beforeAll(async () => {
  wire = await startWire();
});
afterAll(() => wire.stop());

const minute = 60_000;
const windows = { ...lax, rate: { limit: 1000, windowMs: minute }, usage: { limit: 1000, restMs: minute } };
const nobodys = "l_0123456789012345678901";

/** Opens a pool with one proxy and leases it. */
async function leased(pool: string, host: string, request: object = {}, policy: Policy = windows): Promise<Lease> {
  await wire.open(pool, policy, [`${host}:80`]);
  return wire.lease(pool, request);
}

const proxyOf = ({ pool, proxyId }: Lease) => wire.get(pool, proxyId);

/** Waits until this many outcomes have been ingested, whatever their result. */
async function untilTaken(pool: string, count: number): Promise<void> {
  await eventually(async () => {
    const { succeeded, failed, neutral, ignored } = (await wire.stats(pool)).outcomes;
    expect(succeeded + failed + neutral + ignored).toBe(count);
  });
}

describe("a report", () => {
  test("accepts it once it is in the ledger, and counts it for score, totals and lease", async () => {
    const lease = await leased("reported", "10.6.0.1", { uses: 3 });
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
    expect(reply).toEqual({ accepted: 2, ignored: [], stop: [] });
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
    const { leaseId } = await leased("ignored", "10.6.0.3", { uses: 5 });
    const reply = await wire.report(
      "ignored",
      { leaseId: nobodys, n: 4, status: 200 },
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
      { leaseId: nobodys, n: 4, why: "unknown-lease" },
      { leaseId, n: expect.any(Number), why: "n-missing" },
      { leaseId, n: 1, why: "duplicate" },
      { leaseId, n: 2, why: expect.stringMatching(/\S/) },
      ...Array.from({ length: 7 }, () => ({
        leaseId: expect.any(String),
        n: expect.any(Number),
        why: expect.stringMatching(/\S/),
      })),
    ]);
    expect((await wire.stats("ignored")).outcomes).toEqual({ succeeded: 2, failed: 0, neutral: 0, ignored: 11 });
    const ignored = (await wire.events("ignored")).filter(({ type }) => type === "OutcomesIgnored");
    expect(ignored.reduce((sum, { count }) => sum + Number(count), 0)).toBe(11);
    expect(ignored.map(({ why }) => why)).toEqual(expect.arrayContaining(["unknown-lease", "n-missing", "duplicate"]));
  });

  test("needs no n for a lease of one use; a lease of several uses stays open without n", async () => {
    const single = await leased("single", "10.6.0.4");
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
    const lease = await leased("final", "10.6.0.5", { uses: 10 });
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
    const lease = await leased("over", "10.6.0.6", { uses: 2 });
    const { leaseId } = lease;
    expect(await wire.report("over", ...[1, 2, 3, 4].map((n) => ({ leaseId, n, status: 200 })))).toMatchObject({
      accepted: 4,
      ignored: [],
    });
    expect(await proxyOf(lease)).toMatchObject({ openLeases: 0, usesInWindow: 4, usesSinceRest: 4, score: 4 });
  });

  test("counts a use that was returned and is reported later against the limits", async () => {
    const lease = await leased("sneaky", "10.6.0.7", { uses: 5 });
    const { leaseId } = lease;
    await wire.ok("release", "sneaky", { leaseId, used: 2 });
    expect(await proxyOf(lease)).toMatchObject({ usesInWindow: 2, usesSinceRest: 2 });
    expect(await wire.report("sneaky", { leaseId, n: 5, status: 200 })).toMatchObject({ accepted: 1 });
    expect(await proxyOf(lease)).toMatchObject({ usesInWindow: 3, usesSinceRest: 3 });
  });

  test("counts one after the lease's end and grace as a result, not as a new use", async () => {
    const lease = await leased("late", "10.6.0.8", { uses: 3, ttlMs: 50 }, { ...windows, lease: { graceMs: 0 } });
    const { leaseId } = lease;
    await eventually(async () => expect((await wire.stats("late")).leases.expired).toBe(1));
    await wire.untilPast("late", lease.expiresAt);
    expect((await proxyOf(lease)).totals).toMatchObject({ unreported: 3 });
    expect(await wire.report("late", { leaseId, n: 2, status: 200 })).toEqual({ accepted: 1, ignored: [], stop: [] });
    expect(await proxyOf(lease)).toMatchObject({
      score: 1,
      usesInWindow: 3,
      usesSinceRest: 3,
      totals: { granted: 3, succeeded: 1, unreported: 2 },
    });
    expect(await wire.report("late", { leaseId, n: 2, status: 200 })).toMatchObject({ accepted: 0 });
  });

  test("accepts an empty report; refuses more than a thousand outcomes as a whole", async () => {
    const lease = await leased("sized", "10.6.0.9", { uses: 1000 });
    const { leaseId } = lease;
    expect(await wire.report("sized")).toEqual({ accepted: 0, ignored: [], stop: [] });
    const uses = Array.from({ length: 1000 }, (_, index) => ({ leaseId, n: index + 1, status: 200 }));
    await wire.changesNothing("sized", () =>
      wire.refused("report", "sized", { outcomes: [...uses, { leaseId, n: 1001, status: 200 }] }, "invalid-request"),
    );
    expect(await wire.report("sized", ...uses)).toEqual({ accepted: 1000, ignored: [], stop: [] });
    expect(await proxyOf(lease)).toMatchObject({ score: 1000, openLeases: 0 });
  });

  test.each(["constructor", "toString", "__proto__", "hasOwnProperty"])(
    "an error with the unlucky name %s is an outcome like any other",
    async (error) => {
      const pool = `unlucky-${error.toLowerCase().replaceAll("_", "")}`;
      const { leaseId } = await leased(pool, "10.6.0.10");
      expect(await wire.report(pool, { leaseId, error })).toMatchObject({ accepted: 1 });
      await wire.lease(pool);
    },
  );
});

describe("effects on the proxy", () => {
  const backoff = { kind: "exponential", baseMs: 1000, maxMs: 20_000, jitterMs: 0, jitterShare: 0 };
  const rests = async (pool: string) =>
    (await wire.ledger(pool)).flatMap(({ commit }) =>
      commit.events
        .filter(({ type }) => type === "RestBegan")
        .map(({ reasons, until, state, epoch }) => ({ reasons, state, epoch, forMs: Number(until) - commit.at })),
    );

  test("a failure rests it 2, 4, 8 … times the base, up to the maximum; a success resets the backoff", async () => {
    await wire.open("backoff", { ...lax, backoff: { ...backoff, maxMs: 6000 } }, ["10.6.1.1:80"]);
    for (const status of [407, 502, 407, 407, 200, 407]) {
      const outcome = status === 502 ? { result: "failure", reason: "proxy-error" } : { status };
      const { leaseId, proxyId } = await wire.lease("backoff");
      await wire.report("backoff", { leaseId, ...outcome, ...(status === 407 && { reason: "unreachable" }) });
      await wire.ok("proxies.revive", "backoff", { ids: [proxyId] });
    }
    const cooling = (epoch: number, forMs: number) => ({ reasons: ["backoff"], state: "cooling", epoch, forMs });
    expect(await rests("backoff")).toEqual([
      cooling(1, 2000),
      cooling(2, 4000),
      cooling(3, 6000),
      cooling(4, 6000),
      cooling(5, 2000),
    ]);
  });

  test("blocked rests begin at a minute, proxy-auth rests at ten; the jitter is at most a second or a fifth", async () => {
    const { backoff: _, ...others } = lax;
    await wire.open("by-class", others, ["10.6.1.2:80", "10.6.1.3:80"]);
    for (const status of [403, 407]) {
      const { leaseId } = await wire.lease("by-class");
      await wire.report("by-class", { leaseId, status });
    }
    const [blocked, auth] = await rests("by-class");
    expect(blocked?.forMs).toBeGreaterThanOrEqual(60_000);
    expect(blocked?.forMs).toBeLessThanOrEqual(72_000);
    expect(auth?.forMs).toBeGreaterThanOrEqual(600_000);
    expect(auth?.forMs).toBeLessThanOrEqual(720_000);
  });

  test("a 429 rests it for the longer of the target's retryAfterMs and the backoff, an hour at most", async () => {
    await wire.open("throttle", { ...lax, backoff }, ["10.6.1.4:80", "10.6.1.5:80", "10.6.1.6:80"]);
    for (const retryAfterMs of [30_000, 500, 7_200_000]) {
      const { leaseId } = await wire.lease("throttle");
      await wire.report("throttle", { leaseId, status: 429, retryAfterMs });
    }
    expect((await rests("throttle")).map(({ forMs }) => forMs)).toEqual([30_000, 2000, 3_600_000]);
  });

  test("neutral outcomes and a rejected token cause no rest", async () => {
    const lease = await leased("neutral", "10.6.1.7", { uses: 4 }, { ...lax, backoff });
    const { leaseId } = lease;
    await wire.report(
      "neutral",
      { leaseId, n: 1, status: 500, retryAfterMs: 9000 },
      { leaseId, n: 2, reason: "client-abort", result: "failure" },
      { leaseId, n: 3, status: 401, tokenRejected: true },
    );
    expect(await proxyOf(lease)).toMatchObject({ state: "in-use", epoch: 0, streak: 0 });
    expect(await rests("neutral")).toEqual([]);
  });

  test("more failures than the limit in the window rest it; all reasons are named, and the longest rest wins", async () => {
    const policy = { ...lax, failures: { limit: 2, windowMs: minute, restMs: 50_000 } };
    const lease = await leased(
      "failures",
      "10.6.1.8",
      { uses: 5 },
      { ...policy, streak: { limit: 2, restMs: 90_000 } },
    );
    const failing = (n: number) => ({ leaseId: lease.leaseId, n, result: "failure", reason: "proxy-error" });
    await wire.report("failures", failing(1), failing(2));
    expect((await proxyOf(lease)).state).toBe("in-use");
    const reply = await wire.report("failures", failing(3));
    const resting = await proxyOf(lease);
    expect(resting).toMatchObject({ state: "cooling", epoch: 1, streak: 0, openLeases: 1 });
    expect([...(resting.reasons ?? [])].sort()).toEqual(["failures", "streak"]);
    expect((await rests("failures")).map(({ forMs }) => forMs)).toEqual([90_000]);
    expect(reply.stop).toEqual([{ leaseId: lease.leaseId, until: resting.until }]);
    // A failure of the older epoch does not change the rest.
    expect(await wire.report("failures", failing(4))).toMatchObject({ accepted: 1 });
    expect(await proxyOf(lease)).toMatchObject({ until: resting.until, epoch: 1, streak: 0 });
  });

  test("the reply names exactly the leases of the report whose proxies rest", async () => {
    await wire.open("stopping", { ...lax, backoff }, ["10.6.1.9:80", "10.6.1.10:80"]);
    const leases = await Promise.all([1, 2, 3, 4].map(() => wire.lease("stopping", { uses: 3 })));
    const [one, two] = leases.filter(({ proxyId }) => proxyId === leases[0]?.proxyId);
    const [other] = leases.filter(({ proxyId }) => proxyId !== leases[0]?.proxyId);
    const reply = await wire.report(
      "stopping",
      { leaseId: one?.leaseId, n: 1, status: 200 },
      { leaseId: two?.leaseId, n: 1, status: 403 },
      { leaseId: other?.leaseId, n: 1, status: 200 },
    );
    const { until } = await wire.get("stopping", one?.proxyId ?? "");
    expect(reply.stop.map(({ leaseId }) => leaseId).sort()).toEqual([one?.leaseId, two?.leaseId].sort());
    for (const stop of reply.stop) expect(stop.until).toBe(until);
  });
});

describe("published to JetStream", () => {
  test("ingests a single outcome with a Msg-Id once; the broker does not store a copy", async () => {
    const lease = await leased("published", "10.6.2.1", { uses: 2 });
    const { leaseId } = lease;
    const ack = await wire.publish("published", { leaseId, n: 1, status: 200 }, `${leaseId}:1`);
    const again = await wire.publish("published", { leaseId, n: 1, status: 200 }, `${leaseId}:1`);
    expect(again).toMatchObject({ seq: ack.seq, duplicate: true });
    await untilTaken("published", 1);
    expect(await proxyOf(lease)).toMatchObject({ score: 1, totals: { succeeded: 1 } });
    const commit = (await wire.ledger("published")).findLast(({ commit }) =>
      commit.events.some(({ type }) => type === "UseReported"),
    );
    expect(commit?.commit.cursor.seq).toBe(ack.seq);
    const follower = await connectRaw(wire.remuda.natsUrlAs("follower"));
    const stored = await asking(follower).messages("remuda.outcome.published", "REMUDA_OUTCOMES");
    expect(stored.map(({ seq }) => seq)).toEqual([ack.seq]);
    expect(commit?.commit.cursor.at).toBe(stored[0]?.storedAt);
    await follower.close();
  });

  test("ingests an array of up to a thousand in its order", async () => {
    const lease = await leased("array", "10.6.2.2", { uses: 1000 });
    const order = Array.from({ length: 1000 }, (_, index) => ((index * 377) % 1000) + 1);
    await wire.publish(
      "array",
      order.map((n) => ({ leaseId: lease.leaseId, n, status: 200 })),
    );
    await untilTaken("array", 1000);
    const uses = (await wire.events("array")).filter(({ type }) => type === "UseReported");
    expect(uses.map(({ n }) => n)).toEqual(order);
    expect(await proxyOf(lease)).toMatchObject({ openLeases: 0, score: 1000 });
  });

  test("ingests many messages in the order of the stream", async () => {
    const lease = await leased("ordered", "10.6.2.3", { uses: 400 });
    const { leaseId } = lease;
    const order = Array.from({ length: 400 }, (_, index) => ((index * 149) % 400) + 1);
    for (const n of order) wire.nats.publish("remuda.outcome.ordered", JSON.stringify({ leaseId, n, status: 200 }));
    await untilTaken("ordered", 400);
    const uses = (await wire.events("ordered")).filter(({ type }) => type === "UseReported");
    expect(uses.map(({ n }) => n)).toEqual(order);
    const cursors = (await wire.ledger("ordered")).map(({ commit }) => commit.cursor.seq);
    expect(cursors).toEqual([...cursors].sort((a, b) => a - b));
  });

  test("counts invalid outcomes and those of unknown leases as ignored, and ingests the others", async () => {
    const lease = await leased("litter", "10.6.2.4", { uses: 3 });
    const { leaseId } = lease;
    const garbage: (string | Uint8Array)[] = [
      "",
      "not json",
      "{",
      "null",
      "5",
      '"text"',
      "{}",
      `{"leaseId":"${leaseId}","n":"1","status":200}`,
      `{"leaseId":"${leaseId}","n":1e400,"status":200}`,
      `{"leaseId":"${leaseId}","status":200}`,
      `{"leaseId":"${nobodys}","n":1,"status":200}`,
      randomBytes(500),
      Buffer.from([0xff, 0xfe, 0x00]),
    ];
    for (const body of garbage) wire.nats.publish("remuda.outcome.litter", body);
    const array = [null, 5, { leaseId: nobodys, n: 1, status: 200 }, { leaseId, n: 1, status: 200 }, "x", {}];
    await wire.publish("litter", array);
    await wire.publish("litter", { leaseId, n: 2, status: 200 }, `${leaseId}:2`);
    await untilTaken("litter", garbage.length + array.length + 1);
    expect((await wire.stats("litter")).outcomes).toEqual({
      succeeded: 2,
      failed: 0,
      neutral: 0,
      ignored: garbage.length + 5,
    });
    const why = (await wire.events("litter")).filter(({ type }) => type === "OutcomesIgnored").map(({ why }) => why);
    expect(why).toEqual(expect.arrayContaining(["n-missing", "unknown-lease"]));
    expect(await proxyOf(lease)).toMatchObject({ openLeases: 1, score: 2 });
  });

  test("ignores an array of more than a thousand as a whole, and ingests the next messages", async () => {
    const lease = await leased("too-many", "10.6.2.5", { uses: 2 });
    const { leaseId } = lease;
    await wire.publish(
      "too-many",
      Array.from({ length: 1001 }, () => ({ leaseId, n: 1, status: 200 })),
    );
    await wire.publish("too-many", { leaseId, n: 2, status: 200 });
    await eventually(async () => expect((await proxyOf(lease)).score).toBe(1));
    expect((await wire.stats("too-many")).outcomes).toMatchObject({ succeeded: 1, ignored: expect.any(Number) });
    expect((await wire.stats("too-many")).outcomes.ignored).toBeGreaterThanOrEqual(1);
  });

  test("counts each use once, however often and by whichever way it is reported", async () => {
    const lease = await leased("once", "10.6.2.6", { uses: 4 });
    const { leaseId } = lease;
    const use = (n: number) => ({ leaseId, n, status: 200 });
    await wire.report("once", use(1));
    await wire.publish("once", use(1), `${leaseId}:1`);
    await wire.publish("once", [use(1), use(2), use(2)]);
    await wire.publish("once", use(2));
    await untilTaken("once", 6);
    expect(await wire.report("once", use(1), use(2), use(3), use(3))).toMatchObject({
      accepted: 1,
      ignored: [1, 2, 3].map((n) => ({ leaseId, n, why: "duplicate" })),
    });
    expect((await wire.stats("once")).outcomes).toEqual({ succeeded: 3, failed: 0, neutral: 0, ignored: 7 });
    expect(await proxyOf(lease)).toMatchObject({ score: 3, usesInWindow: 4, openLeases: 1 });
  });

  test("closes the lease at its last use or at final, and then serves a waiting request", async () => {
    const policy = { ...windows, concurrency: 1 };
    const lease = await leased("closing", "10.6.2.7", { uses: 5 }, policy);
    const { leaseId } = lease;
    const waiting = wire.lease("closing", { waitMs: minute, uses: 1 });
    await wire.untilWaiting("closing", 1);
    await wire.publish("closing", { leaseId, n: 2, status: 200, final: true }, `${leaseId}:2`);
    const next = await waiting;
    expect(await wire.ok<Released>("release", "closing", { leaseId })).toEqual({ leaseId, used: 2, returned: 3 });
    await wire.publish("closing", { leaseId: next.leaseId, status: 404 }, `${next.leaseId}:1`);
    await eventually(async () => expect((await proxyOf(next)).openLeases).toBe(0));
  });

  test("ignores an outcome of another pool's lease", async () => {
    const lease = await leased("mine", "10.6.2.8");
    await wire.open("yours", lax, ["10.6.2.8:80"]);
    await wire.publish("yours", { leaseId: lease.leaseId, status: 403 });
    await untilTaken("yours", 1);
    expect((await wire.stats("yours")).outcomes.ignored).toBe(1);
    expect(await proxyOf(lease)).toMatchObject({ score: 0, openLeases: 1 });
  });

  test("ingests outcomes that were published before the pool was opened when it opens", async () => {
    await wire.publish("early", { leaseId: nobodys, n: 1, status: 200 });
    await wire.open("early", lax);
    await untilTaken("early", 1);
    expect((await wire.stats("early")).outcomes.ignored).toBe(1);
  });

  test("survives an error that is named like an object's built-in property, also after a reopening", async () => {
    const lease = await leased("unlucky", "10.6.2.9", { uses: 2 });
    await wire.publish("unlucky", { leaseId: lease.leaseId, n: 1, error: "constructor" });
    await wire.publish("unlucky", { leaseId: lease.leaseId, n: 2, status: 200 });
    await eventually(async () => expect((await wire.stats("unlucky")).outcomes.succeeded).toBe(1));
  });
});
