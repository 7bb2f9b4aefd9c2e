// The promise from the target's point of view: no limit is exceeded and no acknowledged lease is lost, whatever is
// killed and whenever. exactness-run.ts explains the run, and can run the same for longer.

import { expect, test } from "vitest";
import { withSeed } from "../kit/seed.ts";
import { type Plan, runExactness } from "./exactness-run.ts";

const testMsMax = 120_000;

async function expectExact(plan: Omit<Plan, "seed">): Promise<void> {
  await withSeed(async ({ seed }) => {
    const { faults, said, most, least } = await runExactness({ ...plan, seed, say: console.log });
    if (faults.length > 0) console.error(said);
    expect(faults).toEqual([]);
    expect([least, most]).toEqual([30, 30]);
  });
}

test(
  "64 workers never have more than 30 requests per exit in any 10 s at the target, and reach 30 at each",
  () => expectExact({ seconds: 22, kills: 0, brokerKills: 0 }),
  testMsMax,
);

test(
  "kill -9 of the whole service, three times at random moments, breaks no limit and loses no lease",
  () => expectExact({ seconds: 28, kills: 3, brokerKills: 0 }),
  testMsMax,
);

test(
  "kill -9 of nats-server alone breaks no limit and loses no lease, and the service carries on",
  () => expectExact({ seconds: 22, kills: 0, brokerKills: 2 }),
  testMsMax,
);
