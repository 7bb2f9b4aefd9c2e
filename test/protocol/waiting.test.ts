// Waiting lease requests on the wire. They are granted in the order of arrival when a proxy is free, and refused when
// their time is over. Protocol §1 (`waitMs`, `overloaded`, copies that join) and design §3.

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Lease, lax, refusalIn, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const one = { ...lax, concurrency: 1 };
const minute = 60_000;
/** Longer than any test: a request that waits this long is answered because of an event, not by its timeout. */
const waitMs = minute;

/** Opens a pool with one proxy that may have one lease, and takes that lease. */
async function taken(pool: string, host: string, policy: object = {}): Promise<Lease> {
  await wire.open(pool, { ...one, ...policy }, [`${host}:80`]);
  return wire.lease(pool);
}

const release = (pool: string, { leaseId }: Lease) => wire.ok("release", pool, { leaseId });

test("grants a waiting lease request when a lease is released, and counts leftMs from its arrival", async () => {
  const first = await taken("released", "10.5.0.1");
  const { at: before } = await wire.stats("released");
  const waiting = wire.lease("released", { waitMs, ttlMs: 20_000 });
  const seenAt = await wire.untilWaiting("released", 1); // The request had arrived before it was seen waiting.
  const waitedAt = await wire.untilPast("released", seenAt + 200);
  await release("released", first);
  const lease = await waiting;
  expect(lease.expiresAt).toBe(lease.grantedAt + 20_000);
  expect(lease.grantedAt).toBeGreaterThanOrEqual(waitedAt);
  expect(lease.leftMs).toBeGreaterThanOrEqual(lease.expiresAt - seenAt);
  expect(lease.leftMs).toBeLessThanOrEqual(lease.expiresAt - before);
  expect((await wire.stats("released")).waiting).toBe(0);
});

test("grants it also when a lease is completed by its report or expires, or when a rest ends", async () => {
  const first = await taken("freed", "10.5.0.2");
  const second = wire.lease("freed", { waitMs, ttlMs: 100 });
  await wire.untilWaiting("freed", 1);
  await wire.report("freed", { leaseId: first.leaseId, status: 200 });
  await second;
  const third = await wire.lease("freed", { waitMs }); // Granted when the second lease has expired.
  expect(third.grantedAt).toBeGreaterThanOrEqual((await second).expiresAt);
  await wire.ok("proxies.rest", "freed", { ids: [third.proxyId], forMs: 200 });
  await release("freed", third);
  const fourth = await wire.lease("freed", { waitMs });
  const [rest] = await wire.dated("freed", "RestBegan");
  expect(rest?.["until"]).toBe((rest?.at ?? 0) + 200);
  expect(fourth.grantedAt).toBeGreaterThanOrEqual((rest?.at ?? 0) + 200);
});

test("gives a waiting request a proxy that is added, revived, or freed by a new policy", async () => {
  const first = await taken("helped", "10.5.0.3");
  const second = wire.lease("helped", { waitMs });
  await wire.untilWaiting("helped", 1);
  await wire.ok("proxies.add", "helped", { proxies: ["10.5.0.4:80"] });
  expect((await second).host).toBe("10.5.0.4");
  const third = wire.lease("helped", { waitMs });
  await wire.untilWaiting("helped", 1);
  await wire.ok("pool.policy", "helped", { policy: { concurrency: 2 } });
  await third;
  await wire.ok("pool.policy", "helped", { policy: { concurrency: null } });
  const ids = [first.proxyId, (await second).proxyId];
  await wire.ok("proxies.rest", "helped", { ids, forMs: minute });
  const fourth = wire.lease("helped", { waitMs });
  await wire.untilWaiting("helped", 1);
  await wire.ok("proxies.revive", "helped", { ids: [first.proxyId] });
  expect((await fourth).proxyId).toBe(first.proxyId);
});

type Freed = [what: string, host: string, fact: object, free: (pool: string, first: Lease) => Promise<unknown>];
const freed: Freed[] = [
  ["a lease is released", "10.5.1.1", { type: "LeaseClosed", how: "released" }, release],
  [
    "a report completes a lease",
    "10.5.1.2",
    { type: "LeaseClosed", how: "completed" },
    (pool, { leaseId }) => wire.report(pool, { leaseId, status: 200 }),
  ],
  [
    "a published outcome completes a lease",
    "10.5.1.3",
    { type: "LeaseClosed", how: "completed" },
    (pool, { leaseId }) => wire.publish(pool, { leaseId, status: 200 }),
  ],
  ["a lease expires", "10.5.1.4", { type: "LeaseClosed", how: "expired" }, async () => undefined],
  [
    "a rest is over",
    "10.5.1.5",
    { type: "RestEnded", how: "over" },
    async (pool, first) => {
      const rest = wire.ok("proxies.rest", pool, { ids: [first.proxyId], forMs: 1000 });
      // Both are sent at once: the rest is not over before the release.
      await Promise.all([rest, release(pool, first)]);
    },
  ],
  [
    "a rest is ended manually",
    "10.5.1.6",
    { type: "RestEnded", how: "revived" },
    async (pool, first) => {
      await wire.ok("proxies.rest", pool, { ids: [first.proxyId], forMs: minute });
      await release(pool, first);
      await wire.ok("proxies.revive", pool, { ids: [first.proxyId] });
    },
  ],
  [
    "a proxy is added",
    "10.5.1.7",
    { type: "ProxyAdded" },
    (pool) => wire.ok("proxies.add", pool, { proxies: ["10.5.1.107:80"] }),
  ],
  [
    "a policy gives room",
    "10.5.1.8",
    { type: "PolicyChanged" },
    (pool) => wire.ok("pool.policy", pool, { policy: { concurrency: 2 } }),
  ],
];

test.each(freed)("grants it in the very commit in which %s", async (what, host, fact, free) => {
  const pool = `commit-${freed.findIndex(([each]) => each === what)}`;
  await wire.open(pool, one, [`${host}:80`]);
  // Sent at once and decided one after the other: the request waits before the lease ends.
  const leased = wire.lease(pool, { ttlMs: what === "a lease expires" ? 400 : minute });
  const waiting = wire.lease(pool, { waitMs });
  const first = await leased;
  if (what !== "a lease expires") await wire.untilWaiting(pool, 1);
  await free(pool, first);
  const { leaseId } = await waiting;
  const commits = (await wire.ledger(pool)).map(({ commit }) => commit.events);
  const [of = []] = commits.filter((events) => events.some((event) => event["leaseId"] === leaseId));
  expect(of.at(-1)).toMatchObject({ type: "LeaseGranted", leaseId });
  expect(of).toContainEqual(expect.objectContaining(fact));
});

test("serves requests in the order of arrival; a later request does not overtake", async () => {
  let lease = await taken("queue", "10.5.0.5");
  const order: number[] = [];
  const answers: Promise<void>[] = [];
  const granted: Lease[] = [];
  for (let n = 0; n < 4; n++) {
    answers.push(
      wire.lease("queue", { waitMs }).then((one) => {
        order.push(n);
        granted.push(one);
      }),
    );
    await wire.untilWaiting("queue", n + 1);
  }
  for (let n = 0; n < 4; n++) {
    await release("queue", lease);
    await wire.refused("lease", "queue", {}, "pool-exhausted");
    await answers[n];
    lease = granted[n] as Lease;
  }
  expect(order).toEqual([0, 1, 2, 3]);
});

test("a lease request that nothing can serve yet does not block those behind it", async () => {
  await wire.open("lanes", one, [{ url: "10.5.0.6:80", labels: { lane: "a" } }, { url: "10.5.0.7:80" }]);
  const inA = await wire.lease("lanes", { labels: { lane: "a" } });
  const inB = await wire.lease("lanes");
  const first = wire.lease("lanes", { labels: { lane: "a" }, waitMs });
  await wire.untilWaiting("lanes", 1);
  const second = wire.lease("lanes", { waitMs });
  await wire.untilWaiting("lanes", 2);
  await release("lanes", inB);
  expect((await second).proxyId).toBe(inB.proxyId);
  await release("lanes", inA);
  expect((await first).proxyId).toBe(inA.proxyId);
});

test("gives a proxy that suits two different requests to the earlier one", async () => {
  const kinds = [{ labels: { lane: "a" } }, {}, { schemes: ["http"] }];
  for (const [index, order] of [
    [0, 1, 2],
    [1, 0, 2],
    [2, 1, 0],
  ].entries()) {
    const pool = `kinds-${index}`;
    await wire.open(pool, one, [{ url: "10.5.0.16:80", labels: { lane: "a" } }]);
    let lease = await wire.lease(pool);
    const answered: number[] = [];
    const granted: Promise<Lease>[] = [];
    for (const [place, kind] of order.entries()) {
      const answer = wire.lease(pool, { ...kinds[kind], waitMs });
      granted.push(answer);
      answer.then(() => answered.push(kind));
      await wire.untilWaiting(pool, place + 1);
    }
    for (const answer of granted) {
      await release(pool, lease);
      lease = await answer;
    }
    expect(answered).toEqual(order);
  }
});

test("refuses it when its time is over, not earlier, and names the limits that held it back", async () => {
  const { expiresAt } = await taken("patience", "10.5.0.8");
  const askedAt = performance.now();
  const order: number[] = [];
  const patient = [900, 300, 600].map(async (waitMs) => {
    const refusal = await wire.refused("lease", "patience", { waitMs }, "pool-exhausted");
    order.push(waitMs);
    // Its own wait lies within this one, by the same monotonic clock. Each of the two is truncated to milliseconds.
    expect(performance.now() - askedAt).toBeGreaterThanOrEqual(waitMs - 2);
    return refusal;
  });
  const { answer: refusals, from, to } = await wire.timed("patience", () => Promise.all(patient));
  // Requests are refused in the order of their deadlines, not of their arrival.
  expect(order).toEqual([300, 600, 900]);
  for (const refusal of refusals) {
    expect(refusal.limitedBy).toMatchObject({ concurrency: 1 });
    expect(refusal.retryAfterMs).toBeGreaterThanOrEqual(expiresAt - to);
    expect(refusal.retryAfterMs).toBeLessThanOrEqual(expiresAt - from);
  }
  expect(await wire.stats("patience")).toMatchObject({ waiting: 0, leases: { open: 1, granted: 1 } });
});

test("refuses it at once without waitMs", async () => {
  await taken("hurry", "10.5.0.9");
  for (const request of [{}, { waitMs: 0 }]) {
    // It is answered in order: a later question is answered after it, and finds no waiting request.
    const order: string[] = [];
    const [, { waiting }] = await Promise.all([
      wire.refused("lease", "hurry", request, "pool-exhausted").finally(() => order.push("refused")),
      wire.stats("hurry").finally(() => order.push("asked later")),
    ]);
    expect({ order, waiting }).toEqual({ order: ["refused", "asked later"], waiting: 0 });
  }
});

test("a copy that arrives while the first waits joins it; a copy with a different request is refused", async () => {
  const first = await taken("joined", "10.5.0.10");
  const request = { requestId: randomUUID(), uses: 2, waitMs };
  const asked = wire.lease("joined", request);
  await wire.untilWaiting("joined", 1);
  const copies = [wire.lease("joined", request), wire.lease("joined", { ...request, waitMs: waitMs / 2 })];
  const refusal = await wire.refused("lease", "joined", { ...request, uses: 3 }, "invalid-request");
  expect(refusal.field).toBe("requestId");
  expect((await wire.stats("joined")).waiting).toBe(1);
  await release("joined", first);
  const leases = await Promise.all([asked, ...copies]);
  expect(new Set(leases.map(({ leaseId }) => leaseId)).size).toBe(1);
  // Each copy gets a leftMs counted from its own arrival.
  expect(leases[1]?.leftMs).toBeLessThanOrEqual(leases[0]?.leftMs ?? 0);
  expect(await wire.stats("joined")).toMatchObject({ waiting: 0, leases: { open: 1, granted: 2 } });
});

test("a copy without waitMs joins too; all copies are refused when the first one's time is over", async () => {
  await taken("together", "10.5.0.11");
  const request = { requestId: randomUUID(), waitMs: 1000 };
  const order: string[] = [];
  const told = (what: string) => () => order.push(what);
  const copies = [request, { ...request, waitMs: 0 }].map((each) =>
    wire.ask("lease", "together", each).finally(told("refused")),
  );
  // Sent after both: by then the first waits, and the copy with it.
  const { waiting } = await wire.stats("together").finally(told("asked later"));
  expect(waiting).toBe(1);
  for (const message of await Promise.all(copies)) refusalIn(message, "pool-exhausted");
  expect(order).toEqual(["asked later", "refused", "refused"]);
});

test("answers overloaded at once if no request may wait", async () => {
  await taken("no-queue", "10.5.0.12", { waiting: { max: 0 } });
  // It must answer: otherwise there would be no reply yet.
  await wire.refused("lease", "no-queue", { waitMs }, "overloaded");
  // A request that does not want to wait gets the real reason.
  await wire.refused("lease", "no-queue", {}, "pool-exhausted");
});

test("answers overloaded above the maximum of waiting requests, and keeps those that wait", async () => {
  const first = await taken("crowd", "10.5.0.13", { waiting: { max: 1 } });
  const waiting = wire.lease("crowd", { waitMs });
  await wire.untilWaiting("crowd", 1);
  await wire.refused("lease", "crowd", { waitMs }, "overloaded");
  await release("crowd", first);
  const lease = await waiting;
  // There is room again.
  const next = wire.lease("crowd", { waitMs });
  await wire.untilWaiting("crowd", 1);
  await release("crowd", lease);
  await next;
});

test("refuses a request that a change made unsatisfiable when its time is over, unless a new proxy serves it", async () => {
  const first = await taken("gone", "10.5.0.14");
  const patient = wire.lease("gone", { waitMs });
  const brief = wire.ask("lease", "gone", { waitMs: 1000 });
  await wire.ok("proxies.retire", "gone", { ids: [first.proxyId] });
  refusalIn(await brief, "no-match");
  await wire.untilWaiting("gone", 1);
  await wire.ok("proxies.add", "gone", { proxies: ["10.5.0.17:80"] });
  expect((await patient).host).toBe("10.5.0.17");
  expect((await wire.stats("gone")).waiting).toBe(0);
});

test("a request that waits in a closed pool gets a refusal or no answer, but never a lease", async () => {
  const first = await taken("shut", "10.5.0.15");
  const waiting = wire.nats.request("remuda.lease.shut", JSON.stringify({ waitMs }), { timeoutMs: 3000 }).then(
    (message) => message.json<{ leaseId?: string }>(),
    () => ({ leaseId: undefined }),
  );
  await wire.untilWaiting("shut", 1);
  await wire.ok("pool.close", "shut");
  expect(await waiting).not.toMatchObject({ leaseId: expect.any(String) });
  await wire.ok("pool.open", "shut");
  expect(await wire.stats("shut")).toMatchObject({ waiting: 0, leases: { open: 1, granted: 1 } });
  await release("shut", first);
});
