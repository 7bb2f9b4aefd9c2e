// What the service itself writes, the audit finds nothing wrong with: the checker and the decisions were written apart,
// and must agree.
import { expect, test } from "vitest";
import { verify } from "../../services/audit/verify.ts";
import { seeded } from "../kit/seed.ts";
import { makeLedger, randomPolicy, sourceOf } from "./ledgers.ts";

const seeds = Number(process.env["REMUDA_TEST_SEEDS"] ?? 100);

test(`nothing is found in ${seeds} ledgers made by the decisions under random policies and commands`, {
  timeout: 120_000,
}, async () => {
  const total = { leases: 0, rests: 0, peaks: 0, commits: 0 };
  for (let seed = 1; seed <= seeds; seed++) {
    const random = seeded(seed);
    const policy = randomPolicy(random);
    // limitBy can be changed only on an idle pool, and countFrom not back.
    const otherPolicies = Array.from({ length: 3 }, () => randomPolicy(random));
    const ledger = makeLedger(300, {
      seed,
      policy,
      otherPolicies,
      names: seed % 2 === 0,
      refusals: seed % 3 > 0,
      proxies: random.int(1, 8),
      pauseMs: random.int(20, 2000),
    });
    const report = await verify(sourceOf(ledger), {});
    expect(report.findings.slice(0, 3), `seed ${seed}`).toEqual([]);
    expect(report.commits).toBe(300);
    total.leases += report.leases.granted;
    total.rests += Object.values(report.rests).reduce((sum, count) => sum + count, 0);
    total.peaks += report.peaks.filter((peak) => peak.slots === peak.limit).length;
  }
  // The ledgers must have put the rules to the test.
  expect(total.leases).toBeGreaterThan(seeds * 50);
  expect(total.rests).toBeGreaterThan(seeds * 10);
  expect(total.peaks).toBeGreaterThan(seeds);
});
