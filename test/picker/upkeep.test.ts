// A pool's past is kept: a snapshot, the archive, and a stream that was purged below both. The ledger is artificial, in
// a real stream and with a real leader.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { decodeCommit, encodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { leavesOpen } from "../../events/pool.ts";
import { ledgerStream, ledgerSubject } from "../../protocol/subjects.ts";
import { Archive } from "../../runtime/archive/archive.ts";
import { systemClock } from "../../runtime/clock.ts";
import { headOf } from "../../runtime/commit-head.ts";
import { callJs, streamInfo } from "../../runtime/jetstream-api.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { hashOf } from "../../runtime/loop.ts";
import { ledgersOn } from "../../services/api/ledger.ts";
import { streamSourceOn } from "../../services/audit/stream-source.ts";
import { verify } from "../../services/audit/verify.ts";
import { type Folded, foldLedger } from "../../services/picker/fold.ts";
import type { Leader } from "../../services/picker/leader.ts";
import { Snapshots } from "../../services/picker/snapshots.ts";
import { Upkeep, type UpkeepSettings } from "../../services/picker/upkeep.ts";
import { foldCommit } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { canonical } from "../../state-machines/structures/canonical.ts";
import { makeLedger } from "../audit/ledgers.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { eventually } from "../kit/poll.ts";
import { startStreams, type TestStreams } from "../kit/streams.ts";

const pool = "default";
const key = { fingerprint: "0123456789abcdef" };
const log = pino({ level: "silent" });
const hourMs = 3_600_000;
const made = makeLedger(1400, { names: true });
let streams: TestStreams;
let folder: string;
let archive: Archive;
let snapshots: Snapshots;
let ledger: JetStreamLedger;
let leader: Leader;
/** The commits before anything was purged. The leader adds some while the tests run, when leases and rests end. */
let all: Read[];

beforeAll(async () => {
  streams = await startStreams();
  const { bus } = streams;
  folder = mkdtempSync(join(tmpdir(), "archive-test-"));
  archive = new Archive(folder);
  snapshots = new Snapshots(bus);
  const plain = new JetStreamLedger({ bus, stream: ledgerStream, subject: ledgerSubject(pool) });
  ledger = ledgerWith(archive);
  let afterSeq = 0;
  for (const [i, bytes] of made.entries()) {
    if (i % 7 === 0) await bus.nc.request(ledgerSubject("other"), "a commit of another pool");
    const appended = await plain.append({ id: `id-${i}`, bytes, afterSeq });
    afterSeq = appended === "fenced" ? 0 : appended.seq;
  }
  const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
  const ports = { pool, id: "leader", ledger, feed, clock: systemClock, key, secrets: noSecrets };
  leader = await foldedLeader({ ...ports, tell: () => {} });
  await leader.lead();
  all = await commitsOf(plain);
});
afterAll(async () => {
  leader?.stop();
  await streams?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function ledgerWith(from: Archive): JetStreamLedger {
  return new JetStreamLedger({
    ...{ bus: streams.bus, stream: ledgerStream, subject: ledgerSubject(pool) },
    whole: (...stored) => from.whole(pool, ...stored),
  });
}

type Read = Omit<StoredCommit, "bytes"> & { text: string };

async function commitsOf(from: JetStreamLedger, afterSeq = 0): Promise<Read[]> {
  const commits: Read[] = [];
  for await (const { bytes, ...rest } of from.read(afterSeq))
    commits.push({ ...rest, text: Buffer.from(bytes).toString() });
  return commits;
}

const numbersIn = (commits: readonly Read[]): number[] => commits.map(({ text }) => decodeCommit(text).n);

/** The commits in the stream itself. */
const stored = (): Promise<Read[]> => commitsOf(ledgerWith(new Archive(join(folder, "none"))));

function upkeep(
  keepBytes: number,
  { ports, ...given }: Partial<UpkeepSettings> & { ports?: Partial<ConstructorParameters<typeof Upkeep>[0]> } = {},
): Upkeep {
  const settings = {
    ...{ natsUrl: streams.broker.url, caFile: undefined, archiveFolder: folder },
    ...{ keepBytes, keepMs: 1e12, ...given },
  };
  return new Upkeep({ settings, bus: streams.bus, clock: systemClock, log, bytes: () => 0, led: () => [], ...ports });
}

/** Of an earlier ledger of the pool. */
async function* earlier(): AsyncGenerator<StoredCommit> {
  for (const [i, bytes] of makeLedger(20, { seed: 2 }).entries()) yield { seq: i + 1, id: "", storedAt: 1e12, bytes };
}

const bytesTimes = async (share: number): Promise<number> =>
  Math.ceil((await streamInfo(streams.bus, ledgerStream)).state.bytes * share);

const fold = (given: Partial<Parameters<typeof foldLedger>[0]> = {}): Promise<Folded> =>
  foldLedger({ pool, ledger, clock: systemClock, key, ...given });

/** Its time is the moment of folding. */
const pictureOf = ({ state }: Folded): string => canonical({ ...snapshotOf(state), at: 0 });

test("archives nothing as long as the stream keeps everything, and makes a snapshot", async () => {
  await upkeep(1e9).lookAfter({ pool, leader });
  const [mark] = await snapshots.of(pool);
  expect(mark?.n).toBeGreaterThanOrEqual(all.length);
  expect(archive.segments(pool)).toEqual([]);
  expect((await stored()).slice(0, all.length)).toEqual(all);
});

test("sets aside the archive of an earlier ledger of the pool, but no part of this one", async () => {
  const own = await archive.add(ledger.read(0), { pool, lastSeq: all[9]!.seq, bytesMax: 1e9 });
  const other = await archive.add(earlier(), { pool, lastSeq: 20, bytesMax: 1e9 });
  await upkeep(1e9).lookAfter({ pool, leader });
  expect(archive.segments(pool)).toEqual([own]);
  const aside = archive.pools().find((name) => name !== pool)!;
  expect(archive.segments(aside)).toEqual([other]);
  // It is not kept longer than other files.
  await upkeep(1e9, { archiveKeepMs: 1e9 }).lookAfter({ pool, leader });
  expect(archive.segments(pool)).toEqual([own]);
  expect(archive.segments(aside)).toEqual([]);
  await archive.removeOlder(pool, Number.POSITIVE_INFINITY);
});

test("moves the past to the archive, says so in the ledger, and reads both as one", async () => {
  await upkeep(await bytesTimes(0.5)).lookAfter({ pool, leader });
  const [segment, ...more] = archive.segments(pool);
  expect(segment).toMatchObject({ pool, first: { n: 1 }, prev: "" });
  expect(more).toEqual([]);
  const last = segment!.last.n;
  expect(last / all.length).toBeGreaterThan(0.55);
  expect(last / all.length).toBeLessThan(0.75);
  const left = await stored();
  expect(numbersIn(left)[0]).toBe(last + 1);
  const [mark] = await snapshots.of(pool);
  const archived = { first: 1, last, sequence: segment!.last.sequence, hash: segment!.sha256, inert: true };
  const said = left.flatMap(({ text }) => decodeCommit(text).events as Event[]);
  expect(said.filter(({ type }) => type === "SegmentArchived")).toEqual([
    { type: "SegmentArchived", ...archived, snapshot: await snapshots.hashOf(pool, mark!) },
  ]);
  // Byte for byte, with sequences, times and ids.
  expect((await commitsOf(ledger)).slice(0, all.length)).toEqual(all);
  expect((await commitsOf(ledger, all[99]!.seq)).slice(0, all.length - 100)).toEqual(all.slice(100));
  // The other pool has all its messages.
  const subjects = await streamInfo(streams.bus, ledgerStream, { subjects_filter: ledgerSubject("other") });
  expect(subjects.state.subjects).toEqual({ [ledgerSubject("other")]: Math.ceil(made.length / 7) });
});

test("a witness that was archived on another machine is no other ledger's", async () => {
  const elsewhere = { ledger: ledgerWith(new Archive(join(folder, "none"))), snapshots };
  const witnessed = { n: 5, seq: all[4]!.seq, hash: "as it was stored" };
  expect((await fold({ ...elsewhere, witnessed })).witnessedHash).toBe("as it was stored");
  // Here it is known.
  expect((await fold({ snapshots, witnessed })).witnessedHash).toBe(hashOf(Buffer.from(all[4]!.text)));
  expect((await fold({ ...elsewhere, witnessed: { ...witnessed, n: 1e6, seq: 1e6 } })).witnessedHash).toBeUndefined();
});

test("the audit verifies archive and stream as one ledger, and finds an archived commit by its sequence", async () => {
  const source = await streamSourceOn(streams.bus, pool, { archive });
  expect(await verify(source, {})).toMatchObject({ isWell: true, decisionsChecked: true, first: { n: 1 } });
  const elsewhere = await verify(await streamSourceOn(streams.bus, pool), {});
  expect(elsewhere).toMatchObject({ isWell: true, decisionsChecked: false });
  expect(elsewhere.notices.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^commits 1 to \d+ are archived, and not in an archive here\. Run this where/),
  ]);
  // So does HTTP.
  const gone = new AbortController();
  const events = ledgersOn({ control: streams.bus, events: streams.bus }, { archive });
  const numbers: number[] = [];
  for await (const { bytes } of events.follow(pool, { seq: 0, at: 0 }, gone.signal))
    if (numbers.push(headOf(bytes)!.n) === all.length) break;
  gone.abort();
  expect(numbers).toEqual(all.map((_, i) => i + 1));
  const { seq, text } = all[50]!;
  expect((await source.entryAt!(seq))?.bytes.toString()).toBe(text);
});

test("the audit finds no commit of an earlier ledger of the pool", async () => {
  const other = await archive.add(earlier(), { pool, lastSeq: 20, bytesMax: 1e9 });
  const source = await streamSourceOn(streams.bus, pool, { archive });
  const { seq, text } = all[0]!;
  expect(seq).toBeLessThan(20);
  expect((await source.entryAt!(seq))?.bytes.toString()).toBe(text);
  await archive.setAside(pool, [other!]);
});

test("purges no commit after the older of two snapshots, because a power cut may take the newer one", async () => {
  const n = archive.segments(pool).at(-1)!.last.n + 20;
  const state = new PoolState(pool);
  for (const { text } of all.slice(0, n)) foldCommit(state, decodeCommit(text));
  await snapshots.remove(pool);
  const { seq, text } = all[n - 1]!;
  await snapshots.save(pool, { n, seq, hash: hashOf(Buffer.from(text)) }, state);
  await upkeep(await bytesTimes(0.3)).lookAfter({ pool, leader });
  expect(archive.segments(pool).at(-1)!.last.n).toBeGreaterThan(n);
  expect(numbersIn(await stored())[0]).toBe(n);
  const older = { of: async () => (await snapshots.of(pool)).slice(1), load: snapshots.load.bind(snapshots) };
  expect((await fold({ snapshots: older, ledger: ledgerWith(new Archive("none")) })).state.commits).toBeGreaterThan(n);
  await snapshots.remove(pool);
});

test("goes on with the next segment, and needs no purge that an earlier job has done", async () => {
  await upkeep(await bytesTimes(0.3)).lookAfter({ pool, leader });
  const [first, second] = archive.segments(pool);
  expect(second).toMatchObject({ first: { n: first!.last.n + 1 }, prev: first!.head });
  expect(numbersIn(await stored())[0]).toBe(second!.last.n + 1);
  const source = await streamSourceOn(streams.bus, pool, { archive });
  expect(await verify(source, {})).toMatchObject({ isWell: true, first: { n: 1 } });
});

test("tries again after a minute if it fails", async () => {
  const warn = vi.fn();
  let now = 0;
  let next: (() => void) | undefined;
  const after = (_ms: number, callback: () => void) => {
    next = callback;
    return () => {};
  };
  const led = { pool, leader, folded: 1e6 };
  const failing = upkeep(1e9, {
    natsUrl: "nats://127.0.0.1:1",
    ports: { clock: { monotonic: () => now, after }, log: { info: () => {}, warn }, led: () => [led] },
  });
  const look = async (): Promise<void> => {
    const run = next;
    next = undefined;
    run?.();
    await eventually(() => expect(next).toBeDefined());
  };
  failing.start();
  for (const [ms, times] of [
    [0, 1],
    [30_000, 1],
    [30_000, 2],
  ] as const) {
    now += ms;
    await look();
    expect(warn.mock.calls.map(([said]) => said)).toEqual(
      Array(times).fill({ pool, why: expect.stringContaining("No NATS server") }),
    );
  }
  failing.stop();
});

test("folds from the snapshot, or from the archive if there is no snapshot", async () => {
  leader.stop();
  const none = ledgerWith(new Archive("none"));
  const folds = async (): Promise<Folded[]> => [await fold({ snapshots, ledger: none }), await fold()];
  // The leader's last commit may still have come between the two.
  const [fast, whole] = await eventually(async () => {
    const [one, other] = await folds();
    expect(one!.seq).toBe(other!.seq);
    return [one!, other!] as const;
  });
  expect(fast.state.archived.n).toBe(archive.segments(pool).at(-1)!.last.n);
  expect(pictureOf(fast)).toBe(pictureOf(whole));
  await expect(fold({ ledger: none })).rejects.toMatchObject({ code: "stop-damaged" });
});

test("stores a snapshot again if that of the same commit is bad", async () => {
  await upkeep(1e9).lookAfter({ pool, leader });
  const [mark] = await snapshots.of(pool);
  const stream = "OBJ_remuda-snapshots";
  // Its last chunk is right before its description, which is the last message.
  const { last_seq } = (await streamInfo(streams.bus, stream)).state;
  await callJs(streams.bus, `STREAM.MSG.DELETE.${stream}`, { seq: last_seq - 1 });
  await expect(snapshots.load(pool, mark!)).rejects.toThrow("chunks");
  await upkeep(1e9).lookAfter({ pool, leader });
  expect(await snapshots.load(pool, mark!)).toMatchObject({ commits: mark!.n });
});

test("archives old commits, but no small part of a stream that other pools fill", async () => {
  const before = archive.segments(pool).length;
  const fill = async (count: number, bytes: number): Promise<void> => {
    for (let i = 0; i < count; i++) streams.bus.nc.publish(ledgerSubject("other"), Buffer.alloc(bytes));
    await streams.bus.nc.request(ledgerSubject("other"), "the last one", { timeout: 20_000 });
  };
  const oldOnes = upkeep(1e9, { keepMs: -hourMs });
  await fill(400, 1000);
  await oldOnes.lookAfter({ pool, leader });
  expect(archive.segments(pool)).toHaveLength(before);
  // Now as much as the pool has is enough for a file, if all of them had the same size.
  await fill(50, 60_000);
  await oldOnes.lookAfter({ pool, leader });
  expect(archive.segments(pool)).toHaveLength(before + 1);
});

test("a damaged segment is found", async () => {
  const name = readdirSync(join(folder, pool)).find((each) => each.endsWith(".zst"))!;
  const path = join(folder, pool, name);
  const whole = readFileSync(path);
  onTestFinished(() => writeFileSync(path, whole));
  writeFileSync(path, whole.subarray(0, whole.length - 100));
  await expect(commitsOf(ledger)).rejects.toThrow(/ndjson\.zst (cannot be read|is damaged)/);
});

test("archives a closed pool without a leader, and it stays closed", async () => {
  const before = await stored();
  const head = decodeCommit(before.at(-1)!.text);
  const prev = hashOf(Buffer.from(before.at(-1)!.text));
  const closing = encodeCommit({ ...head, n: head.n + 1, prev }, [JSON.stringify({ type: "PoolClosed" })]);
  const { seq: afterSeq } = before.at(-1)!;
  await ledger.append({ id: "closing", bytes: Buffer.from(closing), afterSeq });
  const own = { leader: "picker-1", version: "1.2.3" };
  const led = (): [] => [];
  const closed = (): Map<string, number> => new Map([[pool, 1000]]);
  let next = (): void => {};
  const after = (_ms: number, callback: () => void) => {
    next = callback;
    return () => {};
  };
  const info = vi.fn();
  const clock = { monotonic: () => 1e9, after };
  const ports = {
    own,
    led,
    closed,
    log: { info, warn: (...said: unknown[]) => info(...said) },
    clock,
    bytes: () => 2e9,
  };
  const looking = upkeep(1e9, { keepMs: -hourMs, ports });
  looking.start();
  const look = next;
  next = () => {};
  look();
  // The pause of each purge is ended at once.
  await eventually(async () => {
    next();
    expect(info.mock.calls.map(([, said]) => said)).toContain("commits are archived");
    const left = await stored();
    expect(left.length).toBeLessThan(before.length);
    const { events, term } = decodeCommit(left.at(-1)!.text);
    expect(term).toBe(head.term + 1);
    expect(events).toMatchObject([
      { type: "LeaderClaimed", ...own },
      { type: "SegmentArchived", closed: true },
    ]);
    expect(leavesOpen(events as Event[])).toBe(false);
  });
  looking.stop();
  const source = await streamSourceOn(streams.bus, pool, { archive });
  expect(await verify(source, {})).toMatchObject({ findings: [], isWell: true, first: { n: 1 } });
  expect((await fold()).state).toMatchObject({ opened: false });
});
