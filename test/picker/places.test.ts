// Requests that cannot be decided yet, while the candidate index of very many proxies is built. Other requests go on,
// and the waiting ones keep their places before later ones.
import { expect, test } from "vitest";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { eventually } from "../kit/poll.ts";
import { TokenLeaders } from "../kit/token-leaders.ts";

const country = { country: "XX" };
const open = { rate: null, concurrency: 1, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const anew = { policy: { strategy: { kind: "lifo" } } };

/**
 * More proxies than one slice covers, one of them with a label. Each commit is stored when the test lets it through.
 */
async function led(policy: object = {}) {
  const world = new TokenLeaders({ ...open, ...policy });
  const { leader, ask } = await world.lead();
  await ask("proxies.add", { proxies: Array.from({ length: 10_500 }, (_, i) => `10.0.${i >> 8}.${i & 255}:80`) });
  await ask("proxies.add", { proxies: [{ url: "10.1.0.1:80", labels: country }] });
  const { ledger } = world;
  const held: (() => void)[] = [];
  ledger.append = (commit) =>
    new Promise((resolve) => held.push(() => resolve(MemoryLedger.prototype.store.call(ledger, commit))));
  const inFlight = () => eventually(() => expect(held).toHaveLength(1));
  const letThrough = (): void => {
    ledger.append = MemoryLedger.prototype.append;
    for (const go of held.splice(0)) go();
  };
  return { world, leader, ask, inFlight, letThrough };
}

test("grants requests in their order of arrival after every index was rebuilt", async () => {
  const { leader, ask, inFlight, letThrough } = await led();
  const granted: string[] = [];
  const request = async (name: string) => {
    const { leaseId } = await ask("lease", { labels: country });
    if (leaseId !== undefined) granted.push(name);
  };
  const changed = ask("pool.policy", anew);
  const first = request("first");
  await inFlight();
  const others = [request("second"), request("third")];
  letThrough();
  await Promise.all([changed, first, ...others]);
  expect(granted).toEqual(["first"]);
  leader.stop();
});

test("keeps the order of requests of a new kind, and grants others meanwhile", async () => {
  const { leader, ask, inFlight, letThrough } = await led();
  const granted: string[] = [];
  const request = async (name: string, asked: object) => {
    const { leaseId } = await ask("lease", asked);
    if (leaseId !== undefined) granted.push(name);
  };
  const first = request("first", { labels: country });
  const known = request("of a known kind", {});
  await inFlight();
  const second = request("second", { labels: country });
  letThrough();
  await Promise.all([known, first, second]);
  expect(granted).toEqual(["of a known kind", "first"]);
  leader.stop();
});

test.each([
  ["while every index is worked out anew", anew],
  ["while its own is, the first of its kind", undefined],
])("cancels a lease request %s, and grants nothing for it", async (_title, change) => {
  const { leader, ask, letThrough } = await led();
  letThrough();
  if (change !== undefined) await ask("release", { leaseId: (await ask("lease", { labels: country }))["leaseId"] });
  const { leases } = await ask("pool.stats");
  const proxies = (await ask("proxies.list", { labels: country }))["proxies"] as { id: string }[];
  const changed = change && ask("pool.policy", change);
  const requestId = "a-request-to-be-cancelled";
  const waiting = ask("lease", { labels: country, exclude: proxies.map(({ id }) => id), waitMs: 60_000, requestId });
  expect(await ask("cancel", { requestId })).toEqual({ cancelled: true });
  expect(await waiting).toMatchObject({ code: "unavailable", message: "This request was cancelled." });
  await changed;
  expect(await ask("pool.stats")).toMatchObject({ waiting: 0, leases });
  leader.stop();
});

test("begins no second refresh for a request for any proxy's token while every index is rebuilt", async () => {
  const { world, leader, ask, letThrough } = await led({ strategy: { kind: "lifo" }, token: { scope: "proxy" } });
  letThrough();
  const asked = [ask("token.get", { waitMs: 60_000 })];
  await ask("pool.get");
  let changed = false;
  const change = ask("pool.policy", { policy: { strategy: { kind: "best" } } }).then(() => ask("pool.stats"));
  void change.then(() => (changed = true));
  while (!changed) {
    asked.push(ask("token.get", { waitMs: 60_000 }));
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(asked.length).toBeGreaterThan(4);
  expect(world.requested).toHaveLength(1);
  const [{ tokenId, leaseId } = { tokenId: "", leaseId: "" }] = world.requested;
  await ask("token.result", { tokenId, leaseId, outcome: { n: 1, status: 200 }, value: "v" });
  for (const told of await Promise.all(asked)) expect(told).toMatchObject({ tokenId });
  leader.stop();
});

test.each([
  ["token.get", {}],
  ["lease", { token: true }],
] as const)(
  "the first %s that looks for a proxy's token does not keep others waiting, even after a change of leader",
  async (verb, asked) => {
    const { world, leader, ask, letThrough } = await led({ token: { scope: "proxy" } });
    letThrough();
    const answered: string[] = [];
    const told = (what: string, answer: Promise<unknown>) => answer.then(() => answered.push(what));
    await Promise.all([told(verb, ask(verb, asked)), told("pool", ask("pool.get"))]);
    expect(answered).toEqual(["pool", verb]);
    expect(world.requested).toHaveLength(1);
    leader.stop();
    const next = await world.lead();
    expect(next.leader.engine.candidates.isReady({ minUses: 1, token: true })).toBe(true);
    next.leader.stop();
  },
);
