// A simulator that finds nothing proves something only if it finds each deliberate fault, and by the
// checker whose promise it breaks. So does `audit verify`, whose checker alone observes, and knows only the ledger. The
// search begins at a seed that is known to be quick; docs/simulator.md has the honest figures from seed 1 on.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Checker } from "./court.ts";
import { runSeeds } from "./crew.ts";
import { broken, faults } from "./faults.ts";
import type { Told } from "./thread.ts";

const seedsMax = 1000;

/** Faults that the audit's checker finds alone, knowing only the ledger. With a seed from which it is soon found. */
const shown: Record<string, number> = {
  "rate-off-by-one": 1,
  "count-from-grant": 2,
  "no-grace": 2,
  "no-grace-at-lease-end": 2,
  "margin-ignored": 1,
  "concurrency-off-by-one": 2,
  "count-shares-exit": 6,
  "usage-off-by-one": 3,
  "refund-forgotten": 14,
  "duplicate-outcome-counts-twice": 1,
  "best-takes-the-worst": 15,
  "closed-pool-grants": 315,
  "exit-rest-ends-quota-again": 161,
  "bytes-forgotten-early": 11,
  "epoch-ignored": 5,
  "late-outcome-extends-rest": 4,
  "short-backoff": 5,
  "jitter-forgotten": 2,
  "failures-not-strict": 7,
  "failures-not-checked-again": 24,
  "streak-outlives-success": 1,
  "score-unbounded": 6,
  "rest-not-ended": 2,
  "request-id-forgotten": 5,
  "term-not-grown": 2,
  "exit-ignored": 2,
  "retire-forgets-window": 2,
  "exit-move-forgets": 2,
  "exit-move-counts-nothing": 2,
  "exit-move-counts-twice": 5,
  "two-refreshes-at-once": 3,
  "kept-token-refreshed": 3,
  "late-token-minted": 6,
  "rejected-token-given": 6,
};

const noClock = "a ledger has no clock but its leader's";
const noAnswers = "answers are not in a ledger";
const noQueue = "lease requests that wait are not in a ledger";

/** Faults that no ledger can show, and why. */
const hidden: Record<string, string> = {
  "wall-clock-followed": noClock,
  "wall-clock-at-claim": noClock,
  "lag-forgotten": noClock,
  "broker-clock-at-claim": noClock,
  "answer-before-ack": noAnswers,
  "stale-retry-after": noAnswers,
  "retry-after-forgets-failures": noAnswers,
  "retry-after-of-any-sibling": noAnswers,
  "refresh-given-to-two": noAnswers,
  "refresh-given-again": noAnswers,
  "release-counts-nothing": "the number of uses that a worker named at a release is not in a ledger",
  "skipped-catch-up": "the stream of outcomes is not in a ledger",
  "password-in-labels": "no reader of a ledger knows the passwords",
  "fold-forgets-score": "the memory of a leader is not in a ledger",
  "count-one-too-few": "a ledger does not show all proxies that could be leased at the moment of a request",
  "unfair-waiting": noQueue,
  "wait-forgotten": noQueue,
  "wait-one-commit": noQueue,
};

test("classifies each deliberate fault by whether a ledger shows it", () => {
  const known = [...Object.keys(shown), ...Object.keys(hidden)];
  expect(known.sort()).toEqual(Object.keys(faults).sort());
});

describe.concurrent("each deliberate fault is found, by the right checker, and by the audit's alone if a ledger shows it", () => {
  for (const [name, fault] of Object.entries(faults)) {
    test(`${name}: ${fault.what}`, { timeout: 300_000 }, async () => {
      const told = await search(name, {});
      expect([...(fault.by ?? []), "audit"]).toContain(checkerOf(told));
      const first = shown[name];
      if (first === undefined || checkerOf(told) === "audit") return; // It was alone, too: no other had found anything.
      expect(checkerOf(await search(name, { first, alone: "audit" }))).toBe("audit");
    });
  }
});

test("a finding shrinks to a few steps and a transcript that ends with the broken promise", {
  timeout: 300_000,
}, async () => {
  const told = await search("concurrency-off-by-one", { shrinkMs: 15_000 });
  const lines = told?.transcript?.split("\n") ?? [];
  expect(lines.at(-1)).toMatch(/FOUND +audit: .* concurrency: with .* \d leases of exit .* are open \(limit \d\)/);
  expect(lines.length).toBeLessThan(100);
  expect(told?.steps).toMatch(/^[1-9] of \d\d/);
});

test("each fault's pieces of source are there, once", () => {
  for (const fault of Object.values(faults)) {
    for (const { file } of fault.edits)
      broken(fault, file, readFileSync(new URL(`../../${file}`, import.meta.url), "utf8"));
  }
});

test("a fault whose piece of source is gone, or is there twice, says so", () => {
  const fault = faults["epoch-ignored"]!;
  const [edit] = fault.edits;
  expect(() => broken(fault, edit!.file, "nothing of it")).toThrow(/report\.ts: ".*" is there 0 times/);
  expect(() => broken(fault, edit!.file, edit!.find.repeat(2))).toThrow(/is there 2 times/);
});

async function search(
  fault: string,
  given: { first?: number; alone?: Checker; shrinkMs?: number },
): Promise<Told | undefined> {
  const { first = faults[fault]!.quick, alone, shrinkMs } = given;
  let found: Told | undefined;
  const seeds = Array.from({ length: seedsMax }, (_, i) => first + i);
  const onRun = (told: Told): boolean => {
    if (told.findings.length > 0) found ??= told;
    return found === undefined;
  };
  await runSeeds({ seeds, threads: 1, fault, alone, shrinkMs, onRun });
  return found;
}

function checkerOf(told: Told | undefined): Checker | undefined {
  return told?.findings[0]?.checker;
}
