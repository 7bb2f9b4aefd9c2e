// What a source has named, kept over restarts.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Seen } from "../../services/sources/seen.ts";

const folder = mkdtempSync(join(tmpdir(), "seen-test-"));
const entry = { url: "http://user:s3cret@10.0.0.1:80" };

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("an entry is found again after a restart, and nobody can look up whose password it was", () => {
  const first = new Seen(folder, "one");
  first.keep(new Map([[first.digestOf(entry), "p_1"]]));
  const again = new Seen(folder, "one");
  expect(again.byEntry.get(again.digestOf(entry))).toBe("p_1");
  expect([again.has("p_1"), again.has("p_2")]).toEqual([true, false]);
  // Else a table of digests would open the passwords of all installations.
  expect(new Seen(folder, "two").digestOf(entry)).not.toBe(first.digestOf(entry));
  expect(readFileSync(join(folder, "one.seen"), "utf8")).not.toContain("s3cret");
  expect(statSync(join(folder, "one.seen")).mode & 0o777).toBe(0o600);
});

test("a file that is damaged is taken for none, and forgotten is forgotten", () => {
  writeFileSync(join(folder, "three.seen"), "nonsense");
  const seen = new Seen(folder, "three");
  expect(seen.byEntry.size).toBe(0);
  seen.keep(new Map([[seen.digestOf(entry), "p_1"]]));
  seen.forget();
  expect([seen.has("p_1"), new Seen(folder, "three").byEntry.size]).toEqual([false, 0]);
});
