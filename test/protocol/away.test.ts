// A service that is away while its broker runs: stopped or killed, its ledgers have no gap. Protocol §3.
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { type Asking, asking, lax, type Policy, sha256 } from "./wire.ts";

describe("a service that is away while its broker runs", () => {
  let broker: TestBroker;
  let dataDir: string;
  let remuda: RemudaProcess;
  let wire: Asking;

  const start = () => startRemuda({ dataDir, env: { REMUDA_NATS_URL: broker.url } });

  beforeAll(async () => {
    broker = await startTestBroker();
    dataDir = await mkdtemp(join(tmpdir(), "ledger-test-"));
    remuda = await start();
    wire = asking(await connectRaw(broker.url));
  });
  afterAll(async () => {
    await wire.nats.close();
    await remuda.stop();
    await broker.stop();
    await rm(dataDir, { recursive: true, force: true });
  });

  /**
   * Waits until this instant has passed in the time of the pool's next leader. That time begins where the last commit
   * was stored.
   */
  const untilLaterThan = async (pool: string, instant: number): Promise<void> => {
    const last = (await wire.ledger(pool)).at(-1);
    const lagMs = (last?.storedAt ?? 0) - (last?.commit.at ?? 0);
    await eventually(async () => {
      const { ts } = await wire.api<{ ts: string }>("STREAM.INFO.REMUDA_LEDGER", {});
      expect(Date.parse(ts) - lagMs).toBeGreaterThan(instant + 1);
    });
  };

  /** The broker has to notice that the killed service is gone. Until then its requests get no answer. */
  const untilUnserved = (pool: string) =>
    eventually(async () => expect((await wire.ask("lease", pool, { uses: 0 }, 200)).status).toBe(503));

  const untilServed = (pool: string) =>
    eventually(async () => expect((await wire.ask("lease", pool, { uses: 0 })).status).toBeUndefined());

  test.each(["stopped", "killed"])(
    "outcomes published while it is %s are ingested when it is back, in order",
    async (how) => {
      const pool = `away-${how}`;
      const policy: Policy = { ...lax, lease: { graceMs: 20_000 } };
      await wire.open(pool, policy, ["10.9.1.1:80", "10.9.1.2:80"]);
      const request = { requestId: randomUUID(), uses: 6 };
      const lease = await wire.lease(pool, request);
      await wire.publish(pool, { leaseId: lease.leaseId, n: 6, status: 200 }, `${lease.leaseId}:6`);
      await eventually(async () => expect((await wire.stats(pool)).outcomes.succeeded).toBe(1));
      const brief = await wire.lease(pool, { uses: 2, ttlMs: 3000 });
      const count = (await wire.ledger(pool)).length;

      if (how === "stopped") await remuda.interrupt();
      else await remuda.kill9();
      await untilUnserved(pool);
      const { leaseId } = lease;
      await wire.publish(pool, { leaseId, n: 3, result: "failure", reason: "proxy-error" }, `${leaseId}:3`);
      await wire.publish(pool, [
        { leaseId, n: 1, status: 200 },
        { leaseId: brief.leaseId, n: 1, status: 200 },
        { leaseId: brief.leaseId, n: 2, status: 200 },
        "garbage",
        { leaseId, n: 6, status: 200 },
      ]);
      const last = await wire.publish(
        pool,
        { leaseId, n: 2, result: "failure", reason: "proxy-error" },
        `${leaseId}:2`,
      );
      expect((await wire.ledger(pool)).length).toBe(count);
      const stored = (await wire.messages(`remuda.outcome.${pool}`, "REMUDA_OUTCOMES")).map(({ storedAt }) => storedAt);
      await untilLaterThan(pool, Math.max(brief.expiresAt, ...stored));
      remuda = await start();
      await untilServed(pool);

      const later = (await wire.ledger(pool)).slice(count).map(({ commit }) => commit);
      const events = later.flatMap((commit) => commit.events);
      expect(events[0]).toMatchObject({ type: "LeaderClaimed", term: later[0]?.term });
      const uses = events.filter(({ type }) => type === "UseReported");
      expect(uses.map((use) => [use.leaseId, use.n])).toEqual([
        [leaseId, 3],
        [leaseId, 1],
        [brief.leaseId, 1],
        [brief.leaseId, 2],
        [leaseId, 2],
      ]);
      // As the broker has them: the second message contains three of these.
      const [, one, several, two] = stored;
      expect(uses.map(({ storedAt }) => storedAt)).toEqual([one, several, several, several, two]);
      for (const instant of [brief.expiresAt, ...stored]) expect(later[0]?.at).toBeGreaterThan(instant);
      // Stored in time: it was used up and did not expire, although its end passed meanwhile.
      const closed = events.filter(({ type }) => type === "LeaseClosed");
      expect(closed).toMatchObject([{ leaseId: brief.leaseId, how: "completed", used: 2 }]);
      expect(await wire.stats(pool)).toMatchObject({
        leases: { open: 1, granted: 2, expired: 0 },
        outcomes: { succeeded: 4, failed: 2, ignored: 2 },
      });
      expect((await wire.get(pool, lease.proxyId)).streak).toBe(1);
      await eventually(async () => {
        const cursor = (await wire.ledger(pool)).at(-1)?.commit.cursor.seq;
        expect(cursor).toBe(last.seq);
      });
      expect((await wire.lease(pool, request)).leaseId).toBe(leaseId);
      expect(await wire.stats(pool)).toMatchObject({ leases: { granted: 2 } });
    },
  );

  test("leaves no gap in its ledgers, and their chains hold", async () => {
    const terms = { default: 3, "away-stopped": 3, "away-killed": 2 };
    for (const [pool, count] of Object.entries(terms)) {
      const ledger = await wire.ledger(pool);
      expect(ledger.map(({ commit }) => commit.n)).toEqual(ledger.map((_, index) => index + 1));
      expect(ledger.slice(1).map(({ commit }) => commit.prev)).toEqual(
        ledger.slice(0, -1).map(({ bytes }) => sha256(bytes)),
      );
      expect(new Set(ledger.map(({ commit }) => commit.term)).size).toBe(count);
    }
  });
});
