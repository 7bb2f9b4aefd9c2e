// The archive: ranges of a ledger in files, read together with what its stream still has.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Archive } from "../../runtime/archive/archive.ts";
import { daysLeft } from "../../runtime/archive/days-left.ts";
import type { Manifest } from "../../runtime/archive/segment.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { makeLedger } from "../audit/ledgers.ts";

const pool = "shop";
const hourMs = 3_600_000;
const startedAt = 1_700_000_000_000;
const all = storedOf(makeLedger(60));
let archive: Archive;

beforeEach(() => {
  archive = new Archive(mkdtempSync(join(tmpdir(), "archive-test-")));
});
afterEach(() => rmSync(archive.folder, { recursive: true, force: true }));

/** Each hour one, with the sequences of a stream that another ledger shares. */
function storedOf(commits: readonly Buffer[]): StoredCommit[] {
  return commits.map((bytes, i) => ({ seq: 2 * i + 1, id: `id-${i}`, storedAt: startedAt + i * hourMs, bytes }));
}

async function* some(commits: readonly StoredCommit[]): AsyncGenerator<StoredCommit> {
  yield* commits;
}

/** The commits `from` to `to`, by number. */
const add = (commits: readonly StoredCommit[], from: number, to: number): Promise<Manifest | undefined> =>
  archive.add(some(commits.slice(from - 1)), { pool, lastSeq: commits[to - 1]!.seq, bytesMax: 1e9 });

async function read(stream: readonly StoredCommit[], afterSeq = 0, afterN?: number): Promise<string[]> {
  const found: string[] = [];
  const stored = some(stream.filter(({ seq }) => seq > afterSeq));
  for await (const { seq, id, storedAt, bytes } of archive.whole(pool, stored, afterSeq, afterN))
    found.push(`${seq} ${id} ${storedAt} ${Buffer.from(bytes).toString()}`);
  return found;
}
const lines = (commits: readonly StoredCommit[]): string[] =>
  commits.map(({ seq, id, storedAt, bytes }) => `${seq} ${id} ${storedAt} ${Buffer.from(bytes).toString()}`);

test("gives archived commits where the stream has none, byte for byte, from any place", async () => {
  for (const [from, to] of [
    [1, 20],
    [21, 40],
  ] as const)
    expect(await add(all, from, to)).toMatchObject({ first: { n: from }, last: { n: to } });
  expect(await read(all.slice(40))).toEqual(lines(all));
  expect(await read(all.slice(40), all[9]!.seq)).toEqual(lines(all.slice(10)));
  expect(await read(all.slice(40), all[19]!.seq)).toEqual(lines(all.slice(20)));
  expect(await read(all.slice(40), all[49]!.seq)).toEqual(lines(all.slice(50)));
  // A part of what is archived is still in the stream, or is purged while it is read.
  expect(await read(all.slice(30))).toEqual(lines(all));
  expect(await read([...all.slice(0, 10), ...all.slice(35)])).toEqual(lines(all));
  for await (const { id } of archive.before(pool, all[40]!, all[24]!.seq)) {
    expect(id).toBe("id-25");
    break;
  }
});

test("reads each commit once if segments overlap, as after a crash of the archiver", async () => {
  await add(all, 1, 20);
  await add(all, 1, 30);
  await add(all, 21, 40);
  expect(await read(all.slice(40))).toEqual(lines(all));
});

test("takes the segments of this ledger, not those of an earlier one of the pool", async () => {
  const earlier = storedOf(makeLedger(60, { seed: 2 }));
  await add(earlier, 1, 20);
  await add(all, 1, 20);
  expect(await read(all.slice(20))).toEqual(lines(all));
  expect(await read(earlier.slice(20))).toEqual(lines(earlier));
  await archive.setAside(pool, archive.segments(pool));
  expect(archive.segments(pool)).toEqual([]);
  expect(archive.pools()).toEqual([expect.stringMatching(/^shop\.\d+$/)]);
  await archive.remove(pool);
  expect(archive.pools()).toEqual([]);
});

test("sets aside only the segments that it is told, also if another process has moved them already", async () => {
  const other = (await add(all, 1, 10))!;
  const kept = await add(all, 1, 20);
  await archive.setAside(pool, [other]);
  await archive.setAside(pool, [other]);
  expect(archive.segments(pool)).toEqual([kept]);
  expect(archive.pools().filter((name) => archive.segments(name)[0]?.last.n === 10)).toHaveLength(1);
});

test("reads no manifest that it does not need", async () => {
  for (const from of [1, 11, 21, 31]) await add(all, from, from + 9);
  const folder = join(archive.folder, pool);
  const unread = readdirSync(folder).filter((name) => name.endsWith(".json") && name < "000000000030");
  for (const name of unread) {
    rmSync(join(folder, name));
    mkdirSync(join(folder, name)); // Reading it fails.
  }
  expect(unread).toHaveLength(3);
  expect(await read(all.slice(40), all[34]!.seq)).toEqual(lines(all.slice(35)));
  // Nor any at all for a reader that knows the number of its commit.
  const looks = vi.spyOn(archive, "before");
  expect(await read(all.slice(40), all[39]!.seq, 40)).toEqual(lines(all.slice(40)));
  expect(looks).not.toHaveBeenCalled();
});

test("removes what a killed archiver left a day ago", async () => {
  const segment = await add(all, 1, 20);
  const folder = join(archive.folder, pool);
  const before = readdirSync(folder);
  const at = (hours: number): Date => new Date(Date.now() - hours * hourMs);
  for (const [name, hours] of [
    ["old.part", 25],
    ["000000000001-000000000009-abcdefgh.ndjson.zst", 25],
    ["young.part", 1],
  ] as const) {
    writeFileSync(join(folder, name), "");
    utimesSync(join(folder, name), at(hours), at(hours));
  }
  for (const name of before) utimesSync(join(folder, name), at(1000), at(1000));
  expect(await add(all, 1, 20)).toEqual(segment);
  expect(readdirSync(folder).sort()).toEqual([...before, "young.part"].sort());
});

test("takes the segments of this ledger, not longer ones of commits that were lost", async () => {
  const lost = storedOf(makeLedger(60, { seed: 2 }));
  await add(lost, 1, 30);
  await add(all, 1, 20);
  await add(lost, 31, 50);
  await add(all, 21, 40);
  expect(await read(all.slice(40))).toEqual(lines(all));
});

test("ends a segment by its bytes, and writes no file without commits", async () => {
  const segment = await archive.add(some(all), { pool, lastSeq: 1e9, bytesMax: 10_000 });
  expect(segment!.bytes).toBeGreaterThanOrEqual(10_000);
  expect(segment!.last.n).toBeLessThan(40);
  expect(await archive.add(some(all), { pool, lastSeq: 0, bytesMax: 1e9 })).toBeUndefined();
  expect(readdirSync(join(archive.folder, pool))).toHaveLength(2);
});

test("archives no range with a gap", async () => {
  await expect(add(all.toSpliced(10, 1), 1, 20)).rejects.toThrow("The commit at sequence 23 does not follow");
  expect(archive.segments(pool)).toEqual([]);
});

test("removes old segments, and tells how long the disk will last", async () => {
  expect(await daysLeft(archive)).toBeUndefined();
  const [first, second] = [await add(all, 1, 20), await add(all, 21, 45)];
  const left = await daysLeft(archive);
  const perDay = ((first!.fileBytes + second!.fileBytes) * 24) / 44;
  expect(left?.bytesPerDay).toBeCloseTo(perDay);
  expect(left?.days).toBe(Math.floor(left!.freeBytes / perDay));
  await archive.removeOlder(pool, all[20]!.storedAt);
  expect(archive.segments(pool)).toEqual([second]);
  expect(readdirSync(join(archive.folder, pool))).toHaveLength(2);
});
