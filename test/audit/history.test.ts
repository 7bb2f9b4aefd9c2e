// The past of a pool: its state at any moment, folded from the beginning or from a checkpoint.
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CommitEnvelope, decodeCommit } from "../../events/commit.ts";
import { checkpointsIn } from "../../services/audit/checkpoint.ts";
import { comparedOf, differenceOf } from "../../services/audit/difference.ts";
import { stateAt } from "../../services/audit/history.ts";
import type { Entry, LedgerSource } from "../../services/audit/source.ts";
import { advance, foldCommit } from "../../state-machines/fold/evolve.ts";
import { restore, snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { seeded } from "../kit/seed.ts";
import { findEvent, forge, makeLedger, randomPolicy, sourceOf } from "./ledgers.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "audit-test-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const decode = (bytes: Buffer): CommitEnvelope => decodeCommit(bytes.toString());
/** The snapshot with sorted field names, because a restored one has another order. */
const pictureOf = (state: PoolState): string =>
  createHash("sha256")
    .update(JSON.stringify({ ...(snapshotOf(state) as object), pool: "" }, inOrder))
    .digest("hex");
const inOrder = (_key: string, value: unknown): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;

function foldAll(commits: readonly Buffer[]): PoolState {
  const state = new PoolState("");
  for (const bytes of commits) foldCommit(state, decode(bytes));
  return state;
}

test("restores the same state from a snapshot, then and after every later commit", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seeded(seed);
    // Long pauses, so that retired proxies are forgotten on the way.
    const policy = randomPolicy(random);
    const ledger = makeLedger(200, {
      names: true,
      seed,
      policy,
      otherPolicies: [randomPolicy(random)],
      chaos: 30,
      pauseMs: seed % 2 === 0 ? 600_000 : 1000,
    });
    const cut = random.int(1, 199);
    const state = foldAll(ledger.slice(0, cut));
    const restored = restore(JSON.parse(JSON.stringify(snapshotOf(state))));
    expect(pictureOf(restored), `seed ${seed}`).toBe(pictureOf(state));
    for (const bytes of ledger.slice(cut)) {
      foldCommit(state, decode(bytes));
      foldCommit(restored, decode(bytes));
      if (restored.commits % 25 === 0) expect(pictureOf(restored), `seed ${seed}`).toBe(pictureOf(state));
    }
    expect([...restored.ids.after(undefined)], `seed ${seed}`).toEqual([...state.ids.after(undefined)]);
  }
});

test("gives the fold up to any sequence or time, with and without checkpoints", async () => {
  const ledger = makeLedger(400);
  const source = sourceOf(ledger);
  const checkpoints = checkpointsIn(folder);
  await stateAt(source, undefined, { checkpoints, checkpointEvery: 100 });
  expect(checkpoints.marks().length).toBeGreaterThan(5);
  for (const n of [1, 57, 200, 399, 400]) {
    const { at } = decode(ledger[n - 1]!);
    const expected = pictureOf(foldAll(ledger.slice(0, n)));
    for (const reading of [{}, { checkpoints }]) {
      const past = await stateAt(source, { sequence: 2 * n }, reading);
      expect(pictureOf(past.state)).toBe(expected);
      expect(past.mark).toMatchObject({ n, sequence: 2 * n, at });
    }
  }
  // Time passes between two commits.
  const at = decode(ledger[299]!).at;
  const next = decode(ledger.find((bytes) => decode(bytes).at > at)!).at;
  const commits = ledger.filter((bytes) => decode(bytes).at <= at);
  const between = foldAll(commits);
  advance(between, next - 1);
  expect(pictureOf((await stateAt(source, { at: next - 1 }, { checkpoints })).state)).toBe(pictureOf(between));
});

test("reads only what comes after a checkpoint", async () => {
  const ledger = makeLedger(400);
  const checkpoints = checkpointsIn(folder);
  const all: number[] = [];
  await stateAt(sourceOf(ledger), undefined, {
    checkpoints,
    checkpointEvery: 100,
    onCommit: (commit) => all.push(commit.n),
  });
  const again: number[] = [];
  await stateAt(sourceOf(ledger), undefined, { checkpoints, onCommit: (commit) => again.push(commit.n) });
  expect(all).toHaveLength(400);
  expect(again[0]).toBe(checkpoints.marks().at(-1)!.n + 1);
});

test("keeps a bounded number of checkpoints, spread over the ledger, and the last one", async () => {
  const ledger = makeLedger(400);
  const few = checkpointsIn(folder, { files: 4, bytes: 1e9 });
  await stateAt(sourceOf(ledger), undefined, { checkpoints: few, checkpointEvery: 50 });
  const kept = few.marks().map(({ n }) => n);
  expect(kept).toHaveLength(4);
  const gaps = kept.map((n, i) => n - (kept[i - 1] ?? 0));
  expect(Math.max(...gaps)).toBeLessThan(250);
  const last = kept.at(-1);
  // A state has more bytes than are allowed for all.
  const one = checkpointsIn(folder, { files: 4, bytes: 100 });
  await stateAt(sourceOf(ledger), undefined, { checkpoints: one, checkpointEvery: 20 });
  expect(one.marks()).toHaveLength(1);
  expect(one.marks()[0]?.n).toBeGreaterThanOrEqual(last ?? 0);
});

test("throws away a checkpoint that is changed, cut off, or of another history", async () => {
  const ledger = makeLedger(300);
  const source = sourceOf(ledger);
  const checkpoints = checkpointsIn(folder);
  const build = () => stateAt(source, undefined, { checkpoints, checkpointEvery: 150 });
  const expected = pictureOf((await build()).state);
  const count = checkpoints.marks().length;

  for (const spoil of [
    (bytes: Buffer) => bytes.subarray(0, 200),
    (bytes: Buffer) => bytes.fill(0, bytes.length - 9),
    () => Buffer.alloc(0),
  ]) {
    for (const name of readdirSync(folder)) writeFileSync(join(folder, name), spoil(readFileSync(join(folder, name))));
    expect(pictureOf((await stateAt(source, undefined, { checkpoints })).state)).toBe(expected);
    expect(checkpoints.marks()).toEqual([]);
    await build();
    expect(checkpoints.marks()).toHaveLength(count);
  }

  // Whole, but under another checkpoint's name.
  const paths = readdirSync(folder).map((name) => join(folder, name));
  const contents = paths.map((path) => readFileSync(path));
  for (const [i, path] of paths.entries()) writeFileSync(path, contents[(i + 1) % paths.length]!);
  expect(pictureOf((await stateAt(source, undefined, { checkpoints })).state)).toBe(expected);
  await build();

  // The same numbers and sequences, another history: only the hash can tell.
  const { index, place } = findEvent(ledger, (event) => event["latencyMs"] !== undefined);
  const other = sourceOf(
    forge(ledger, index, (commit) => Object.assign(commit.events[place] as object, { latencyMs: 77 })),
  );
  await stateAt(other, undefined, { checkpoints });
  expect(checkpoints.marks()).toEqual([]);
});

/** As a file has them. */
async function* withoutSequences(source: LedgerSource): AsyncGenerator<Entry[]> {
  for await (const batch of source.read()) yield batch.map((entry, i) => ({ ...entry, seq: 0, line: i + 1 }));
}

test("refuses moments outside the ledger in a sentence", async () => {
  const source = sourceOf(makeLedger(10));
  await expect(stateAt(source, { sequence: 999 })).rejects.toThrow("memory ends at sequence 20, before 999.");
  const last = { ...(await source.last())!, seq: 0 };
  const file = { ...source, read: () => withoutSequences(source), last: async () => last };
  await expect(stateAt(file, { sequence: 11 })).rejects.toThrow("memory ends with commit 10, before 11.");
  expect((await stateAt(file, { sequence: 10 })).mark.n).toBe(10);
  await expect(stateAt(source, { at: 5 })).rejects.toThrow("memory begins later. Give a later moment.");
  await expect(stateAt(sourceOf([]), undefined)).rejects.toThrow("memory has no commits.");
});

test("does not fold a damaged ledger, and names the place", async () => {
  const ledger = makeLedger(50);
  await expect(stateAt(sourceOf(ledger.toSpliced(30, 1)), undefined)).rejects.toThrow(
    /memory is damaged at sequence 62: .*hash chain is broken/,
  );
  await expect(stateAt(sourceOf(ledger.with(30, Buffer.from("{"))), undefined)).rejects.toMatchObject({
    code: "stop-damaged",
  });
});

test("lists added, removed and changed values in a difference, and nothing else", async () => {
  const ledger = makeLedger(300, {
    policy: { rate: { limit: 5, windowMs: 1000 } },
    otherPolicies: [{ rate: { limit: 7 } }],
    chaos: 20,
  });
  const early = comparedOf((await stateAt(sourceOf(ledger), { sequence: 2 })).state);
  const late = comparedOf((await stateAt(sourceOf(ledger), { sequence: 600 })).state);
  expect(differenceOf(late, late)).toMatchObject({
    proxies: { added: [], gone: [], changed: [] },
    policy: [],
    pool: [],
    leases: { opened: [], ended: [] },
  });
  const difference = differenceOf(early, late);
  expect(difference.policy).toEqual([{ field: "rate.limit", before: 5, after: 7 }]);
  expect(difference.proxies.changed.length).toBeGreaterThan(5);
  const middle = comparedOf((await stateAt(sourceOf(ledger), { sequence: 300 })).state);
  expect(middle.leases.size).toBeGreaterThan(0);
  const { leases } = differenceOf(middle, late);
  expect(leases.ended.length + leases.stillOpen).toBe(middle.leases.size);
  expect(leases.opened.length + leases.stillOpen).toBe(late.leases.size);
  expect(leases.ended.every((id) => middle.leases.has(id) && !late.leases.has(id))).toBe(true);
  expect(leases.ended.length).toBeGreaterThan(0);
  for (const { id, changes } of difference.proxies.changed) {
    for (const { field, after } of changes.filter((change) => !change.field.includes("."))) {
      expect(late.proxies.get(id)?.[field as "score"]).toEqual(after);
    }
  }
});
