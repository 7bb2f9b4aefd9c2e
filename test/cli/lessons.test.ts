// Failures that were measured in another proxy pool of this design (the numbers are those of the issues of
// mjfelecio/metric-scraper), and the findings of `remuda doctor` where they would happen here.
import { expect, test } from "vitest";
import { findingsIn } from "../../cli/doctor-proxies.ts";
import type { Finding } from "../../cli/finding.ts";
import { viewProxy, viewStats } from "../../state-machines/view.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { WaitingPool } from "../kit/waiting-pool.ts";

function said(pool: TestPool, waiting = 0): Finding[] {
  const proxies = [...pool.state.proxies.values()].map((proxy) => viewProxy(pool.state, proxy));
  const stats = viewStats(pool.state, pool.candidates, { sequence: 1, waiting });
  return findingsIn({ pool: "test", policy: pool.state.rules.policy, stats, proxies, isWhole: true });
}

/** Eleven of fourteen proxies are used, this many milliseconds apart, and fail with this outcome. */
function failing(apartMs: number, seen: Record<string, unknown>): TestPool {
  const pool = new TestPool({ strategy: { kind: "round-robin" }, backoff: { kind: "fixed", restMs: 60_000 } });
  pool.add(proxyLines(14));
  for (let i = 0; i < 11; i++) {
    pool.report(pool.granted(), seen);
    pool.wait(apartMs);
  }
  return pool;
}

const suspected = expect.objectContaining({
  severity: "warning",
  what: expect.stringMatching(/^11 of 14 proxies failed within 1 s/),
  todo: expect.stringContaining("this machine's network"),
});

test("#25: suspects this machine, and not the proxies, when proxies time out together", () => {
  expect(said(failing(51, { error: "UND_ERR_CONNECT_TIMEOUT" }))).toContainEqual(suspected);
});

test("#25: does not do so for proxies that failed one after the other, were throttled, or have worked", () => {
  const working = failing(51, { error: "UND_ERR_CONNECT_TIMEOUT" });
  for (let i = 0; i < 3; i++) working.report(working.granted(), { status: 200 });
  working.add(proxyLines(9, 30));
  for (const pool of [
    failing(5000, { error: "ETIMEDOUT" }),
    failing(51, { status: 429, retryAfterMs: 90_000 }),
    working,
  ])
    expect(said(pool).filter(({ what }) => what.includes("failed within"))).toEqual([]);
});

test("#30: reports how many requests waited and were refused with more workers than room", () => {
  const pool = new WaitingPool({ concurrency: 1 });
  pool.add(proxyLines(2));
  for (const _ of [1, 2]) pool.granted();
  for (const _ of [1, 2]) pool.ask({});
  expect(said(pool, 2).filter(({ what }) => what.includes("asked for"))).toEqual([]);
  pool.ask({});
  expect(said(pool, 3)).toContainEqual(
    expect.objectContaining({
      severity: "warning",
      what: "3 requests wait for a proxy while 2 leases are open: the workers request more than the limits allow",
    }),
  );
  Object.assign(pool.state.refused, { "pool-exhausted": 20 });
  expect(said(pool)).toContainEqual(
    expect.objectContaining({
      what: "20 of 22 requests were refused as pool-exhausted: the workers request more than the limits allow",
    }),
  );
});
