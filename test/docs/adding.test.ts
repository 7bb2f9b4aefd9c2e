// The page about adding a rule names files. They must exist, and a rule like its example touches few of them.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = new URL("../..", import.meta.url).pathname;
const page = readFileSync(join(root, "docs/adding-a-rule.md"), "utf8");

test("every file that the page names exists", () => {
  const named = [...page.matchAll(/`([\w-]+(?:\/[\w.-]+)+\.(?:ts|md))`/g)].map(([, file = ""]) => file);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

test("a rule touches at most 14 files", () => {
  const rows = [...page.matchAll(/^\| (\d+) \| `/gm)].map(([, nth]) => Number(nth));
  expect(rows).toEqual(Array.from({ length: rows.length }, (_, i) => i + 1));
  expect(rows.length).toBeLessThanOrEqual(14);
});
