// Alternative histories: the same policy gives exactly the record; a tighter one gives nothing over it.
import { describe, expect, test } from "vitest";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import { makeLedger, sourceOf } from "./ledgers.ts";

describe("under the same policy", () => {
  test("keeps refusals refused, and adds further ones to them", async () => {
    const policy = { rate: { limit: 4, windowMs: 5000 }, concurrency: 1 };
    const ledger = makeLedger(200, { policy, proxies: 3, names: true, refusals: true });
    const same = await whatIf(sourceOf(ledger), { policy: {}, waitMs: 0 });
    expect(same.record.refused["pool-exhausted"]).toBeGreaterThan(50);
    expect(same.other.refused).toEqual(same.record.refused);
    const half = await whatIf(sourceOf(ledger), { policy: { rate: { limit: 2, windowMs: 5000 } }, waitMs: 0 });
    const sumOf = (refused: Record<string, number>) => Object.values(refused).reduce((sum, count) => sum + count, 0);
    const more = sumOf(half.other.refused) - sumOf(half.record.refused);
    expect(more).toBe(half.record.leases - half.other.leases);
    expect(more).toBeGreaterThan(10);
  });

  test("reproduces a range from the middle too", async () => {
    const ledger = makeLedger(300, { names: true, policy: { strategy: { kind: "best" } } });
    const result = await whatIf(sourceOf(ledger), {
      policy: {},
      from: { sequence: 301 },
      to: { sequence: 500 },
      waitMs: 0,
    });
    expect(result).toMatchObject({ from: { n: 151 }, to: { n: 250 }, reproduced: { isExact: true } });
    expect(result.same).toEqual({ commits: 100, of: 100 });
  });
});

describe("under another policy", () => {
  const policy = { rate: { limit: 10, windowMs: 5000 }, concurrency: 3, usage: { limit: 60, restMs: 5000 } };

  test("keeps within half the rate, and grants less than before", async () => {
    const ledger = makeLedger(400, { policy, proxies: 4, requestsPerTurn: 4, names: true });
    const halved = { rate: { limit: 5, windowMs: 5000 } };
    const result = await whatIf(sourceOf(ledger), { policy: halved, waitMs: 0 });
    expect(result.reproduced.isExact).toBe(true);
    expect(result.record.fullest).toMatchObject({ slots: 10, limit: 10 });
    expect(result.other).toMatchObject({ overLimit: 0, findings: 0, fullest: { slots: 5, limit: 5 } });
    expect(result.other.leases).toBeLessThan(result.record.leases);
    expect(result.other.leases).toBeGreaterThan(result.record.leases / 4);
    const refused = Object.values(result.other.refused).reduce((sum, count) => sum + count, 0);
    expect(refused + result.other.leases).toBe(result.record.leases);
    expect(result.same.commits).toBeLessThan(result.same.of);
  });

  test("lets a worker make only its granted uses, and counts the ones it cannot make", async () => {
    const ledger = makeLedger(400, { policy: { ...policy, rate: null }, proxies: 4, chaos: 20, failures: 0 });
    const result = await whatIf(sourceOf(ledger), { policy: { rate: { limit: 2, windowMs: 5000 } }, waitMs: 0 });
    const sumOf = (outcomes: Record<string, number>) => Object.values(outcomes).reduce((sum, count) => sum + count, 0);
    expect(result.other.usesNotMade).toBeGreaterThan(20);
    expect(sumOf(result.other.outcomes) + result.other.usesNotMade).toBe(sumOf(result.record.outcomes));
    expect(result.other.usesBeyond).toBeLessThanOrEqual(result.record.usesBeyond);
  });

  test("serves waiting requests later in order, or refuses them when they have waited long enough", async () => {
    const ledger = makeLedger(400, { policy, proxies: 4, requestsPerTurn: 2 });
    const halved = { rate: { limit: 5, windowMs: 5000 } };
    const result = await whatIf(sourceOf(ledger), { policy: halved, waitMs: 10_000 });
    const { waited, refused, findings } = result.other;
    expect(findings).toBe(0);
    expect(waited.granted).toBeGreaterThan(10);
    expect(waited.longestMs).toBeLessThanOrEqual(10_000 + 500);
    expect(waited.granted + waited.stillWaiting + (refused["pool-exhausted"] ?? 0)).toBe(waited.requests);
  });

  test("refuses to begin limits by proxy while leases are open, and says what to do", async () => {
    const asked = { policy: { limitBy: "proxy" }, from: { sequence: 201 }, waitMs: 0 };
    await expect(whatIf(sourceOf(makeLedger(150, { policy })), asked)).rejects.toThrow(/limitBy: .* --from/);
  });

  test("refuses a contradictory policy by name", async () => {
    const wrong = whatIf(sourceOf(makeLedger(20)), { policy: { rate: { limit: 0, windowMs: 1000 } }, waitMs: 0 });
    await expect(wrong).rejects.toThrow(/--policy: policy\.rate/);
  });
});
