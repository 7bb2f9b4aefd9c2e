import { expect, test } from "vitest";
import { simulate } from "./simulate.ts";

const seeds = 300;

test(`no limit is exceeded and everything settles, in ${seeds} seeded runs with kills, takeovers and lost commits`, {
  timeout: 300_000,
}, async () => {
  let [leases, arrivals, kills, atLimit] = [0, 0, 0, 0];
  for (let seed = 1; seed <= seeds; seed++) {
    const result = await simulate(seed);
    expect(result.findings, `seed ${seed}: npx node test/sim/run.ts --first ${seed} --seeds 1`).toEqual([]);
    leases += result.leases;
    arrivals += result.arrivals;
    kills += result.kills;
    atLimit += result.atLimit;
  }
  // The runs must have put the limits to the test, or their silence says nothing.
  expect(leases).toBeGreaterThan(seeds * 20);
  expect(arrivals).toBeGreaterThan(seeds * 20);
  expect(kills).toBeGreaterThan(seeds);
  expect(atLimit).toBeGreaterThan(seeds);
});
