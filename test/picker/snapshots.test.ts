// Snapshots in a real object store, and ledgers that are folded from them.
import { TimeoutError } from "@nats-io/transport-node";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { callJs, streamInfo } from "../../runtime/jetstream-api.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { hashOf } from "../../runtime/loop.ts";
import { ObjectStore } from "../../runtime/object-store.ts";
import { type Folded, foldLedger, recovered } from "../../services/picker/fold.ts";
import { type Mark, Snapshots } from "../../services/picker/snapshots.ts";
import { advance, foldCommit } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { canonical } from "../../state-machines/structures/canonical.ts";
import { forge, makeLedger } from "../audit/ledgers.ts";
import { sharedTestBroker } from "../kit/broker.ts";

const stream = "OBJ_remuda-snapshots";
const pool = "default";
const commits = makeLedger(300, { names: true });
let bus: Bus;
let snapshots: Snapshots;
/** Sentences about snapshots that were not used. */
let said: string[];
/** Where each fold began to read. */
let reads: number[];

beforeAll(async () => {
  bus = await openBus((await sharedTestBroker()).url, "test");
  snapshots = new Snapshots(bus);
});
beforeEach(async () => {
  await snapshots.remove(pool);
  said = [];
  reads = [];
});
afterAll(async () => {
  await snapshots?.remove(pool);
  await bus?.close();
});

/** With the sequences of a stream that another ledger shares. */
class Ledger extends MemoryLedger {
  constructor(ledger: readonly Buffer[]) {
    super();
    for (const [i, bytes] of ledger.entries())
      this.commits.push({ seq: 2 * (i + 1), id: String(i), storedAt: 1_700_000_000_000, bytes });
  }

  override read(afterSeq: number): ReturnType<MemoryLedger["read"]> {
    reads.push(afterSeq);
    return super.read(afterSeq);
  }
}

const markOf = (ledger: readonly Buffer[], n: number): Mark => ({ n, seq: 2 * n, hash: hashOf(ledger[n - 1]!) });

function foldOf(ledger: readonly Buffer[], n = ledger.length): PoolState {
  const state = new PoolState(pool);
  for (const bytes of ledger.slice(0, n)) foldCommit(state, decodeCommit(bytes.toString()));
  return state;
}

const save = (ledger: readonly Buffer[], n: number): Promise<string> =>
  snapshots.save(pool, markOf(ledger, n), foldOf(ledger, n));

async function recover(ledger: readonly Buffer[], witnessed?: Mark): Promise<Folded> {
  const ports = { pool, ledger: new Ledger(ledger), clock: systemClock, snapshots, witnessed };
  const key = { fingerprint: foldOf(ledger, 1).keyFingerprint };
  const folded = await foldLedger({ ...ports, key, onBadSnapshot: (why) => said.push(why) });
  expect(folded).toMatchObject({ seq: 2 * ledger.length, hash: hashOf(ledger.at(-1)!) });
  const whole = foldOf(ledger);
  advance(whole, folded.state.at); // The pool's time has gone on since.
  expect(canonical(snapshotOf(folded.state)) === canonical(snapshotOf(whole))).toBe(true);
  return folded;
}

const chunks = async (): Promise<[subject: string, count: number][]> => {
  const { state } = await streamInfo(bus, stream, { subjects_filter: "$O.remuda-snapshots.C.>" });
  return Object.entries(state.subjects ?? {});
};

test("folds only the commits after the newest snapshot", async () => {
  expect(await snapshots.of(pool)).toEqual([]);
  for (const n of [100, 200]) await save(commits, n);
  await recover(commits);
  expect(reads).toEqual([399]);
  expect(said).toEqual([]);
  // Also if there is nothing after it.
  await save(commits, 300);
  await recover(commits);
  expect(reads).toEqual([399, 599]);
});

test("keeps the newest two, and nothing of the others", async () => {
  for (const n of [100, 150, 200]) await save(commits, n);
  expect((await snapshots.of(pool)).map(({ n }) => n)).toEqual([200, 150]);
  expect(await chunks()).toHaveLength(2);
  await snapshots.remove(pool);
  expect(await chunks()).toEqual([]);
});

test("keeps the new ones of a ledger that was lost, though the old ones have higher numbers", async () => {
  for (const n of [250, 300]) await save(commits, n);
  for (const n of [100, 150, 200]) await save(commits, n);
  expect((await snapshots.of(pool)).map(({ n }) => n)).toEqual([300, 250, 200, 150]);
});

test("counts no snapshot as bad because the broker does not answer", async () => {
  await save(commits, 200);
  const request = async (): Promise<never> => Promise.reject(new TimeoutError());
  const away = new Snapshots({ ...bus, nc: { ...bus.nc, request } } as Bus);
  const seen = { of: () => snapshots.of(pool), load: () => away.load(pool, markOf(commits, 200)) };
  const ports = { pool, ledger: new Ledger(commits), clock: systemClock, snapshots: seen };
  await expect(recovered(ports)).rejects.toMatchObject({ code: "retry-later" });
  expect(reads).toEqual([]);
});

test("folds the whole ledger while the stream of snapshots has no leader, and calls no ledger damaged then", async () => {
  const seen = { of: () => Promise.reject(new TimeoutError()), load: () => Promise.reject(new Error("not asked")) };
  const onBadSnapshot = (why: string): void => void said.push(why);
  const ports = { pool, clock: systemClock, snapshots: seen, onBadSnapshot };
  const { state } = await recovered({ ...ports, ledger: new Ledger(commits) });
  expect(state.commits).toBe(commits.length);
  expect(said).toEqual([expect.stringMatching(/^the snapshots of pool default cannot be listed/)]);
  // Its beginning is elsewhere.
  const rest = new Ledger(commits);
  rest.commits.splice(0, 100);
  await expect(recovered({ ...ports, ledger: rest })).rejects.toMatchObject({ code: "retry-later" });
});

test("removes the chunks of a writer that was killed, but not those of one that is at work", async () => {
  const store = new ObjectStore(bus, "remuda-snapshots");
  await save(commits, 100);
  await bus.nc.request("$O.remuda-snapshots.C.left", "a chunk");
  await store.removeLeftovers();
  expect(await chunks()).toHaveLength(2);
  await store.removeLeftovers({ olderThanMs: -1000 });
  expect(await chunks()).toHaveLength(1);
  await recover(commits);
  expect(said).toEqual([]);
});

test("skips a snapshot that is not whole, and says so", async () => {
  for (const n of [100, 200]) await save(commits, n);
  const { state } = await streamInfo(bus, stream);
  // Its only chunk is right before its description, which is the last message.
  await callJs(bus, `STREAM.MSG.DELETE.${stream}`, { seq: state.last_seq - 1 });
  await recover(commits);
  expect(reads).toEqual([199]);
  expect(said).toEqual(["the snapshot of pool default at commit 200 is not used: it has 0 of 1 chunks"]);
});

test("never continues a snapshot of another history, and folds the whole ledger if there is no other", async () => {
  await save(commits, 200);
  const other = forge(commits, 150, (commit) => {
    commit.at += 1;
    commit.events = [];
  }).slice(0, 151);
  await recover(other);
  expect(reads).toEqual([399, 0]);
  expect(said).toEqual([
    "the snapshot of pool default at commit 200 is not used: the ledger does not have its last commit",
  ]);
});

test("names the damage of a ledger, not of the snapshots", async () => {
  for (const n of [100, 200]) await save(commits, n);
  const damaged = commits.with(250, Buffer.from("{"));
  await expect(recover(damaged)).rejects.toThrow(/^The ledger of pool default is damaged at sequence 502/);
  expect(said).toHaveLength(2);
});

test("finds a witnessed commit before, at and after the snapshot's, and none that the ledger does not have", async () => {
  await save(commits, 200);
  for (const n of [150, 200, 250])
    expect((await recover(commits, markOf(commits, n))).witnessedHash, String(n)).toBe(hashOf(commits[n - 1]!));
  expect((await recover(commits, { n: 301, seq: 602, hash: "" })).witnessedHash).toBeUndefined();
  expect((await recover(commits, { n: 150, seq: 301, hash: "" })).witnessedHash).toBeUndefined();
});
