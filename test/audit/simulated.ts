// Ledgers of the simulated service: leaders killed, doubled and fenced, commits lost and late, outcomes late and
// duplicate, waiting requests.
import { expect } from "vitest";
import { simulate } from "../sim/simulate.ts";

/** @param given.snapshots share of the leaders that start from one. */
export async function simulatedLedger(seed: number, given: { snapshots?: number } = {}): Promise<Buffer[]> {
  let ledger: Buffer[] = [];
  const run = await simulate(seed, {
    ...given,
    onEnd: ({ broker }) => {
      ledger = broker.ledger.commits.map(({ bytes }) => Buffer.from(bytes));
    },
  });
  expect(run.findings, `seed ${seed}`).toEqual([]);
  return ledger;
}
