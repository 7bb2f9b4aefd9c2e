// Ledgers that the simulated service leaves behind: leaders killed, doubled and fenced, commits lost and late, outcomes
// late and twice, requests that wait.
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
