// The audit finds nothing wrong with any ledger of the simulated service.
import { expect, test } from "vitest";
import { verify } from "../../services/audit/verify.ts";
import { sourceOf } from "../audit/ledgers.ts";
import { simulatedLedger } from "../audit/simulated.ts";

const seeds = Number(process.env["REMUDA_TEST_SEEDS"] ?? 80);

test(`nothing is found in the ledgers of ${seeds} simulated services`, { timeout: 240_000 }, async () => {
  const total = { leases: 0, terms: 0, policies: 0, full: 0 };
  for (let seed = 1; seed <= seeds; seed++) {
    const report = await verify(sourceOf(await simulatedLedger(seed)), {});
    expect(report.findings.slice(0, 3), `seed ${seed}`).toEqual([]);
    total.leases += report.leases.granted;
    total.terms += report.terms;
    total.policies += report.policies;
    total.full += report.peaks.filter((peak) => peak.slots === peak.limit).length;
  }
  expect(total.leases).toBeGreaterThan(seeds * 10);
  expect(total.terms).toBeGreaterThan(seeds * 2);
  expect(total.policies).toBeGreaterThan(seeds * 1.5);
  expect(total.full).toBeGreaterThan(seeds / 2);
});
