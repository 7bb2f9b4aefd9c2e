// A snapshot as lines: it stands for the commits before it, whatever they were.
import { expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import { foldCommit } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { SnapshotReader, snapshotLines } from "../../state-machines/fold/snapshot-lines.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { canonical } from "../../state-machines/structures/canonical.ts";
import { simulatedLedger } from "../audit/simulated.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { seeded } from "../kit/seed.ts";
import { loaded } from "../sim/snapshots.ts";

const seeds = Array.from({ length: 5 }, (_, i) => i + 1);

test("a snapshot and the commits after it fold to the same state as all commits, wherever it was made", async () => {
  for (const seed of seeds) {
    const ledger = (await simulatedLedger(seed)).map((bytes) => decodeCommit(bytes.toString()));
    const cut = seeded(seed).int(1, ledger.length - 1);
    const state = new PoolState("sim");
    for (const commit of ledger.slice(0, cut)) foldCommit(state, commit);
    const restored = loaded(snapshotLines(state));
    for (const commit of ledger.slice(cut)) {
      foldCommit(state, structuredClone(commit));
      foldCommit(restored, structuredClone(commit));
    }
    expect(canonical(snapshotOf(restored)), `seed ${seed}, commit ${cut}`).toBe(canonical(snapshotOf(state)));
  }
});

test("leaders that start from snapshots decide the same, byte for byte", async () => {
  for (const seed of seeds) {
    const [never, always] = [
      await simulatedLedger(seed, { snapshots: 0 }),
      await simulatedLedger(seed, { snapshots: 1 }),
    ];
    expect(Buffer.concat(always).equals(Buffer.concat(never)), `seed ${seed}`).toBe(true);
  }
});

test("no line holds more than a part of a long list", () => {
  const pool = new TestPool();
  for (const port of [81, 82, 83, 84, 85]) pool.add(proxyLines(200).map((line) => line.replace(":8080", `:${port}`)));
  const lines = [...snapshotLines(pool.state)];
  expect(lines.length).toBe(7);
  expect(Math.max(...lines.map(({ length }) => length))).toBeLessThan(150_000);
  expect(canonical(snapshotOf(loaded(lines)))).toBe(canonical(snapshotOf(pool.state)));
});

test("a snapshot of another version is refused in a sentence", () => {
  const [first = ""] = snapshotLines(new PoolState("sim"));
  const other = first.replace(/"version":\d+/, '"version":1');
  expect(() => new SnapshotReader().add(other)).toThrow(/its version is 1, and this program reads \d+/);
});
