// What becomes of a refresh when its leader is gone: one leader after another on the same ledger and the same bucket.
import { describe, expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { systemClock } from "../../runtime/clock.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { Leader } from "../../services/picker/leader.ts";
import { Requests } from "../../services/picker/requests.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { herd } from "../kit/pool.ts";
import { source } from "../kit/token-pool.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");

class World {
  readonly ledger = new MemoryLedger();
  readonly bucket = new Map<string, string>();
  /** What the bucket must not be asked before. */
  onPut: (id: string) => void = () => {};
  readonly #policy: object;

  constructor(policy: object = {}) {
    this.#policy = policy;
  }

  /** Ready to claim the ledger: what is stored from now on by others it has not seen. */
  async fold() {
    const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
    const { ledger, bucket } = this;
    const leader = await Leader.fold({
      pool: "test",
      id: "leader",
      ledger,
      feed,
      clock: systemClock,
      key,
      onEnd: () => {},
    });
    const seen = new Map(bucket);
    const secrets = {
      ...noSecrets,
      putAs: async (id: string, secret: string) => {
        this.onPut(id);
        for (const map of [bucket, seen]) map.set(id, secret);
      },
      claim: async (id: string, by: string) => {
        const holder = bucket.get(id) ?? by;
        for (const map of [bucket, seen]) map.set(id, holder);
        return holder;
      },
      look: async (ids: readonly string[]) => {
        for (const id of ids) if (bucket.has(id)) seen.set(id, bucket.get(id)!); // Just asked.
      },
      get: (id: string) => seen.get(id),
    };
    let leases = 0;
    const newLeaseId = (): string => `l_${String(++leases).padStart(22, "0")}`;
    const requests = new Requests({ leader, secrets, key, newLeaseId });
    const ask = (verb: Parameters<Requests["handle"]>[0], body: object = {}) =>
      new Promise<Record<string, unknown>>((resolve) =>
        requests.handle(verb, body, (answer) => resolve(answer as Record<string, unknown>)),
      );
    return { leader, requests, ask };
  }

  async lead(proxies = 1) {
    const folded = await this.fold();
    const { leader, requests, ask } = folded;
    const open = this.ledger.commits.length === 0;
    const { token: more, ...policy } = this.#policy as { token?: object };
    const token = { scope: "pool", source: { ...source, timeoutMs: 1000 }, deadlineMs: 60_000, ...more };
    if (open) requests.open({ policy: { ...policy, token } }, () => {});
    await leader.lead();
    if (open) await ask("proxies.add", { proxies: herd(proxies) });
    return folded;
  }

  events(): Event[] {
    return this.ledger.commits.flatMap(({ bytes }) => decodeCommit(Buffer.from(bytes).toString()).events as Event[]);
  }

  types(): string[] {
    return this.events().map(({ type }) => type);
  }

  get requested() {
    return this.events().filter((event) => event.type === "TokenRequested");
  }
}

test("a refresh is given to one executor, once, whoever else asks for it", async () => {
  const world = new World();
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
  expect(job["leftMs"]).toBeLessThanOrEqual(60_000);
  expect(await ask("token.take", { tokenId, executor: "b" })).toEqual({});
  expect(await ask("token.take", { tokenId, executor: "a" })).toMatchObject({ tokenId });
  expect(await ask("token.take", { tokenId: "t_0000000000000000000000", executor: "a" })).toEqual({});
  leader.stop();
});

test("a value is stored before the token is known to be minted, and once it is, it is given", async () => {
  const world = new World();
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

test("who takes over looks into the bucket first, and fetches no other", async () => {
  const world = new World();
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

test("who takes over waits for the result of a refresh that its predecessor has given away, and gives away one that nobody had", async () => {
  const world = new World();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await first.ask("token.take", { tokenId, executor: "a" });
  first.leader.stop();
  const second = await world.lead();
  expect(await second.ask("token.take", { tokenId, executor: "b" })).toEqual({});
  // It may not have heard the answer.
  expect(await second.ask("token.take", { tokenId, executor: "a" })).toMatchObject({ tokenId });
  expect(await second.ask("token.get")).toMatchObject({ code: "token-unavailable" });
  expect(world.requested).toHaveLength(1);
  const outcome = { n: 1, status: 200 };
  expect(await second.ask("token.result", { tokenId, leaseId, outcome, value: "late" })).toEqual({ accepted: true });
  expect(await second.ask("token.get")).toMatchObject({ tokenId, value: "late" });
  second.leader.stop();

  const other = new World();
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

test("of two leaders that both believe to lead only one gives a refresh away", async () => {
  const world = new World();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId } = { tokenId: "" }] = world.requested;
  const second = await world.lead();
  expect(await second.ask("token.take", { tokenId, executor: "b" })).toMatchObject({ tokenId });
  expect(await first.ask("token.take", { tokenId, executor: "a" })).toEqual({});
  for (const { leader } of [first, second]) leader.stop();
});

test("its request ends before the refresh does, by the margin for clocks", async () => {
  const world = new World({ marginMs: 700 });
  const { leader, ask } = await world.lead();
  await ask("token.get");
  const [{ tokenId } = { tokenId: "" }] = world.requested;
  const job = (await ask("token.take", { tokenId, executor: "a" })) as { leftMs: number; deadlineMs: number };
  expect(job.leftMs).toBeGreaterThan(50_000);
  expect(job.deadlineMs - job.leftMs).toBe(700);
  expect(job.deadlineMs).toBeLessThanOrEqual(60_000);
  leader.stop();
});

test.each([
  ["from when its request was sent, as far as that is known", { leftMs: 59_000 }, 61_000],
  ["from the beginning of the refresh, where it is not", {}, 60_000],
  ["from there too where more time was left than the refresh had", { leftMs: 100_000 }, 60_000],
])("a token lives %s, however late it is brought", async (_title, sent, afterRequest) => {
  const world = new World();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId, leaseId, deadlineAt } = { tokenId: "", leaseId: "", deadlineAt: 0 }] = world.requested;
  const began = deadlineAt - 60_000;
  first.leader.stop();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const second = await world.lead();
  const outcome = { n: 1, status: 200 };
  const result = { tokenId, leaseId, outcome, value: "v", lifeMs: 60_000, ...sent };
  expect(await second.ask("token.get")).toMatchObject({ code: "token-unavailable" });
  expect(await second.ask("token.result", result)).toEqual({ accepted: true });
  const token = await second.ask("token.get");
  expect(token["expiresAt"]).toBe(began + afterRequest);
  expect(token["mintedAt"]).toBeGreaterThan(began);
  second.leader.stop();
});

test("one that has run out by the time it is brought is none", async () => {
  const world = new World();
  const { leader, ask } = await world.lead();
  await ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await new Promise((resolve) => setTimeout(resolve, 15));
  const result = { tokenId, leaseId, outcome: { n: 1, status: 200 }, value: "v", lifeMs: 10, leftMs: 60_000 };
  expect(await ask("token.result", result)).toEqual({ accepted: false });
  expect(world.events().at(-1)).toMatchObject({ type: "TokenRefused", why: "no-life" });
  leader.stop();
});

test("a value that is stored after another leader has folded the ledger, and before it claims it, is found", async () => {
  const world = new World();
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

test("a token whose value is not in the bucket any more is fetched anew", async () => {
  const world = new World();
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

const outcome = { n: 1, status: 200 };
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

describe("who waits in token get, and the policy changes", () => {
  const changed = { pool: { token: { scope: "pool" } }, proxy: { token: { scope: "proxy" } }, none: { token: null } };

  test("from the pool's token to those of proxies: one of those is fetched, and given", async () => {
    const world = new World();
    const { leader, ask } = await world.lead(2);
    const waiting = ask("token.get", { waitMs: 60_000 });
    await settled();
    await ask("pool.policy", { policy: changed.proxy });
    const [, second] = world.requested;
    expect(second).toMatchObject({ scope: "proxy", proxyId: expect.any(String) });
    const { tokenId = "", leaseId = "", proxyId = "" } = second ?? {};
    await ask("token.result", { tokenId, leaseId, outcome, value: "v2" });
    expect(await waiting).toMatchObject({ tokenId, proxyId, value: "v2" });
    leader.stop();
  });

  test("from a proxy's token to the pool's, as well for who asked for that proxy's", async () => {
    const world = new World({ token: { scope: "proxy" } });
    const { leader, ask } = await world.lead(2);
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    const waiting = [{ proxyId: proxies[1]?.id }, {}].map((asked) => ask("token.get", { ...asked, waitMs: 60_000 }));
    await settled();
    await ask("pool.policy", { policy: changed.pool });
    const last = world.requested.at(-1);
    expect(last).toMatchObject({ scope: "pool" });
    const { tokenId = "", leaseId = "" } = last ?? {};
    await ask("token.result", { tokenId, leaseId, outcome, value: "all" });
    for (const told of await Promise.all(waiting)) expect(told).toMatchObject({ tokenId, value: "all" });
    leader.stop();
  });

  test.each(["pool", "proxy"] as const)("from the token of the %s to none: all are told", async (scope) => {
    const world = new World({ token: { scope } });
    const { leader, ask } = await world.lead();
    const waiting = [ask("token.get", { waitMs: 60_000 }), ask("token.get", { waitMs: 60_000 })];
    await settled();
    await ask("pool.policy", { policy: changed.none });
    for (const told of await Promise.all(waiting)) expect(told).toMatchObject({ code: "no-token-source" });
    // What was under way then is brought, and is nobody's.
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    expect(await ask("token.take", { tokenId, executor: "a" })).toEqual({});
    await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
    expect(await ask("token.get")).toMatchObject({ code: "no-token-source" });
    expect(leader.state.tokens.size).toBe(0);
    leader.stop();
  });
});

test("however many wait for any proxy's token, one is fetched", async () => {
  const world = new World({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead(9);
  const waiting = Array.from({ length: 20 }, () => ask("token.get", { waitMs: 60_000 }));
  await settled();
  expect(world.requested).toHaveLength(1);
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
  for (const told of await Promise.all(waiting)) expect(told).toMatchObject({ tokenId });
  // Nor for nobody, afterwards.
  await ask("token.reject", { tokenId });
  expect(world.requested).toHaveLength(1);
  leader.stop();
});

test("who waits for the token of a proxy that is retired hears of it", async () => {
  const world = new World({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead();
  const [{ id } = { id: "" }] = ((await ask("proxies.list")) as { proxies: { id: string }[] }).proxies;
  const waiting = ask("token.get", { proxyId: id, waitMs: 60_000 });
  await settled();
  await ask("proxies.retire", { ids: [id] });
  expect(await waiting).toMatchObject({ code: "unknown-proxy" });
  expect(leader.state.askedFor.size).toBe(0);
  leader.stop();
});

test("a pool that drains fetches no more tokens, and says so; one under way is waited for", async () => {
  const world = new World({ token: { scope: "proxy" } });
  const { leader, ask } = await world.lead(2);
  const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
  const [a, b] = proxies.map(({ id }) => id);
  const waiting = ask("token.get", { proxyId: a, waitMs: 60_000 });
  await settled();
  await ask("pool.close", { drain: true });
  expect(await ask("token.get", { proxyId: b, waitMs: 60_000 })).toMatchObject({ code: "unavailable" });
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
  expect(await waiting).toMatchObject({ tokenId });
  leader.stop();
});

describe("when to ask again", () => {
  const near = (ms: unknown, about: number): void => {
    expect(ms).toBeGreaterThan(about - 1000);
    expect(ms).toBeLessThanOrEqual(about);
  };

  test("for the token of a proxy at rest: when that one can be leased, whatever the others could", async () => {
    const world = new World({ token: { scope: "proxy" } });
    const { leader, ask } = await world.lead(3);
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    const [a, b] = proxies.map(({ id }) => id);
    await ask("proxies.rest", { ids: [a], forMs: 100_000 });
    const told = await ask("token.get", { proxyId: a });
    expect(told).toMatchObject({ code: "token-unavailable" });
    near(told["retryAfterMs"], 100_000);
    near((await ask("token.get", { proxyId: b }))["retryAfterMs"], 60_000);
    leader.stop();
  });

  test("for the pool's, after a failure: at the end of its pause, or when a proxy can be leased if that is later", async () => {
    const world = new World({ token: { retry: { baseMs: 5000, jitterShare: 0 } } });
    const { leader, ask } = await world.lead();
    await ask("token.get");
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    await ask("token.result", { tokenId, leaseId, outcome: { n: 1, status: 404 }, why: "status" });
    near((await ask("token.get"))["retryAfterMs"], 5000);
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    await ask("proxies.rest", { ids: proxies.map(({ id }) => id), forMs: 30_000 });
    near((await ask("token.get"))["retryAfterMs"], 30_000);
    leader.stop();
  });

  test("after a rejection: the first to reject is told the same as the others", async () => {
    const world = new World({ token: { minAgeMs: 0 } });
    const { leader, ask } = await world.lead();
    await ask("token.get");
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
    for (let i = 0; i < 2; i++) {
      const told = await ask("token.reject", { tokenId });
      expect(told).toMatchObject({ action: "refreshing", tokenId });
      near(told["retryAfterMs"], 60_000);
    }
    expect(world.requested).toHaveLength(2);
    leader.stop();
  });

  test("after a rejection while every proxy rests: when the refresh may begin", async () => {
    const world = new World({ token: { minAgeMs: 0 } });
    const { leader, ask } = await world.lead();
    await ask("token.get");
    const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
    await ask("token.result", { tokenId, leaseId, outcome, value: "v" });
    const { proxies } = (await ask("proxies.list")) as { proxies: { id: string }[] };
    await ask("proxies.rest", { ids: proxies.map(({ id }) => id), forMs: 30_000 });
    near((await ask("token.reject", { tokenId }))["retryAfterMs"], 30_000);
    await ask("proxies.retire", { ids: proxies.map(({ id }) => id) });
    // When there may be one nobody can say.
    expect(await ask("token.reject", { tokenId })).toEqual({ action: "refreshing", tokenId });
    leader.stop();
  });
});
