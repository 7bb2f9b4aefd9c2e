// Entries that a source has named, kept over restarts.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { forgetSeen, Seen } from "../../services/sources/seen.ts";

const folder = mkdtempSync(join(tmpdir(), "seen-test-"));
const entry = { url: "http://user:s3cret@10.0.0.1:80" };

const pause = async () => {};
const open = (name: string) => Seen.open(folder, name, pause);
const named = (digest: string, id: string, unsure: string[] = []) => ({
  byEntry: new Map([[digest, id]]),
  ids: new Set([id]),
  unsure: new Set(unsure),
  openedAt: 5,
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("finds an entry again after a restart, and does not reveal its password", async () => {
  const first = await open("one");
  await first.keep(named(first.digestOf(entry), "p_1"));
  const again = await open("one");
  expect(again.named).toEqual(named(again.digestOf(entry), "p_1"));
  expect([again.has("p_1"), again.has("p_2")]).toEqual([true, false]);
  // Without a salt, one table of digests would reveal the passwords of all installations.
  expect((await open("two")).digestOf(entry)).not.toBe(first.digestOf(entry));
  expect(readFileSync(join(folder, "one.seen"), "utf8")).not.toContain("s3cret");
  expect(statSync(join(folder, "one.seen")).mode & 0o777).toBe(0o600);
});

test("knows after a restart which proxies a doubted list named first", async () => {
  const seen = await open("doubted");
  await seen.keep(named("digest", "p_1", ["p_1"]));
  expect((await open("doubted")).named).toEqual(named("digest", "p_1", ["p_1"]));
});

test("finds each of thousands of entries again", async () => {
  const seen = await open("many");
  const byEntry = new Map(Array.from({ length: 2500 }, (_, i) => [`digest${i}`, `p_${i}`]));
  await seen.keep({ byEntry, ids: new Set(byEntry.values()), unsure: new Set(), openedAt: 5 });
  expect((await open("many")).named.byEntry).toEqual(byEntry);
});

test("treats a damaged file as empty, and keeps forgotten entries forgotten", async () => {
  writeFileSync(join(folder, "three.seen"), "nonsense");
  const seen = await open("three");
  expect(seen.named.byEntry.size).toBe(0);
  await seen.keep(named(seen.digestOf(entry), "p_1"));
  expect((await open("three")).has("p_1")).toBe(true);
  await forgetSeen(folder, "three");
  expect((await open("three")).named.byEntry.size).toBe(0);
});
