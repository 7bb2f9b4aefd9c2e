import { expect, test } from "vitest";
import { borderBreaches, breachesIn } from "./borders.ts";

test("no folder imports what it must not, and the core names no clock and no chance", () => {
  expect(borderBreaches(new URL("..", import.meta.url).pathname)).toEqual([]);
});

test.each([
  ["events/a.ts", 'import { x } from "../runtime/b.ts";', "must not import runtime/b.ts"],
  ["state-machines/a.ts", 'import { x } from "node:fs";', "must not import the package node:fs"],
  ["state-machines/a.ts", "const at = Date.now();", "must not name Date"],
  ["state-machines/a.ts", "const x = Math.random();", "must not name Math.random"],
  ["runtime/a.ts", 'import type { Event } from "../events/event.ts";', "must not import events/event.ts"],
  ["services/picker/a.ts", 'import { x } from "../api/b.ts";', "must not import services/api/b.ts"],
  ["services/picker/a.ts", 'export { x } from "../../cli/b.ts";', "must not import cli/b.ts"],
])("in %s, %s is a breach", (file, source, breach) => {
  expect(breachesIn(source, file)).toEqual([expect.stringContaining(breach)]);
});

test("what is allowed is no breach", () => {
  expect(breachesIn('import { encodeCommit } from "../events/commit.ts";\nimport "node:fs";', "runtime/a.ts")).toEqual(
    [],
  );
  expect(breachesIn('// Date.now() would be wrong here\nconst text = "Date";', "state-machines/a.ts")).toEqual([]);
});
