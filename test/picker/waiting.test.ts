// Waiting requests at a leader that can no longer be granted. They are refused before their time is over, in the same
// commit that makes it so.
import { expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { TokenLeaders } from "../kit/token-leaders.ts";

/** One proxy, which is leased. */
async function taken(policy: object = {}) {
  const world = new TokenLeaders({ concurrency: 1, ...policy });
  const { leader, ask } = await world.lead();
  const { leaseId } = await ask("lease");
  const waiting = (request: object = {}) => ask("lease", { waitMs: 60_000, ...request });
  const untilWaiting = (count: number) => eventually(() => expect(leader.engine.waiting.size).toBe(count));
  return { world, leader, ask, leaseId, waiting, untilWaiting };
}

test.each([
  ["its pool begins to drain", "pool.close", { drain: true }, "PoolClosed", "unavailable"],
  [
    "another policy never grants so many uses",
    "pool.policy",
    { policy: { lease: { usesMax: 3 } } },
    "PolicyChanged",
    "invalid-request",
  ],
  [
    "another policy has no source of tokens",
    "pool.policy",
    { policy: { token: null } },
    "PolicyChanged",
    "no-token-source",
  ],
] as const)(
  "a lease request that waits is refused in the very commit in which %s",
  async (_title, verb, body, fact, code) => {
    const { world, leader, ask, waiting, untilWaiting } = await taken();
    const request = waiting({ uses: 5, token: true });
    await untilWaiting(1);
    await ask(verb, body);
    expect(await request).toMatchObject({ code });
    expect(leader.engine.waiting.size).toBe(0);
    const commits = world.commits().filter((events) => events.some(({ type }) => type === fact));
    expect(commits.at(-1)).toContainEqual(expect.objectContaining({ type: "RequestsRefused", code, count: 1 }));
    leader.stop();
  },
);

test("keeps a lease request waiting that another policy can grant once a proxy is free", async () => {
  const { leader, ask, leaseId, waiting, untilWaiting } = await taken();
  const request = waiting({ uses: 3 });
  await untilWaiting(1);
  await ask("pool.policy", { policy: { lease: { usesMax: 3 } } });
  expect(leader.engine.waiting.size).toBe(1);
  await ask("release", { leaseId });
  expect(await request).toMatchObject({ uses: 3 });
  leader.stop();
});

test("bounds the copies of a waiting lease request, and lets others join once they are answered", async () => {
  const { leader, ask, leaseId, waiting, untilWaiting } = await taken({ waiting: { max: 2 } });
  let held = leaseId;
  for (const requestId of ["the-first-request-with-copies", "the-second-request-with-copies"]) {
    const requests = [0, 1, 2].map(() => waiting({ requestId }));
    await untilWaiting(1);
    expect(await waiting({ requestId })).toMatchObject({ code: "overloaded", retryAfterMs: expect.any(Number) });
    await ask("release", { leaseId: held });
    const told = await Promise.all(requests);
    for (const each of told) expect(each).toMatchObject({ requestId, leaseId: told[0]?.["leaseId"] });
    held = told[0]?.["leaseId"];
  }
  leader.stop();
});
