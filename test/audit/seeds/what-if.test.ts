// Alternative histories for every strategy and random ledgers: the same policy gives exactly the record; another one
// breaks no rule.
import { describe, expect, test } from "vitest";
import { everyStrategy } from "../../../bench/strategies.ts";
import { whatIf } from "../../../services/audit/what-if/what-if.ts";
import { seeded } from "../../kit/seed.ts";
import { makeLedger, randomPolicy, sourceOf } from "../ledgers.ts";

const strategies = everyStrategy({ intervalMs: 2000, halfLifeMs: 20_000 }).map((strategy) =>
  strategy.kind === "bandit" ? { ...strategy, slowMs: strategy.by === "target" ? null : 400 } : strategy,
);

describe("under the same policy", () => {
  test.each(strategies)("reproduces a record made by $kind, decision by decision", async (strategy) => {
    for (let seed = 1; seed <= 3; seed++) {
      const random = seeded(seed);
      const policy = { ...randomPolicy(random), strategy };
      const otherPolicies = [{ ...randomPolicy(random), strategy }];
      const options = { seed, policy, otherPolicies, proxies: random.int(1, 8), pauseMs: random.int(20, 2000) };
      const ledger = makeLedger(250, { ...options, names: true });
      const result = await whatIf(sourceOf(ledger), { policy: {}, waitMs: 60_000 });
      expect(result.reproduced, `seed ${seed}`).toMatchObject({ isExact: true });
      expect(result.same, `seed ${seed}`).toEqual({ commits: 250, of: 250 });
      expect(result.other).toMatchObject({ findings: 0, leases: result.record.leases, rests: result.record.rests });
      expect(result.record.leases).toBeGreaterThan(20);
    }
  });
});

describe("under another policy", () => {
  const policy = { rate: { limit: 10, windowMs: 5000 }, concurrency: 3, usage: { limit: 60, restMs: 5000 } };
  const ledger = makeLedger(300, { policy, proxies: 6, names: true });
  const otherPolicies = [{ rate: { limit: 7, windowMs: 9000 } }];
  const ledgers = [1, 2, 3].map((seed) =>
    makeLedger(150, { seed, policy, otherPolicies, proxies: 5, names: true, refusals: true }),
  );

  test.each(strategies)("breaks no rule with the strategy $kind", async (strategy) => {
    const result = await whatIf(sourceOf(ledger), { policy: { strategy }, waitMs: 5000 });
    expect(result.reproduced.isExact).toBe(true);
    expect(result.other.findings).toBe(0);
    expect(result.other.leases).toBeGreaterThan(100);
  });

  test.each([
    { rate: null },
    { rate: { limit: 4, windowMs: 60_000 } },
    { concurrency: null, usage: null },
    { failures: null, streak: null, backoff: { kind: "none" } },
    { limitBy: "proxy" },
    { countFrom: "grant" },
    { holder: { leasesMax: 1 }, session: { max: 1 } },
  ])("breaks no rule with %j", async (changed) => {
    for (const [i, ledger] of ledgers.entries()) {
      const result = await whatIf(sourceOf(ledger), { policy: changed, waitMs: (i + 1) * 2000 });
      expect(result.reproduced).toMatchObject({ isExact: true });
      expect(result.other.findings).toBe(0);
    }
  });
});
