// Outcomes that are published to JetStream: alone, in arrays, repeated, late, too many, and invalid. Protocol §2.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { asking, type Lease, lax, type Released, type SharedWire, sharedWire, windows } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const unknownLease = "l_0123456789012345678901";
const minute = 60_000;

const proxyOf = ({ pool, proxyId }: Lease) => wire.get(pool, proxyId);

describe("published to JetStream", () => {
  test("ingests a single outcome with a Msg-Id once; the broker does not store a copy", async () => {
    const lease = await wire.leased("published", "10.6.2.1", { uses: 2 });
    const { leaseId } = lease;
    const ack = await wire.publish("published", { leaseId, n: 1, status: 200 }, `${leaseId}:1`);
    const again = await wire.publish("published", { leaseId, n: 1, status: 200 }, `${leaseId}:1`);
    expect(again).toMatchObject({ seq: ack.seq, duplicate: true });
    await wire.untilIngested("published", 1);
    expect(await proxyOf(lease)).toMatchObject({ score: 1, totals: { succeeded: 1 } });
    const commit = (await wire.ledger("published")).findLast(({ commit }) =>
      commit.events.some(({ type }) => type === "UseReported"),
    );
    expect(commit?.commit.cursor.seq).toBe(ack.seq);
    const follower = await connectRaw(wire.natsUrlAs("follower"));
    const stored = await asking(follower).messages("remuda.outcome.published", "REMUDA_OUTCOMES");
    expect(stored.map(({ seq }) => seq)).toEqual([ack.seq]);
    expect(commit?.commit.cursor.at).toBe(stored[0]?.storedAt);
    await follower.close();
  });

  test("ingests an array of up to a thousand in its order", async () => {
    const lease = await wire.leased("array", "10.6.2.2", { uses: 1000 });
    const order = Array.from({ length: 1000 }, (_, index) => ((index * 377) % 1000) + 1);
    await wire.publish(
      "array",
      order.map((n) => ({ leaseId: lease.leaseId, n, status: 200 })),
    );
    await wire.untilIngested("array", 1000);
    const uses = (await wire.events("array")).filter(({ type }) => type === "UseReported");
    expect(uses.map(({ n }) => n)).toEqual(order);
    expect(await proxyOf(lease)).toMatchObject({ openLeases: 0, score: 1000 });
  });

  test("bounds a stored message: the broker does not store a larger one", async () => {
    await wire.open("heavy");
    const stored = async (bytes: number): Promise<unknown> =>
      (await wire.nats.request("remuda.outcome.heavy", "x".repeat(bytes))).json();
    expect(await stored(600 * 1024)).toMatchObject({ error: { err_code: 10_054 } });
    expect(await stored(511 * 1024)).toMatchObject({ seq: expect.any(Number) });
  });

  test("ingests many messages in the order of the stream", async () => {
    const lease = await wire.leased("ordered", "10.6.2.3", { uses: 400 });
    const { leaseId } = lease;
    const order = Array.from({ length: 400 }, (_, index) => ((index * 149) % 400) + 1);
    for (const n of order) wire.nats.publish("remuda.outcome.ordered", JSON.stringify({ leaseId, n, status: 200 }));
    await wire.untilIngested("ordered", 400);
    const uses = (await wire.events("ordered")).filter(({ type }) => type === "UseReported");
    expect(uses.map(({ n }) => n)).toEqual(order);
    const cursors = (await wire.ledger("ordered")).map(({ commit }) => commit.cursor.seq);
    expect(cursors).toEqual([...cursors].sort((a, b) => a - b));
  });

  test("counts invalid outcomes and those of unknown leases as ignored, and ingests the others", async () => {
    const lease = await wire.leased("litter", "10.6.2.4", { uses: 3 });
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
      `{"leaseId":"${unknownLease}","n":1,"status":200}`,
      randomBytes(500),
      Buffer.from([0xff, 0xfe, 0x00]),
    ];
    for (const body of garbage) wire.nats.publish("remuda.outcome.litter", body);
    const array = [null, 5, { leaseId: unknownLease, n: 1, status: 200 }, { leaseId, n: 1, status: 200 }, "x", {}];
    await wire.publish("litter", array);
    await wire.publish("litter", { leaseId, n: 2, status: 200 }, `${leaseId}:2`);
    await wire.untilIngested("litter", garbage.length + array.length + 1);
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
    const lease = await wire.leased("too-many", "10.6.2.5", { uses: 2 });
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
    const lease = await wire.leased("once", "10.6.2.6", { uses: 4 });
    const { leaseId } = lease;
    const use = (n: number) => ({ leaseId, n, status: 200 });
    await wire.report("once", use(1));
    await wire.publish("once", use(1), `${leaseId}:1`);
    await wire.publish("once", [use(1), use(2), use(2)]);
    await wire.publish("once", use(2));
    await wire.untilIngested("once", 6);
    expect(await wire.report("once", use(1), use(2), use(3), use(3))).toMatchObject({
      accepted: 1,
      ignored: [1, 2, 3].map((n) => ({ leaseId, n, why: "duplicate" })),
    });
    expect((await wire.stats("once")).outcomes).toEqual({ succeeded: 3, failed: 0, neutral: 0, ignored: 7 });
    expect(await proxyOf(lease)).toMatchObject({ score: 3, usesInWindow: 4, openLeases: 1 });
  });

  test("closes the lease at its last use or at final, and then serves a waiting request", async () => {
    const policy = { ...windows, concurrency: 1 };
    const lease = await wire.leased("closing", "10.6.2.7", { uses: 5 }, policy);
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
    const lease = await wire.leased("mine", "10.6.2.8");
    await wire.open("yours", lax, ["10.6.2.8:80"]);
    await wire.publish("yours", { leaseId: lease.leaseId, status: 403 });
    await wire.untilIngested("yours", 1);
    expect((await wire.stats("yours")).outcomes.ignored).toBe(1);
    expect(await proxyOf(lease)).toMatchObject({ score: 0, openLeases: 1 });
  });

  test("ingests outcomes that were published before the pool was opened when it opens", async () => {
    await wire.publish("early", { leaseId: unknownLease, n: 1, status: 200 });
    await wire.open("early", lax);
    await wire.untilIngested("early", 1);
    expect((await wire.stats("early")).outcomes.ignored).toBe(1);
  });

  test("survives an error that is named like an object's built-in property, even after a reopening", async () => {
    const lease = await wire.leased("unlucky", "10.6.2.9", { uses: 2 });
    await wire.publish("unlucky", { leaseId: lease.leaseId, n: 1, error: "constructor" });
    await wire.publish("unlucky", { leaseId: lease.leaseId, n: 2, status: 200 });
    await eventually(async () => expect((await wire.stats("unlucky")).outcomes.succeeded).toBe(1));
  });
});
