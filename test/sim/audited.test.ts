// Which of the deliberate faults `audit verify` finds: its checker alone observes, and it knows only the ledger.
import { describe, expect, test } from "vitest";
import { runSeeds } from "./crew.ts";
import { faults } from "./faults.ts";
import type { Told } from "./thread.ts";

/** With a seed from which the fault is soon found. */
const shown: Record<string, number> = {
  "rate-off-by-one": 1,
  "count-from-grant": 2,
  "no-grace": 2,
  "no-grace-at-lease-end": 2,
  "margin-ignored": 1,
  "concurrency-off-by-one": 2,
  "usage-off-by-one": 3,
  "refund-forgotten": 14,
  "duplicate-outcome-counts-twice": 1,
  "best-takes-the-worst": 15,
  "closed-pool-grants": 203,
  "exit-rest-ends-quota-again": 161,
  "bytes-forgotten-early": 11,
  "epoch-ignored": 5,
  "late-outcome-extends-rest": 4,
  "short-backoff": 5,
  "jitter-forgotten": 2,
  "failures-not-strict": 7,
  "failures-not-checked-again": 11,
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
  "release-counts-nothing": "how many uses a worker said at a release that it had made is not in a ledger",
  "skipped-catch-up": "the stream of outcomes is not in a ledger",
  "password-in-labels": "no reader of a ledger knows the passwords",
  "fold-forgets-score": "what a leader holds in memory is not in a ledger",
  "unfair-waiting": noQueue,
  "wait-forgotten": noQueue,
  "wait-one-commit": noQueue,
};

test("classifies each deliberate fault by whether a ledger shows it", () => {
  const known = [...Object.keys(shown), ...Object.keys(hidden)];
  expect(known.sort()).toEqual(Object.keys(faults).sort());
});

describe.concurrent("the audit's checker alone finds", () => {
  test.each(Object.entries(shown))("%s", { timeout: 120_000 }, async (fault, first) => {
    const found: Told[] = [];
    const seeds = Array.from({ length: 100 }, (_, i) => first + i);
    const onRun = (told: Told): boolean => told.findings.length === 0 || found.push(told) === 0;
    await runSeeds({ seeds, threads: 1, fault, alone: "audit", onRun });
    expect(found[0]?.findings[0]).toMatchObject({ checker: "audit" });
  });
});
