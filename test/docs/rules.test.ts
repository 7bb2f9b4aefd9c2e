// Runs every example on the pages of the rules in a pool of virtual time. A page that is no longer true fails here.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { defaultPolicy } from "../../events/policy.ts";
import { examplesOf, run, spanOf } from "./example.ts";
import { linksOf } from "./markdown.ts";
import { pageOf } from "./policy-table.ts";

const root = new URL("../..", import.meta.url).pathname;
const folder = join(root, "docs/rules");
const read = (name: string): string => readFileSync(join(folder, name), "utf8");
const names = readdirSync(folder)
  .filter((name) => name.endsWith(".md"))
  .sort();

describe.each(names)("docs/rules/%s", (name) => {
  const text = read(name);
  const examples = examplesOf(text);

  test("has an example", () => {
    expect(examples.length).toBeGreaterThan(0);
  });

  test.each(examples.map((example) => [example.heading, example] as const))(
    "%s: is what the pool answers",
    (_, example) => {
      expect(example.rows.length).toBeGreaterThan(1);
      expect(run(example)).toEqual([]);
    },
  );
});

test("the page of each rule states the defaults of its policy fields", () => {
  for (const field of Object.keys(defaultPolicy) as (keyof typeof defaultPolicy)[]) {
    const page = pageOf(field);
    if (page === null) continue;
    const shown = [...read(`${page}.md`).matchAll(/<!-- generated: defaults (.*) -->/g)].flatMap(([, fields = ""]) =>
      fields.split(" "),
    );
    expect(shown, `${field} in docs/rules/${page}.md`).toContain(field);
  }
});

test("the index lists every page of a rule", () => {
  const linked = linksOf(readFileSync(join(root, "docs/rules.md"), "utf8")).map(({ target }) =>
    target.replace(/#.*/, ""),
  );
  for (const name of names) expect(linked).toContain(`rules/${name}`);
});

describe("the examples' interpreter", () => {
  const page = (...rows: string[]): string =>
    [
      "# One",
      "```json policy",
      '{ "concurrency": 1, "usage": { "limit": 1, "restMs": 5000 } }',
      "```",
      "| at | step | answer | |",
      "|---|---|---|---|",
      ...rows,
    ].join("\n");
  const wrongIn = (...rows: string[]): string[] => examplesOf(page(...rows)).flatMap(run);
  const start = [
    "| 0 s | `add p1` | `added` | |",
    "| 0 s | `lease A ttlMs=1000` | `p1`, `uses=1`, `expiresAt=1 s` | |",
  ];

  test("accepts an example whose answers are true", () => {
    expect(
      wrongIn(
        ...start,
        "| 0.5 s | `lease B` | `pool-exhausted`, `retryAfterMs=5.5 s`, `limitedBy.concurrency=1` | |",
        "| 1 s | – | `LeaseClosed.available`, `RestBegan.exhausted p1 until 6 s` | |",
        "| 1 s | `lease B waitMs=60000` | `waits` | |",
        "| 6 s | – | `RestEnded.available p1`, `B gets p1` | |",
      ),
    ).toEqual([]);
  });

  test.each([
    ["another proxy", "| 0 s | `show p1` | `available` | |"],
    ["another word", "| 0 s | `lease B` | `no-match` | |"],
    ["another number", "| 0 s | `lease B` | `pool-exhausted`, `retryAfterMs=5.999 s` | |"],
    ["a field that is not there", "| 0 s | `show p1` | `in-use`, `until=3 s` | |"],
    ["no word at all", "| 0 s | `lease B` | refused | |"],
    ["a rest left out", "| 1 s | – | | |"],
    ["a rest told late", "| 2 s | – | `RestBegan.exhausted p1` | |"],
    ["a rest of another length", "| 1 s | – | `RestBegan.exhausted p1 until 7 s` | |"],
    ["an event that did not come", "| 0 s | – | `LeaseRenewed` | |"],
    ["an event that was not to come", "| 0 s | `renew A ttlMs=5000` | `renewed`, `no LeaseRenewed` | |"],
    ["a lease request that was not served", "| 0 s | – | `B gets p1` | |"],
  ])("finds %s", (_, row) => {
    expect(wrongIn(...start, row)).toHaveLength(1);
  });

  test("rejects a field that requests do not have", () => {
    expect(() => wrongIn(...start, "| 0 s | `lease B usse=1` | `p1` | |")).toThrow(/has no usse/);
    expect(() => wrongIn(...start, "| 0 s | `lend B` | `p1` | |")).toThrow(/no such step/);
  });

  test("reads durations as the pages write them", () => {
    expect([spanOf("0 s"), spanOf("1 min 5.101 s"), spanOf("2 h"), spanOf("7"), spanOf("at")]).toEqual([
      0,
      65_101,
      7_200_000,
      undefined,
      undefined,
    ]);
  });
});
