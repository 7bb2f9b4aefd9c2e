// The audit finds nothing wrong in the ledgers that the service itself writes. The checker and the decisions were
// written separately, and must agree. And what-if, under the same policy, decides as the service did.
import { expect, test } from "vitest";
import { verify } from "../../services/audit/verify.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { makeLedger, randomPolicy, sourceOf } from "../audit/ledgers.ts";
import { simulatedLedger } from "../audit/simulated.ts";
import { seeded } from "../kit/seed.ts";

const made = Number(process.env["REMUDA_TEST_SEEDS"] ?? 100);

test(`finds nothing wrong in ${made} ledgers made by the decisions under random policies and commands`, {
  timeout: 120_000,
}, async () => {
  const total = { leases: 0, rests: 0, peaks: 0, commits: 0 };
  for (let seed = 1; seed <= made; seed++) {
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
  // The ledgers must have exercised the rules.
  expect(total.leases).toBeGreaterThan(made * 50);
  expect(total.rests).toBeGreaterThan(made * 10);
  expect(total.peaks).toBeGreaterThan(made);
});

// In sim.test.ts the audit's checker reads each commit of many more seeds. Here the whole `verify` reads the ledgers.
const simulated = Number(process.env["REMUDA_TEST_SEEDS"] ?? 30);

test(`finds nothing wrong in the ledgers of ${simulated} simulated services, and what-if decides as they did`, {
  timeout: 240_000,
}, async () => {
  const total = { leases: 0, terms: 0, policies: 0, full: 0, again: 0, changedOnTheWay: 0 };
  for (let seed = 1; seed <= simulated; seed++) {
    const ledger = await simulatedLedger(seed);
    const report = await verify(sourceOf(ledger), {});
    expect(report.findings.slice(0, 3), `seed ${seed}`).toEqual([]);
    total.leases += report.leases.granted;
    total.terms += report.terms;
    total.policies += report.policies;
    total.full += report.peaks.filter((peak) => peak.slots === peak.limit).length;
    // Leaders are killed, requests wait, and outcomes arrive late and twice.
    if (seed <= 30) total.again += await decidedAgain(ledger, seed);
    // Where tokens were given and policies changed, too.
    if (seed <= 12) total.changedOnTheWay += await decidedAgainFromTheMiddle(ledger, seed);
  }
  expect(total.leases).toBeGreaterThan(simulated * 10);
  expect(total.terms).toBeGreaterThan(simulated * 2);
  expect(total.policies).toBeGreaterThan(simulated * 1.5);
  expect(total.full).toBeGreaterThan(simulated / 2);
  expect(total.again).toBeGreaterThan(500);
  expect(total.changedOnTheWay).toBeGreaterThan(5);
});

test("what-if breaks no rule under random policies", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seeded(seed);
    const { limitBy: _limitBy, ...first } = randomPolicy(random) as { limitBy?: unknown };
    const ledger = makeLedger(200, { seed, policy: first, proxies: random.int(1, 8), names: true });
    const result = await whatIf(sourceOf(ledger), { policy: randomPolicy(random), waitMs: random.int(0, 20_000) });
    expect(result.reproduced, `seed ${seed}`).toMatchObject({ isExact: true });
    expect(result.other.findings, `seed ${seed}`).toBe(0);
  }
});

/** @returns the leases in the record. */
async function decidedAgain(ledger: readonly Buffer[], seed: number): Promise<number> {
  const result = await whatIf(sourceOf(ledger), { policy: {}, waitMs: 60_000 });
  expect(result.reproduced, `seed ${seed}`).toMatchObject({ isExact: true });
  // The jitter of a rest is drawn by its place in the commit, and what-if leaves out the events about tokens before it.
  const isDrawnElsewhere = ledger.some((line) => /"chance".*"Token[A-Z].*"RestBegan"/.test(line.toString()));
  if (!isDrawnElsewhere) expect(result.same, `seed ${seed}`).toEqual({ commits: ledger.length, of: ledger.length });
  return result.record.leases;
}

/** @returns how often the policy changed in the part that was decided again. */
async function decidedAgainFromTheMiddle(ledger: readonly Buffer[], seed: number): Promise<number> {
  const from = { sequence: 2 * seeded(seed).int(1, ledger.length) };
  const result = await whatIf(sourceOf(ledger), { policy: {}, from, waitMs: 0 });
  expect(result.reproduced, `seed ${seed}`).toMatchObject({ isExact: true });
  expect(result.same.commits, `seed ${seed}`).toBe(result.same.of);
  const rest = ledger.slice(from.sequence / 2).join("");
  return rest.split('"PolicyChanged"').length - 1;
}
