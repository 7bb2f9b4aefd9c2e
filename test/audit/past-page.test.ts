// Pages of a past state's proxies.
import { expect, test } from "vitest";
import { pageOf } from "../../services/audit/past-page.ts";
import { PoolState } from "../../state-machines/fold/state.ts";

test("lets other work run while it looks for the few proxies of a page among very many", async () => {
  const state = new PoolState("p");
  const proxy = { state: "available", labels: {} };
  for (let i = 0; i < 100_000; i++) state.proxies.set(`p_${(i * 7919) % 100_000}`, proxy as never); // None is shown.
  let turns = 0;
  const turn = (): void => {
    turns += 1;
    next = setImmediate(turn);
  };
  let next = setImmediate(turn);
  expect(await pageOf(state, { labels: { city: "none" }, limit: 100 })).toEqual({ proxies: [] });
  clearImmediate(next);
  expect(turns).toBeGreaterThanOrEqual(4);
});
