// Ledgers of the simulated service: leaders killed, doubled and fenced, commits lost and late, outcomes late and
// duplicate, waiting requests.
import { expect } from "vitest";
import { simulate } from "../sim/simulate.ts";

export async function simulatedLedger(seed: number): Promise<Buffer[]> {
  let ledger: Buffer[] = [];
  const run = await simulate(seed, {
    onEnd: ({ broker }) => {
      ledger = broker.ledger.commits.map(({ bytes }) => Buffer.from(bytes));
    },
  });
  expect(run.findings, `seed ${seed}`).toEqual([]);
  return ledger;
}
