// Failures that were measured in another proxy pool of this design, as tests of the sources. The numbers are those of
// the issues of mjfelecio/metric-scraper. None of them may happen here.
import { expect, test } from "vitest";
import { doubtMs, goneOf } from "../../services/sources/doubt.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { WaitingPool } from "../kit/waiting-pool.ts";

/** Reads a source every 100 ms, with the proxies that it names. Ends when no proxy is left, or after the given time. */
function follow(
  pool: TestPool,
  ids: readonly string[],
  named: (ms: number) => readonly string[],
  lastsMs: number,
): number {
  let known = new Set(ids);
  let doubtedSince: number | undefined;
  for (let ms = 0; ms <= lastsMs; ms += 100) {
    const vanished = [...known].filter((id) => !named(ms).includes(id));
    const found = goneOf(vanished, { known: known.size, unsure: new Set(), at: ms, doubtedSince });
    doubtedSince = found.doubtedSince;
    for (const id of found.gone) pool.retire(id);
    if (found.gone.length > 0) known = new Set(named(ms));
    if (pool.state.byState.retired === ids.length) return ms;
  }
  return Infinity;
}

test("#22: keeps all 34 proxies in the pool for a minute when a list breaks", () => {
  const pool = new TestPool();
  const ids = pool.add(proxyLines(34));
  expect(follow(pool, ids, () => [], doubtMs - 100)).toBe(Infinity);
  expect(pool.state.byState).toMatchObject({ available: 34, retired: 0 });
  for (const _ of ids) pool.granted();
});

test("#22: believes a list after a whole minute, and restarts the minute after a recovery", () => {
  const gone = new TestPool();
  expect(follow(gone, gone.add(proxyLines(34)), () => [], 10 * doubtMs)).toBe(doubtMs);
  const flapping = new TestPool();
  const ids = flapping.add(proxyLines(34));
  expect(follow(flapping, ids, (ms) => (ms % 30_000 === 0 ? ids : []), 10 * doubtMs)).toBe(Infinity);
});

test("#22: keeps a request waiting for the first returned proxy when the pool is empty", () => {
  const pool = new WaitingPool({ failures: null, backoff: { kind: "fixed", restMs: 20_000 } });
  const ids = pool.add(proxyLines(34));
  for (const _ of ids) pool.report(pool.granted(), { error: "ECONNREFUSED" });
  expect(pool.state.byState).toMatchObject({ available: 0, cooling: 34, retired: 0 });
  expect(pool.ask({ waitMs: 30_000 })).toHaveProperty("request.waitMs", 30_000);
  pool.wait(19_999);
  expect(pool.served).toEqual([]);
  pool.wait(1);
  expect(pool.served).toHaveLength(1);
});
