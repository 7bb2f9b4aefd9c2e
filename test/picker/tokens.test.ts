// A refresh after its leader has ended: one leader after another on the same ledger and the same bucket.
import { expect, test } from "vitest";
import { commitEventsMax } from "../../runtime/loop.ts";
import { wantedTokens } from "../../services/picker/token-values.ts";
import { eventually } from "../kit/poll.ts";
import { TokenLeaders } from "../kit/token-leaders.ts";

test("gives a refresh to one executor, once, even if others ask for it", async () => {
  const world = new TokenLeaders();
  const { leader, ask } = await world.lead();
  await ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  const job = await ask("token.take", { tokenId, executor: "a" });
  expect(job).toMatchObject({
    tokenId,
    leaseId,
    leftMs: expect.any(Number),
    url: expect.stringContaining("192.0.2.1"),
  });
  expect(job["leftMs"]).toBe(60_000 - 100); // The margin for clocks.
  expect(await ask("token.take", { tokenId, executor: "b" })).toEqual({});
  expect(await ask("token.take", { tokenId, executor: "a" })).toMatchObject({ tokenId });
  expect(await ask("token.take", { tokenId: "t_0000000000000000000000", executor: "a" })).toEqual({});
  leader.stop();
});

test("keeps the lease of a refresh from workers: they neither see nor use it", async () => {
  const world = new TokenLeaders();
  const { leader, requests, ask } = await world.lead();
  await ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  const bob = { name: "bob", role: "worker" } as const;
  const asBob = (verb: Parameters<typeof requests.handle>[0], body: object = {}): Promise<object> =>
    new Promise((resolve) => void requests.handle(verb, body, resolve, bob));
  expect(await asBob("leases.list")).toEqual({ leases: [] });
  expect(await asBob("renew", { leaseId })).toMatchObject({ code: "unknown-lease" });
  expect(await asBob("report", { outcomes: [{ leaseId, reason: "blocked" }] })).toMatchObject({ accepted: 0 });
  expect(await asBob("release", { leaseId })).toMatchObject({ code: "unknown-lease" });
  expect(await ask("token.take", { tokenId, executor: "a" })).toMatchObject({ tokenId, leaseId });
  leader.stop();
});

test("stores a value before the token counts as minted, and then gives it", async () => {
  const world = new TokenLeaders();
  const { leader, ask } = await world.lead();
  await ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  let atPut: string[] = [];
  world.onPut = () => {
    atPut = world.types();
  };
  const outcome = { n: 1, status: 200 };
  expect(await ask("token.result", { tokenId, leaseId, outcome, value: "v1", lifeMs: 60_000 })).toEqual({
    accepted: true,
  });
  expect(atPut).toContain("TokenRequested");
  expect(atPut).not.toContain("TokenMinted");
  expect(await ask("token.get")).toMatchObject({ tokenId, value: "v1" });
  expect(await ask("token.result", { tokenId, leaseId, outcome, value: "v2" })).toEqual({ accepted: false });
  expect(await ask("token.get")).toMatchObject({ tokenId, value: "v1" });
  leader.stop();
});

test("finds a stored value in the bucket after a change of leader, and fetches no other", async () => {
  const world = new TokenLeaders();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId } = { tokenId: "" }] = world.requested;
  first.leader.stop();
  // The first leader stored it, and died before its commit.
  world.bucket.set(tokenId, JSON.stringify({ value: "found" }));
  const second = await world.lead();
  expect(await second.ask("token.get")).toMatchObject({ tokenId, value: "found" });
  expect(world.requested).toHaveLength(1);
  expect(world.types().filter((type) => type === "TokenMinted")).toHaveLength(1);
  second.leader.stop();
});

test("waits for a refresh that the previous leader gave away, and gives away one that it did not", async () => {
  const world = new TokenLeaders();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await first.ask("token.take", { tokenId, executor: "a" });
  first.leader.stop();
  const second = await world.lead();
  expect(await second.ask("token.take", { tokenId, executor: "b" })).toEqual({});
  // The executor may not have received the answer.
  expect(await second.ask("token.take", { tokenId, executor: "a" })).toMatchObject({ tokenId });
  expect(await second.ask("token.get")).toMatchObject({ code: "token-unavailable" });
  expect(world.requested).toHaveLength(1);
  const outcome = { n: 1, status: 200 };
  expect(await second.ask("token.result", { tokenId, leaseId, outcome, value: "late" })).toEqual({ accepted: true });
  expect(await second.ask("token.get")).toMatchObject({ tokenId, value: "late" });
  second.leader.stop();

  const other = new TokenLeaders();
  const third = await other.lead();
  await third.ask("token.get");
  const [{ tokenId: untaken } = { tokenId: "" }] = other.requested;
  third.leader.stop();
  const fourth = await other.lead();
  expect(await fourth.ask("token.take", { tokenId: untaken, executor: "b" })).toMatchObject({ tokenId: untaken });
  expect(await fourth.ask("token.take", { tokenId: untaken, executor: "c" })).toEqual({});
  expect(other.requested).toHaveLength(1);
  fourth.leader.stop();
});

test("gives a refresh away only once when two leaders both believe that they lead", async () => {
  const world = new TokenLeaders();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId } = { tokenId: "" }] = world.requested;
  const second = await world.lead();
  expect(await second.ask("token.take", { tokenId, executor: "b" })).toMatchObject({ tokenId });
  expect(await first.ask("token.take", { tokenId, executor: "a" })).toEqual({});
  for (const { leader } of [first, second]) leader.stop();
});

test("ends the request before the refresh, by the margin for clocks", async () => {
  const world = new TokenLeaders({ marginMs: 700 });
  const { leader, ask } = await world.lead();
  await ask("token.get");
  const [{ tokenId } = { tokenId: "" }] = world.requested;
  const job = (await ask("token.take", { tokenId, executor: "a" })) as { leftMs: number; deadlineMs: number };
  expect(job).toMatchObject({ deadlineMs: 60_000, leftMs: 60_000 - 700 });
  world.clock.move(10_000);
  const again = await ask("token.take", { tokenId, executor: "a" });
  expect(again).toMatchObject({ deadlineMs: 50_000, leftMs: 50_000 - 700 });
  leader.stop();
});

test.each([
  ["from when its request was sent, as far as that is known", { leftMs: 59_000 }, 61_000],
  ["from the beginning of the refresh, where it is not", {}, 60_000],
  ["from there too where more time was left than the refresh had", { leftMs: 100_000 }, 60_000],
])("lets a token live %s, however late it is brought", async (_title, sent, afterRequest) => {
  const world = new TokenLeaders();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId, leaseId, deadlineAt } = { tokenId: "", leaseId: "", deadlineAt: 0 }] = world.requested;
  const began = deadlineAt - 60_000;
  first.leader.stop();
  world.clock.move(20);
  const second = await world.lead();
  const outcome = { n: 1, status: 200 };
  const result = { tokenId, leaseId, outcome, value: "v", lifeMs: 60_000, ...sent };
  expect(await second.ask("token.get")).toMatchObject({ code: "token-unavailable" });
  expect(await second.ask("token.result", result)).toEqual({ accepted: true });
  const token = await second.ask("token.get");
  expect(token["expiresAt"]).toBe(began + afterRequest);
  expect(token["mintedAt"]).toBe(began + 20);
  second.leader.stop();
});

test("does not accept a token that has run out when it is brought", async () => {
  const world = new TokenLeaders();
  const { leader, ask } = await world.lead();
  await ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  world.clock.move(15);
  const result = { tokenId, leaseId, outcome: { n: 1, status: 200 }, value: "v", lifeMs: 10, leftMs: 60_000 };
  expect(await ask("token.result", result)).toEqual({ accepted: false });
  expect(world.events().at(-1)).toMatchObject({ type: "TokenRefused", why: "no-life" });
  leader.stop();
});

test("finds a value that is stored after another leader's fold and before its claim", async () => {
  const world = new TokenLeaders();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId } = { tokenId: "" }] = world.requested;
  const second = await world.fold();
  world.bucket.set(tokenId, JSON.stringify({ value: "found" }));
  first.leader.stop();
  await second.leader.lead();
  expect(await second.ask("token.get")).toMatchObject({ tokenId, value: "found" });
  expect(world.requested).toHaveLength(1);
  second.leader.stop();
});

test("fetches a token again whose value is no longer in the bucket", async () => {
  const world = new TokenLeaders();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await first.ask("token.result", { tokenId, leaseId, outcome: { n: 1, status: 200 }, value: "v1" });
  first.leader.stop();
  world.bucket.clear();
  const second = await world.lead();
  expect(await second.ask("token.get")).toMatchObject({ code: "token-unavailable" });
  expect(world.requested).toHaveLength(2);
  const lost = world.events().find(({ type }) => type === "TokenRejected");
  expect(lost).toMatchObject({ tokenId, action: "refreshing", why: "value-lost" });
  second.leader.stop();
});

test("keeps commits small however many values are gone, and gives no token without a value", async () => {
  const count = 1100;
  const world = new TokenLeaders({ token: { scope: "proxy" }, usage: null });
  const first = await world.lead();
  await first.ask("proxies.add", {
    proxies: Array.from({ length: count - 1 }, (_, i) => `10.0.${i >> 8}.${i & 255}:80`),
  });
  const ids = [...first.leader.state.proxies.keys()];
  await Promise.all(ids.map((proxyId) => first.ask("token.get", { proxyId })));
  const bring = ({ tokenId, leaseId }: { tokenId: string; leaseId: string }) =>
    first.ask("token.result", { tokenId, leaseId, outcome: { n: 1, status: 200 }, value: "v" });
  await Promise.all(world.requested.map(bring));
  const had = await first.ask("lease", { token: true });
  expect(had).toMatchObject({ token: { value: "v" } });
  await first.ask("release", { leaseId: had["leaseId"] });
  first.leader.stop();
  world.bucket.clear();
  const folded = await world.fold();
  const early = folded.ask("lease", { token: true });
  await folded.leader.lead();
  expect(await early).toMatchObject({ code: "token-unavailable" });
  const lost = world.commits().map((events) => events.filter(({ type }) => type === "TokenRejected").length);
  expect(lost.reduce((sum, each) => sum + each)).toBe(count);
  expect(Math.max(...lost)).toBeLessThanOrEqual(commitEventsMax);
  folded.leader.stop();
});

test("keeps stored values and executors as long as a lease or a refresh needs them", async () => {
  const world = new TokenLeaders({ token: { minAgeMs: 0 } });
  const { leader, ask } = await world.lead();
  const outcome = { n: 1, status: 200 };
  const fetch = async (value: string) => {
    await ask("token.get");
    const { tokenId, leaseId } = world.requested.at(-1) ?? { tokenId: "", leaseId: "" };
    await ask("token.take", { tokenId, executor: "a" });
    const underWay = wantedTokens(leader.state);
    expect([underWay(tokenId), underWay(`taken_${tokenId}`)]).toEqual([true, true]);
    await ask("token.result", { tokenId, leaseId, outcome, value });
    const since = wantedTokens(leader.state);
    expect([since(tokenId), since(`taken_${tokenId}`)]).toEqual([true, false]);
    return tokenId;
  };
  const first = await fetch("v1");
  const { leaseId } = await ask("lease", { token: true });
  await ask("token.reject", { tokenId: first });
  await fetch("v2");
  expect(wantedTokens(leader.state)(first)).toBe(true);
  await ask("release", { leaseId });
  expect(wantedTokens(leader.state)(first)).toBe(false);
  leader.stop();
});

test("fetches a token for each of several requests into a resting pool, without waiting for the others", async () => {
  const world = new TokenLeaders({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead(9);
  for (let n = 1; n <= 3; n++) {
    void ask("lease", { token: true, waitMs: 20_000 });
    await eventually(() => {
      world.clock.move(1);
      expect(world.requested).toHaveLength(n);
    });
  }
  leader.stop();
});

test("returns a previous leader's lease with its token, which is no longer the current one", async () => {
  const world = new TokenLeaders({ token: { minAgeMs: 0 } });
  const first = await world.lead();
  const outcome = { n: 1, status: 200 };
  const request = { token: true, requestId: "a-request-that-is-asked-again" };
  for (const value of ["v1", "v2"]) {
    await first.ask("token.get");
    const { tokenId, leaseId } = world.requested.at(-1) ?? { tokenId: "", leaseId: "" };
    await first.ask("token.result", { tokenId, leaseId, outcome, value });
    if (value === "v2") continue;
    expect(await first.ask("lease", request)).toMatchObject({ token: { tokenId, value } });
    await first.ask("token.reject", { tokenId });
  }
  first.leader.stop();
  const second = await world.lead(1, { isBehind: true });
  expect(await second.ask("lease", request)).toMatchObject({ token: { value: "v1" } });
  second.leader.stop();
});

test("fetches both tokens again after a change of leader when the next has run out and the current is lost", async () => {
  const world = new TokenLeaders({ token: { refreshAheadMs: 50_000 } });
  const first = await world.lead();
  await first.ask("token.get");
  const { tokenId, leaseId } = world.requested[0] ?? { tokenId: "", leaseId: "" };
  const result = { tokenId, leaseId, outcome: { n: 1, status: 200 }, value: "v1", lifeMs: 51_100, leftMs: 60_000 };
  await first.ask("token.result", result);
  world.clock.move(1100);
  await eventually(() => expect(world.requested).toHaveLength(2));
  const [, ahead] = world.requested;
  first.leader.stop();
  world.bucket.clear();
  world.bucket.set(ahead!.tokenId, JSON.stringify({ value: "v2", expiresAt: 1 }));
  const second = await world.lead();
  expect(await second.ask("lease", { token: true })).toMatchObject({ code: "token-unavailable" });
  expect(world.events().find(({ type }) => type === "TokenRejected")).toMatchObject({ tokenId, why: "value-lost" });
  second.leader.stop();
});

test("serves all waiters of the pool's token once it is there, even more than a commit can hold", async () => {
  const world = new TokenLeaders({ rate: null, concurrency: null, usage: null });
  const { leader, ask } = await world.lead();
  const waiting = Array.from({ length: 2500 }, () => ask("lease", { token: true, waitMs: 60_000 }));
  await eventually(() => expect(leader.engine.waiting.size).toBe(2500));
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await ask("token.result", { tokenId, leaseId, outcome: { n: 1, status: 200 }, value: "v" });
  let served = 0;
  for (const each of waiting) void each.then(({ token }) => (served += Number(token !== undefined)));
  await eventually(() => {
    world.clock.move(1);
    expect(served).toBe(2500);
  });
  for (const told of await Promise.all(waiting)) expect(told).toMatchObject({ token: { tokenId } });
  leader.stop();
});
