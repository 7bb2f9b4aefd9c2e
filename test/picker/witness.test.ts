// Finds the commits that a ledger lacks, compared with its witness.
import { expect, test } from "vitest";
import { systemClock } from "../../runtime/clock.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { hashOf } from "../../runtime/loop.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { foldLedger } from "../../services/picker/fold.ts";
import type { Leader } from "../../services/picker/leader.ts";
import { Requests } from "../../services/picker/requests.ts";
import { lossIn } from "../../services/picker/witness.ts";
import { WitnessKeeper } from "../../services/picker/witness-keeper.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { loopbackAllowed } from "../kit/outbound.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");

/** A ledger with a few commits, and its witness. */
async function ledgerWithWitness() {
  const ledger = new MemoryLedger();
  const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
  const ports = { pool: "shop", id: "leader", ledger, feed, clock: systemClock, key, secrets: noSecrets };
  const leader = await foldedLeader({ ...ports, tell: () => {} });
  const newLeaseId = (): string => `l_${"a".repeat(22)}`;
  const requests = new Requests({ outbound: loopbackAllowed, leader, secrets: noSecrets, key, newLeaseId });
  const opened = new Promise((resolve) => requests.open({}, resolve));
  await leader.lead();
  await opened;
  for (const proxy of ["10.0.0.1:80", "10.0.0.2:80"])
    await new Promise((resolve) => requests.handle("proxies.add", { proxies: [proxy] }, resolve));
  leader.stop();
  return { ledger, witness: { ...leader.last, opened: leader.state.openedAt } };
}

async function lossOf(ledger: MemoryLedger, witness: Parameters<typeof lossIn>[1]): Promise<string | undefined> {
  const folded = await foldLedger({ pool: "shop", ledger, clock: systemClock, key, witnessed: witness });
  return lossIn("shop", witness, { commits: folded.state.commits, hash: folded.witnessedHash });
}

test("a ledger that has its witnessed commit lacks nothing, however far it has grown", async () => {
  const { ledger, witness } = await ledgerWithWitness();
  expect(await lossOf(ledger, witness)).toBeUndefined();
  const folded = await foldLedger({ pool: "shop", ledger, clock: systemClock, key, witnessed: { n: 2, seq: 2 } });
  const earlier = { ...witness, n: 2, hash: hashOf(ledger.commits[1]!.bytes) };
  expect(lossIn("shop", earlier, { commits: 3, hash: folded.witnessedHash })).toBeUndefined();
});

test("says what is lost of a ledger that ends early, is gone, or is another one", async () => {
  const { ledger, witness } = await ledgerWithWitness();
  expect(await lossOf(ledger, { ...witness, hash: "another" })).toMatch(/shop is another one: commit 3 differs/);
  ledger.commits.splice(2);
  expect(await lossOf(ledger, witness)).toMatch(
    /shop ends at commit 2: it had 3 commits \(the last at sequence 3, opened/,
  );
  ledger.commits.splice(0);
  expect(await lossOf(ledger, witness)).toMatch(/shop is gone: it had 3 commits/);
});

test("a witness that could not be stored is stored again, even if no commit has come since", async () => {
  let beat = (): void => {};
  const after = (_ms: number, callback: () => void) => {
    beat = callback;
    return () => {};
  };
  const leader = { state: { openedAt: 1, term: 1 }, now: () => 5, last: { seq: 3, n: 3, hash: "h" } } as Leader;
  const kept: number[] = [];
  const answers = [false, true];
  const keep = async (_pool: string, { n }: { n: number }): Promise<boolean> => {
    kept.push(n);
    return answers.shift() ?? true;
  };
  const clock = { ...systemClock, after };
  const keeper = new WitnessKeeper({ pool: "shop", leader, witnesses: { keep }, clock, forgotten: 0 });
  keeper.start();
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    beat();
  }
  await keeper.end();
  expect(kept).toEqual([3, 3]);
});
