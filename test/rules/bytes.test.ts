// The bytes rule: reported bytes of an exit hold back further leases, and outlive everything that rates outlive.
import { describe, expect, test } from "vitest";
import { restore, type Snapshot, snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { WindowSums } from "../../state-machines/structures/window-sums.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { seeded } from "../kit/seed.ts";

const calm = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const capped = { ...calm, bytes: { limit: 100, windowMs: 10_000 } };

/** Grants a lease whose only use is reported at once. */
function used(pool: TestPool, bytes: number | undefined, request: Record<string, unknown> = {}): string {
  const lease = pool.granted(request);
  pool.report(lease, { status: 200, ...(bytes === undefined ? {} : { bytes }) });
  return lease.proxyId;
}

describe("bytes", () => {
  test("holds an exit back from the report that reaches the limit until enough bytes have left the window", () => {
    const pool = new TestPool(capped);
    pool.add(proxyLines(1));
    used(pool, 60);
    pool.wait(1000);
    used(pool, 39);
    pool.wait(1000);
    used(pool, 1);
    expect(pool.refused()).toMatchObject({ retryAfterMs: 8000, limitedBy: { bytes: 1, rate: 0, rest: 0 } });
    pool.wait(7999);
    expect(pool.refused()).toMatchObject({ retryAfterMs: 1 });
    pool.wait(1);
    pool.granted();
  });

  test("counts for all proxies of an exit; a report without bytes adds nothing", () => {
    const pool = new TestPool(capped);
    const [a] = pool.add(proxyLines(2), { labels: { exit: "gate" } });
    pool.add(["192.0.2.200:80"]);
    used(pool, 100, { proxyId: a });
    used(pool, undefined);
    used(pool, 0);
    used(pool, 100);
    expect(pool.refused().limitedBy).toMatchObject({ bytes: 3 });
    expect(pool.refused({ proxyId: a }).limitedBy).toMatchObject({ bytes: 1 });
  });

  test("appears in limitedBy only if the policy has the rule", () => {
    const pool = new TestPool({ ...calm, concurrency: 1 });
    pool.add(proxyLines(1));
    pool.granted();
    expect(pool.refused().limitedBy).not.toHaveProperty("bytes");
    pool.policy({ bytes: { limit: 1, windowMs: 1000 } });
    expect(pool.refused().limitedBy).toMatchObject({ bytes: 0 });
  });

  test("does not affect open leases, and counts their bytes when they are reported", () => {
    const pool = new TestPool(capped);
    pool.add(proxyLines(1));
    const block = pool.granted({ uses: 3 });
    pool.report(block, { n: 1, status: 200, bytes: 500 });
    expect(pool.refused().limitedBy).toMatchObject({ bytes: 1 });
    pool.wait(5000);
    pool.report(block, { n: 2, status: 200, bytes: 500 });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 10_000 });
  });

  test("outlives retirement, a relabelled exit, and a restore from its snapshot", () => {
    const pool = new TestPool(capped);
    const [id] = pool.add(["192.0.2.1:80"]);
    used(pool, 70);
    pool.retire(id!);
    pool.add(["192.0.2.1:80"], { labels: { exit: "203.0.113.9" } });
    pool.wait(1000);
    used(pool, 30);
    expect(pool.refused()).toMatchObject({ retryAfterMs: 9000, limitedBy: { bytes: 1 } });
    const snapshot = JSON.parse(JSON.stringify(snapshotOf(pool.state)));
    expect(JSON.parse(JSON.stringify(snapshotOf(restore(snapshot as Snapshot))))).toEqual(snapshot);
  });

  test("applies a new window: forgets bytes that ran out by the old one, and keeps the others for the new one", () => {
    const pool = new TestPool(calm);
    pool.add(proxyLines(1));
    used(pool, 1000);
    pool.policy({ bytes: { limit: 100, windowMs: 1000 } });
    used(pool, 60);
    pool.wait(1000);
    used(pool, 60);
    pool.policy({ bytes: { limit: 100, windowMs: 60_000 } });
    used(pool, 39);
    pool.granted();
    pool.policy({ bytes: { limit: 99 } });
    expect(pool.refused()).toMatchObject({ retryAfterMs: 60_000 });
    pool.policy({ bytes: null });
    pool.granted();
  });

  // Seed 841 of the simulator.
  test("forgets all bytes when it is switched off, and counts afresh when it is switched on again", () => {
    const pool = new TestPool(capped);
    pool.add(proxyLines(1));
    used(pool, 100);
    pool.policy({ bytes: null });
    pool.policy({ bytes: { limit: 100, windowMs: 10_000 } });
    pool.granted();
  });

  test("keeps limitBy from being changed while bytes count", () => {
    const pool = new TestPool(capped);
    pool.add(proxyLines(1));
    used(pool, 1);
    expect(pool.policy({ limitBy: "proxy" })).toMatchObject({ refusal: { field: "policy.limitBy" } });
    pool.wait(10_000);
    expect(pool.policy({ limitBy: "proxy" })).not.toHaveProperty("refusal");
  });
});

test("gives window sums equal to those of the plain list, whatever is forgotten meanwhile", () => {
  const random = seeded(7);
  const sums = new WindowSums();
  let plain: { at: number; amount: number }[] = [];
  for (let at = 0, i = 0; i < 3000; i++) {
    at += random.int(0, 3);
    const amount = random.int(1, 50);
    sums.add(at, amount);
    plain.push({ at, amount });
    if (random.chance(0.2)) {
      const before = at - random.int(0, 200);
      sums.prune(before);
      plain = plain.filter((each) => each.at > before);
    }
    const from = at - random.int(0, 150);
    const total = (of: typeof plain): number => of.reduce((sum, each) => sum + each.amount, 0);
    const within = plain.filter((each) => each.at > from);
    expect(sums.sumAfter(from)).toBe(total(within));
    const limit = random.int(1, 500);
    const ends = [-1, ...plain.map((each) => each.at)];
    expect(sums.belowFrom(limit)).toBe(ends.find((end) => total(plain.filter((each) => each.at > end)) < limit));
    expect(total(sums.toArray().map(([instant, sum]) => ({ at: instant, amount: sum })))).toBe(total(plain));
  }
});
