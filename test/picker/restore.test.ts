// A ledger that goes on after its backup: all leases end as used, nothing is granted while unknown uses may count, and
// the audit reads both parts as one ledger.
import { expect, test } from "vitest";
import { decodeCommit, encodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { leavesOpen } from "../../events/pool.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { hashOf } from "../../runtime/loop.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { commitRestored } from "../../services/picker/lone-commits.ts";
import { foldCommit } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { findingsIn, forge, makeLedger, sourceOf } from "../audit/ledgers.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

function folded(commits: readonly Uint8Array[]): PoolState {
  const state = new PoolState("test");
  for (const bytes of commits) foldCommit(state, decodeCommit(Buffer.from(bytes).toString()));
  return state;
}

/** @returns the new commits. */
async function restored(before: readonly Buffer[], wall: number): Promise<Buffer[]> {
  const state = folded(before);
  const ledger = new MemoryLedger({ wall: () => wall });
  const backup = { last: before.length, sequence: 2 * before.length, backedUpAt: wall - 60_000 };
  const given = { ledger, leader: "restore-1", version: "1.2.3", hash: hashOf(before.at(-1) ?? Buffer.of()), backup };
  const mark = await commitRestored(state, given);
  const after = ledger.commits.map(({ bytes }) => Buffer.from(bytes));
  expect(mark).toEqual({ n: before.length + after.length, seq: after.length, hash: hashOf(after.at(-1)!) });
  expect(snapshotOf(folded([...before, ...after]))).toEqual(snapshotOf(state));
  return after;
}

const eventsOf = (commits: readonly Buffer[]): Event[] =>
  commits.flatMap((bytes) => decodeCommit(bytes.toString()).events as Event[]);

test("ends all leases as used, in as many commits as that takes; the audit finds nothing in the whole", async () => {
  const before = makeLedger(30, { requestsPerTurn: 80, proxies: 2000, pauseMs: 5 });
  const { leases, at } = folded(before);
  expect(leases.size).toBeGreaterThan(600);
  const after = await restored(before, at + 1000);
  expect(after.length).toBeGreaterThan(1);
  const events = eventsOf(after);
  expect(events.slice(0, 2)).toMatchObject([
    { type: "LeaderClaimed", leader: "restore-1", version: "1.2.3" },
    { type: "LedgerRestored", last: 30, sequence: 60, backedUpAt: at + 1000 - 60_000 },
  ]);
  const ends = events.filter(({ type }) => type === "LeaseClosed");
  expect(ends).toHaveLength(leases.size);
  for (const end of ends)
    expect(end).toMatchObject({ how: "expired", used: leases.get((end as { leaseId: string }).leaseId)?.uses });
  const whole = [...before, ...after];
  expect(await findingsIn(whole)).toEqual([]);
  expect(folded(whole).archived).toEqual({ n: 30, sequence: 60 });
  // Decided once more, it comes out as recorded.
  expect(await whatIf(sourceOf(whole), { policy: {}, waitMs: 0 })).toMatchObject({
    reproduced: { isExact: true },
    same: { commits: whole.length, of: whole.length },
  });
});

test("finds a lease that is granted too early, and an end of the pause that is too early", async () => {
  const before = makeLedger(40);
  const { at } = folded(before);
  const after = await restored(before, at + 1000);
  const whole = [...before, ...after];
  const early = forge(whole, 40, ({ events }) => {
    const event = events.find((each) => (each as Event).type === "LedgerRestored") as { until: number; last: number };
    event.until = at + 1000;
    event.last = 39;
  });
  const grant = eventsOf(before).find(({ type }) => type === "LeaseGranted");
  const last = decodeCommit(whole.at(-1)!.toString());
  const head = { ...last, n: last.n + 1, prev: hashOf(whole.at(-1)!), at: last.at + 10 };
  const granted = encodeCommit(head, [JSON.stringify({ ...grant, leaseId: "l_x" })]);
  expect((await findingsIn([...whole, Buffer.from(granted)])).map(({ what }) => what)).toContainEqual(
    expect.stringMatching(/^l_x is granted before \d+, after the ledger was restored$/),
  );
  const found = (await findingsIn(early)).map(({ what }) => what);
  expect(found).toContain("commit 41 restores a ledger up to commit 39");
  expect(found).toContainEqual(expect.stringMatching(/^leases are granted again from \d+, and uses after the backup/));
});

test("a restored pool grants nothing until the longest lease and the widest window are over", () => {
  const rate = [
    { limit: 5, windowMs: 60_000 },
    { limit: 50, windowMs: 3_600_000 },
  ];
  const pool = new TestPool({ rate, lease: { ttlMs: 90_000, ttlMsMax: 600_000, graceMs: 2000 }, marginMs: 100 });
  pool.add(proxyLines(3));
  const lease = pool.granted({ uses: 3 });
  const backup = { last: pool.state.commits, sequence: 7, backedUpAt: pool.at };
  pool.wait(5000);
  expect(pool.decide({ type: "restore", ...backup })).toEqual({ settled: true });
  expect(pool.types()).toEqual(["LedgerRestored", "LeaseClosed.available"]);
  expect(pool.decide({ type: "restore", ...backup })).toEqual({ settled: true });
  expect(pool.facts).toEqual([]);
  const heldMs = 600_000 + 2000 + 3_600_000 + 100;
  expect(pool.refused({ waitMs: 10_000 })).toMatchObject({ code: "unavailable", retryAfterMs: heldMs });
  // Reports of the leases that ended still count.
  expect(pool.report(lease, { n: 1, result: "success" })).toMatchObject({ lease: { id: lease.leaseId } });
  pool.wait(heldMs - 1);
  expect(pool.refused()).toMatchObject({ code: "unavailable", retryAfterMs: 1 });
  pool.wait(1);
  expect(pool.granted({ uses: 5 })).toMatchObject({ uses: 5 });
});

test("a closed pool stays closed, and says so in its last commit", async () => {
  const pool = new TestPool();
  pool.add(proxyLines(1));
  pool.granted();
  pool.turn((turn) => turn.emit({ type: "PoolClosed" }));
  pool.decide({ type: "restore", last: pool.state.commits, sequence: 7, backedUpAt: pool.at });
  expect(pool.facts).toMatchObject([{ type: "LedgerRestored", closed: true }]);
  expect(leavesOpen(pool.facts)).toBe(false);
});
