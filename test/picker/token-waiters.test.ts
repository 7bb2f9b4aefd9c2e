// Token waiters at a leader: their answers when the policy, a proxy or the pool has changed, and when they should
// retry.
import { describe, expect, test } from "vitest";
import { TokenLeaders } from "../kit/token-leaders.ts";

const outcome = { n: 1, status: 200 };

describe("token waiters when the policy changes", () => {
  const changed = { pool: { token: { scope: "pool" } }, proxy: { token: { scope: "proxy" } }, none: { token: null } };

  test("from the pool's token to proxies' tokens: fetches and gives one of those", async () => {
    const world = new TokenLeaders();
    const { leader, ask } = await world.lead(2);
    const waiting = ask("token.get", { waitMs: 60_000 });
    await ask("pool.stats"); // Answered after the earlier requests.
    await ask("pool.policy", { policy: changed.proxy });
    const [, second] = world.requested;
    expect(second).toMatchObject({ scope: "proxy", proxyId: expect.any(String) });
    const { tokenId = "", leaseId = "", proxyId = "" } = second ?? {};
    await ask("token.result", { tokenId, leaseId, outcome, value: "v2" });
    expect(await waiting).toMatchObject({ tokenId, proxyId, value: "v2" });
    leader.stop();
  });

  test("from a proxy's token to the pool's: serves waiters for that proxy's token too", async () => {
    const world = new TokenLeaders({ token: { scope: "proxy" } });
    const { leader, ask } = await world.lead(2);
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    const waiting = [{ proxyId: proxies[1]?.id }, {}].map((asked) => ask("token.get", { ...asked, waitMs: 60_000 }));
    await ask("pool.stats"); // Answered after the earlier requests.
    await ask("pool.policy", { policy: changed.pool });
    const last = world.requested.at(-1);
    expect(last).toMatchObject({ scope: "pool" });
    const { tokenId = "", leaseId = "" } = last ?? {};
    await ask("token.result", { tokenId, leaseId, outcome, value: "all" });
    for (const told of await Promise.all(waiting)) expect(told).toMatchObject({ tokenId, value: "all" });
    leader.stop();
  });

  test.each(["pool", "proxy"] as const)("from the token of the %s to none: answers all waiters", async (scope) => {
    const world = new TokenLeaders({ token: { scope } });
    const { leader, ask } = await world.lead();
    const waiting = [ask("token.get", { waitMs: 60_000 }), ask("token.get", { waitMs: 60_000 })];
    await ask("pool.stats"); // Answered after the earlier requests.
    await ask("pool.policy", { policy: changed.none });
    for (const told of await Promise.all(waiting)) expect(told).toMatchObject({ code: "no-token-source" });
    // The refresh under way then brings its token, and no lease gets it.
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    expect(await ask("token.take", { tokenId, executor: "a" })).toEqual({});
    await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
    expect(await ask("token.get")).toMatchObject({ code: "no-token-source" });
    expect(leader.state.tokens.size).toBe(0);
    leader.stop();
  });
});

test("fetches one token however many wait for any proxy's token", async () => {
  const world = new TokenLeaders({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead(9);
  const waiting = Array.from({ length: 20 }, () => ask("token.get", { waitMs: 60_000 }));
  await ask("pool.stats");
  expect(world.requested).toHaveLength(1);
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
  for (const told of await Promise.all(waiting)) expect(told).toMatchObject({ tokenId });
  // It also fetches none later, when nothing waits.
  await ask("token.reject", { tokenId });
  expect(world.requested).toHaveLength(1);
  leader.stop();
});

test("answers a token waiter whose proxy is retired", async () => {
  const world = new TokenLeaders({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead();
  const [{ id } = { id: "" }] = ((await ask("proxies.list")) as { proxies: { id: string }[] }).proxies;
  const waiting = ask("token.get", { proxyId: id, waitMs: 60_000 });
  await ask("pool.stats");
  await ask("proxies.retire", { ids: [id] });
  expect(await waiting).toMatchObject({ code: "unknown-proxy" });
  expect(leader.state.askedFor.size).toBe(0);
  leader.stop();
});

test("refuses to fetch tokens for a draining pool, and waits for a refresh under way", async () => {
  const world = new TokenLeaders({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead(2);
  const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
  const [a, b] = proxies.map(({ id }) => id);
  const waiting = ask("token.get", { proxyId: a, waitMs: 60_000 });
  await ask("pool.stats");
  await ask("pool.close", { drain: true });
  expect(await ask("token.get", { proxyId: b, waitMs: 60_000 })).toMatchObject({ code: "unavailable" });
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
  expect(await waiting).toMatchObject({ tokenId });
  leader.stop();
});

test("adds no work for a waiter for one proxy's token when others are leased, and answers it when its proxy changes", async () => {
  const world = new TokenLeaders({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead(20);
  const ids = [...leader.state.proxies.keys()];
  const [free = "", retired = "", ...others] = ids;
  await ask("proxies.rest", { ids: [retired, ...others], forMs: 3_600_000 });
  let looks = 0;
  const { tokens } = leader.state;
  const get = tokens.get.bind(tokens);
  tokens.get = (key) => {
    if (key === retired || others.includes(key)) looks++;
    return get(key);
  };
  const told = new Map<string, object>();
  const wait = (proxyId: string) =>
    void ask("token.get", { proxyId, waitMs: 60_000 }).then((answer) => told.set(proxyId, answer));
  for (const id of [retired, ...others]) wait(id);
  await ask("pool.get");
  expect(looks).toBeGreaterThan(0);
  looks = 0;
  const { leaseId } = await ask("lease", { exclude: others });
  await ask("report", { outcomes: [{ leaseId, status: 200 }] });
  expect(looks).toBe(0);
  await ask("proxies.retire", { ids: [free, retired] });
  await ask("pool.get"); // Answered after the waiters that are affected.
  expect([...told]).toEqual([[retired, expect.objectContaining({ code: "unknown-proxy" })]]);
  await ask("pool.policy", { policy: { token: null } });
  await ask("pool.get");
  expect([...told.keys()].sort()).toEqual([retired, ...others].sort());
  leader.stop();
});

describe("when to retry", () => {
  test("for the token of a resting proxy: when that proxy can be leased, whatever the others do", async () => {
    const world = new TokenLeaders({ token: { scope: "proxy" } });
    const { leader, ask } = await world.lead(3);
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    const [a, b] = proxies.map(({ id }) => id);
    await ask("proxies.rest", { ids: [a], forMs: 100_000 });
    const told = await ask("token.get", { proxyId: a });
    expect(told).toMatchObject({ code: "token-unavailable" });
    expect(told["retryAfterMs"]).toBe(100_000);
    world.clock.move(1500);
    expect((await ask("token.get", { proxyId: a }))["retryAfterMs"]).toBe(98_500);
    expect((await ask("token.get", { proxyId: b }))["retryAfterMs"]).toBe(60_000);
    leader.stop();
  });

  test("for the pool's token after a failure: at the end of its pause, or later when a proxy can be leased", async () => {
    const world = new TokenLeaders({ token: { retry: { baseMs: 5000, jitterShare: 0 } } });
    const { leader, ask } = await world.lead();
    await ask("token.get");
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    await ask("token.result", { tokenId, leaseId, outcome: { n: 1, status: 404 }, why: "status" });
    expect((await ask("token.get"))["retryAfterMs"]).toBe(5000);
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    await ask("proxies.rest", { ids: proxies.map(({ id }) => id), forMs: 30_000 });
    expect((await ask("token.get"))["retryAfterMs"]).toBe(30_000);
    leader.stop();
  });

  test("after a rejection: the first to reject gets the same answer as the others", async () => {
    const world = new TokenLeaders({ token: { minAgeMs: 0 } });
    const { leader, ask } = await world.lead();
    await ask("token.get");
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
    for (let i = 0; i < 2; i++) {
      const told = await ask("token.reject", { tokenId });
      expect(told).toMatchObject({ action: "refreshing", tokenId });
      expect(told["retryAfterMs"]).toBe(60_000);
    }
    expect(world.requested).toHaveLength(2);
    leader.stop();
  });

  test("after a rejection while every proxy rests: when the refresh may begin", async () => {
    const world = new TokenLeaders({ token: { minAgeMs: 0 } });
    const { leader, ask } = await world.lead();
    await ask("token.get");
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    await ask("proxies.rest", { ids: proxies.map(({ id }) => id), forMs: 30_000 });
    expect((await ask("token.reject", { tokenId }))["retryAfterMs"]).toBe(30_000);
    await ask("proxies.retire", { ids: proxies.map(({ id }) => id) });
    // The time of the next token is not known.
    expect(await ask("token.reject", { tokenId })).toEqual({ action: "refreshing", tokenId });
    leader.stop();
  });
});
