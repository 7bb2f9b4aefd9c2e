// The report of `npm run bench -- all`: its ratios, and whether a target is met.
import { expect, test } from "vitest";
import { type Figures, reportOf, targetsOf, withFigures } from "../../bench/report.ts";

const run = (perSecond: number, p50 = 1) => ({ count: 1, perSecond, p50, p99: 2 * p50, cpu: { service: 10 } });
const row = (name: string, depth: number, ...rates: number[]) => ({
  name,
  depth,
  runs: rates.map((rate) => run(rate)),
});
const figures: Figures = {
  machine: ["2 cores"],
  command: "npm run bench -- all",
  date: "2026-01-01",
  rows: [row("echo", 512, 100, 50, 10), row("lease", 512, 70, 30, 9), row("cycle", 512, 10, 10, 1)],
  fsyncMs: 1,
  outputs: { "audit 1000000": "verify, round 2: 10 events, 600000 a second (1 s)" },
  skipped: ["Redis: redis-server is not installed"],
};
const lineOf = (text: string, what: string) => text.split("\n").find((line) => line.includes(what));

test("compares the rows of the same round, and takes the median of the ratios", () => {
  const found = targetsOf(figures).find(({ what }) => what.startsWith("leases against the echo"));
  expect(found?.figure).toBe(0.7);
});

test("says of each target whether it is met, not met or not measured", () => {
  const text = reportOf(figures);
  expect(lineOf(text, "leases against the echo")).toMatch(/\| ≥ 0.60 \| 0.70 \| met \|$/);
  expect(lineOf(text, "full cycles against the echo")).toMatch(/\| ≥ 0.45 \| 0.10 \| not met \|$/);
  expect(lineOf(text, "leases against Redis")).toMatch(/\| – \| not measured \|$/);
  expect(lineOf(text, "verify")).toMatch(/\| ≥ 500000 events\/s \| 600000 events\/s \| met \|$/);
  expect(text).toContain("left out: Redis: redis-server is not installed");
});

test("a target that is a most is met below it", () => {
  const slow = { ...figures, rows: [{ name: "lease", depth: 64, runs: [{ ...run(1), p99: 6 }] }] };
  expect(lineOf(reportOf(slow), "p99 at 64")).toMatch(/\| ≤ 5.00 ms \| 6.00 ms \| not met \|$/);
  expect(lineOf(reportOf({ ...slow, rows: [row("lease", 64, 1)] }), "p99 at 64")).toMatch(/ 2.00 ms \| met \|$/);
});

test("a target that depends on a missing figure is not measured", () => {
  const alone = { ...figures, rows: [row("lease", 1, 1)] };
  expect(lineOf(reportOf(alone), "p50 of one lease")).toMatch(/not measured \|$/);
});

test("replaces only the measured part of the page", () => {
  const page = "before\n<!-- measured: npm run bench -- all -->\nold\n<!-- /measured -->\nafter\n";
  expect(withFigures(page, "new")).toBe(page.replace("old", "\nnew\n"));
  expect(() => withFigures("nothing", "new")).toThrow(/is missing/);
});
