// What becomes of a refresh when its leader is gone: one leader after another on the same ledger and the same bucket.
import { expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { systemClock } from "../../runtime/clock.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { Leader } from "../../services/picker/leader.ts";
import { Requests } from "../../services/picker/requests.ts";
import { herd } from "../kit/pool.ts";
import { source } from "../kit/token-pool.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");

class World {
  readonly ledger = new MemoryLedger();
  readonly bucket = new Map<string, string>();
  /** What the bucket must not be asked before. */
  onPut: (id: string) => void = () => {};

  async lead() {
    const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
    const { ledger } = this;
    const leader = await Leader.fold({
      pool: "test",
      id: "leader",
      ledger,
      feed,
      clock: systemClock,
      key,
      onEnd: () => {},
    });
    const secrets = {
      put: async () => {},
      putAs: async (id: string, secret: string) => {
        this.onPut(id);
        this.bucket.set(id, secret);
      },
      get: (id: string) => this.bucket.get(id),
      prune: async () => {},
    };
    let leases = 0;
    const newLeaseId = (): string => `l_${String(++leases).padStart(22, "0")}`;
    const requests = new Requests({ leader, secrets, key, newLeaseId });
    const open = this.ledger.commits.length === 0;
    const token = { scope: "pool", source: { ...source, timeoutMs: 1000 }, deadlineMs: 60_000 };
    if (open) requests.open({ policy: { token } }, () => {});
    await leader.lead();
    const ask = (verb: Parameters<Requests["handle"]>[0], body: object = {}) =>
      new Promise<Record<string, unknown>>((resolve) =>
        requests.handle(verb, body, (answer) => resolve(answer as Record<string, unknown>)),
      );
    if (open) await ask("proxies.add", { proxies: herd(1) });
    return { leader, ask };
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

test("who takes over waits for the result of a refresh that its predecessor may have given away", async () => {
  const world = new World();
  const first = await world.lead();
  await first.ask("token.get");
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await first.ask("token.take", { tokenId, executor: "a" });
  first.leader.stop();
  const second = await world.lead();
  expect(await second.ask("token.take", { tokenId, executor: "b" })).toEqual({});
  expect(await second.ask("token.get")).toMatchObject({ code: "token-unavailable" });
  expect(world.requested).toHaveLength(1);
  const outcome = { n: 1, status: 200 };
  expect(await second.ask("token.result", { tokenId, leaseId, outcome, value: "late" })).toEqual({ accepted: true });
  expect(await second.ask("token.get")).toMatchObject({ tokenId, value: "late" });
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
  second.leader.stop();
});
