// The promise from the target's point of view: no limit is exceeded and no acknowledged lease is lost, whichever
// process is killed, at any moment. exactness-run.ts explains the run, and is the command for longer ones.

import { expect, test } from "vitest";
import { withSeed } from "../kit/seed.ts";
import { type Plan, runExactness } from "./exactness-run.ts";

const testMsMax = 240_000;
const windowMs = 5000;
const limit = 15;

async function expectExact(plan: Omit<Plan, "seed" | "windowMs">): Promise<void> {
  await withSeed(async ({ seed }) => {
    const { faults, said, most, least } = await runExactness({ ...plan, windowMs, seed, say: console.log });
    if (faults.length > 0) console.error(said);
    expect(faults).toEqual([]);
    expect([least, most]).toEqual([limit, limit]);
  });
}

test(
  "64 workers never have more than 15 requests per exit in any 5 s at the target, and reach 15 at each",
  () => expectExact({ seconds: 12, kills: 0, brokerKills: 0 }),
  testMsMax,
);

test(
  "kill -9 at random moments, of the whole service three times, of nats-server alone twice, breaks no limit and loses no lease",
  () => expectExact({ seconds: 24, kills: 3, brokerKills: 2 }),
  testMsMax,
);
