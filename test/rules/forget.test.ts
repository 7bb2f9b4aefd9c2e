// Closed leases are remembered for ten minutes, to the millisecond, whatever came and went before.
import { expect, test } from "vitest";
import { herd, TestPool } from "../kit/pool.ts";
import { seeded } from "../kit/seed.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const keptMs = 600_000;

test("those closed within the last ten minutes are remembered and no others, also after all were forgotten", () => {
  const random = seeded(5);
  const pool = new TestPool(free);
  pool.add(herd(3));
  const closed: { id: string; at: number }[] = [];
  let most = 0;
  for (let step = 0; step < 300; step++) {
    const lease = pool.granted();
    pool.report(lease, { status: 200 });
    closed.push({ id: lease.leaseId, at: pool.at });
    // Mostly many at once are kept, now and then none.
    pool.wait(random.chance(0.03) ? keptMs + random.int(-1, 2) : random.int(0, 30_000));
    const kept = closed.filter(({ at }) => at >= pool.at - keptMs).map(({ id }) => id);
    expect([...pool.state.closedLeases.keys()]).toEqual(kept);
    most = Math.max(most, kept.length);
  }
  expect(most).toBeGreaterThan(25);
});
