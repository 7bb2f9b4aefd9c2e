// Closed leases are remembered for ten minutes, to the millisecond, whatever happened before. Retired proxies are
// remembered until their traces have run out, whether or not the state was restored from its snapshot meanwhile.
import { describe, expect, test } from "vitest";
import { advance } from "../../state-machines/fold/evolve.ts";
import { restore, snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { seeded } from "../kit/seed.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const keptMs = 600_000;

test("remembers exactly the leases closed within ten minutes, even after all were forgotten", () => {
  const random = seeded(5);
  const pool = new TestPool(free);
  pool.add(proxyLines(3));
  const closed: { id: string; at: number }[] = [];
  let most = 0;
  for (let step = 0; step < 300; step++) {
    const lease = pool.granted();
    pool.report(lease, { status: 200 });
    closed.push({ id: lease.leaseId, at: pool.at });
    // Usually many are kept at once, sometimes none.
    pool.wait(random.chance(0.03) ? keptMs + random.int(-1, 2) : random.int(0, 30_000));
    const kept = closed.filter(({ at }) => at >= pool.at - keptMs).map(({ id }) => id);
    expect([...pool.state.closedLeases.keys()]).toEqual(kept);
    most = Math.max(most, kept.length);
  }
  expect(most).toBeGreaterThan(25);
});

describe("forgets a retired proxy early when its traces run out earlier than planned", () => {
  const aDay = { limit: 5, windowMs: 86_400_000 };
  const changes: Record<string, (pool: TestPool) => void> = {
    "as a narrower window does not look back so far": (pool) =>
      void pool.policy({ rate: { ...aDay, windowMs: 60_000 } }),
    "as another one at its exit answers for the exit's": (pool) =>
      void pool.add(proxyLines(1, 2), { labels: { exit: "a" } }),
    "as another one that moves to its exit does": (pool) => {
      const [id] = pool.add(proxyLines(1, 2));
      pool.granted({ proxyId: id! });
      pool.add(proxyLines(1, 2), { labels: { exit: "a" } });
    },
  };

  test.each(Object.entries(changes))("%s", (_why, change) => {
    const pool = new TestPool({ ...free, rate: aDay });
    const [id] = pool.add(proxyLines(1), { labels: { exit: "a" } });
    pool.report(pool.granted(), { status: 200 });
    pool.retire(id!);
    pool.wait(1000);
    change(pool);
    const restored = restore(JSON.parse(JSON.stringify(snapshotOf(pool.state))));
    pool.wait(3_598_999);
    expect(pool.state.proxies.has(id!)).toBe(true);
    pool.wait(1);
    expect(pool.state.proxies.has(id!)).toBe(false);
    advance(restored, pool.at);
    expect(restored.proxies.has(id!)).toBe(false);
  });
});
