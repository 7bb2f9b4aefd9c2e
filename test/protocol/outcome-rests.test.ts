// The rests that outcomes cause under the policy. Protocol §7.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Lease, lax, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const minute = 60_000;

const proxyOf = ({ pool, proxyId }: Lease) => wire.get(pool, proxyId);

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
    const lease = await wire.leased("neutral", "10.6.1.7", { uses: 4 }, { ...lax, backoff });
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
    const lease = await wire.leased(
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
