// Rests, ends and exits with one forged figure, so that nothing else in the ledger is wrong.
import { expect, test } from "vitest";
import type { CommitEnvelope } from "../../events/commit.ts";
import { verify } from "../../services/audit/verify.ts";
import { findEvent, forge, sourceOf } from "./ledgers.ts";
import { addition, proxyId, Script } from "./scripted.ts";

type Event = Record<string, unknown>;

const startAt = "2026-01-31T14:00:00Z";
const noBackoff = { backoff: { kind: "none" } };

async function foundIn(commits: readonly Buffer[]): Promise<string[]> {
  const { findings } = await verify(sourceOf(commits), {});
  return findings.map(({ n, rule, what }) => `${n}: ${rule}: ${what}`);
}

/** Forges the first fitting event of a valid ledger. */
async function afterForging(
  { commits }: Script,
  matches: (event: Event) => boolean,
  change: (event: Event, commit: CommitEnvelope, place: number) => void,
): Promise<{ found: string[]; n: number }> {
  expect(await foundIn(commits)).toEqual([]);
  const { index, place } = findEvent(commits, matches);
  const forged = forge(commits, index, (commit) => change(commit.events[place] as Event, commit, place));
  return { found: await foundIn(forged), n: index + 1 };
}

const isOf = (type: string) => (event: Event) => event["type"] === type;

function labelled(script: Script, exit: string, proxy = 1): void {
  script.do(addition(proxyId(proxy), `192.0.2.${proxy}`, { exit }));
}

test.each([
  ["the label says", "203.0.113.9"],
  ["the address is, where no label says", ""],
])("finds a change that moves a proxy to a different exit from %s", async (_what, label) => {
  const script = new Script(startAt, noBackoff, 2);
  labelled(script, "203.0.113.1");
  labelled(script, label);
  const isSecond = (event: Event) => event["type"] === "ProxyChanged" && event["exit"] !== "203.0.113.1";
  const { found, n } = await afterForging(script, isSecond, (event) => Object.assign(event, { exit: "203.0.113.77" }));
  expect(found).toEqual([`${n}: proxy: the exit of ${proxyId(1)} is 203.0.113.77, not ${label || "192.0.2.1"}`]);
});

test.each([-1000, -1, 1, 60_000])("finds a usage rest of the exit that is %i ms too long", async (ms) => {
  const script = new Script(startAt, { ...noBackoff, usage: { limit: 2, restMs: 60_000 } }, 1);
  const lease = script.lease({ uses: 2 });
  script.rest(1, 600_000, "looked at");
  script.report(lease, { n: 1, status: 200 });
  script.report(lease, { n: 2, status: 200 });
  const isUsage = (event: Event) => event["exitUntil"] !== undefined;
  const { found, n } = await afterForging(script, isUsage, (event) => {
    event["exitUntil"] = Number(event["exitUntil"]) + ms;
  });
  expect(found[0]).toMatch(new RegExp(`^${n}: rest: exit 192.0.2.1 rests until \\d+, and must rest until \\d+$`));
});

test("accepts a usage rest that is over at once when the last one of the exit is over", async () => {
  const script = new Script(startAt, { ...noBackoff, usage: { limit: 4, restMs: 2000 } }, 3);
  for (const proxy of [1, 2]) labelled(script, "203.0.113.1", proxy);
  script.report(script.lease({ proxyId: proxyId(3) }), { status: 200 });
  script.pass(10);
  const lease = script.lease({ uses: 4, proxyId: proxyId(1) });
  for (const n of [1, 2, 3, 4]) script.report(lease, { n, status: 200 });
  labelled(script, "203.0.113.1", 3);
  script.pass(2000);
  expect(script.lease({ uses: 4, minUses: 4 })).not.toBe("");
  expect(
    script.commits
      .at(-1)!
      .toString()
      .match(/"reasons":\["usage"\]/g),
  ).toHaveLength(3);
  expect(await foundIn(script.commits)).toEqual([]);
});

test("accepts a manual rest of a proxy beyond its exit's rest, when the exit rests again meanwhile", async () => {
  const script = new Script(startAt, { ...noBackoff, usage: { limit: 1, restMs: 1000 } }, 2);
  for (const proxy of [1, 2]) labelled(script, "203.0.113.1", proxy);
  script.report(script.lease({ proxyId: proxyId(1) }), { status: 200 });
  script.rest(2, 60_000, "looked at");
  script.pass(1000);
  script.report(script.lease({ proxyId: proxyId(1) }), { status: 200 });
  expect(script.commits.at(-1)!.toString()).toContain('"reasons":["usage","manual"]');
  expect(await foundIn(script.commits)).toEqual([]);
});

test("finds a duplicate reason", async () => {
  const script = new Script(startAt, noBackoff, 1);
  script.rest(1, 1000, "looked at");
  const { found, n } = await afterForging(script, isOf("RestBegan"), (event) =>
    Object.assign(event, { reasons: ["manual", "manual"] }),
  );
  expect(found[0]).toContain(`${n}: rest: ${proxyId(1)} rests for manual, manual`);
});

test("finds a manual rest that lengthens nothing", async () => {
  const script = new Script(startAt, noBackoff, 1);
  script.rest(1, 1000, "looked at");
  const { found, n } = await afterForging(script, isOf("RestBegan"), (event, { events }) => {
    events.push({ ...event });
  });
  expect(found[0]).toMatch(new RegExp(`^${n}: rest: ${proxyId(1)} rests until \\d+ for manual, and must rest until`));
});

test("finds reasons for a rest that an added proxy does not have", async () => {
  const script = new Script(startAt, noBackoff, 1);
  const { found } = await afterForging(script, isOf("ProxyAdded"), (event) =>
    Object.assign(event, { reasons: ["usage"] }),
  );
  expect(found[0]).toContain(`1: rest: ${proxyId(1)} is added at rest`);
});

test("finds a lease that goes on after the use that its worker called the last", async () => {
  const script = new Script(startAt, noBackoff, 1);
  const lease = script.lease({ uses: 3 });
  script.report(lease, { n: 1, status: 200, final: true });
  const { found, n } = await afterForging(script, isOf("LeaseClosed"), (_event, { events }, place) =>
    events.splice(place, 1),
  );
  expect(found[0]).toBe(`${n}: closing: the last use of ${lease} is reported, and it is not closed`);
});

test("finds a lease that counts more uses than its worker had made at the end", async () => {
  const script = new Script(startAt, noBackoff, 1);
  const lease = script.lease({ uses: 3 });
  script.report(lease, { n: 2, status: 200, final: true });
  const { found, n } = await afterForging(script, isOf("LeaseClosed"), (event) => Object.assign(event, { used: 3 }));
  expect(found[0]).toBe(`${n}: closing: ${lease} is completed with 3 uses, and its worker made 2`);
});

test("finds a completed lease with unreported uses and no report of a last use", async () => {
  const script = new Script(startAt, noBackoff, 1);
  const lease = script.lease({ uses: 3 });
  script.release(lease, 1);
  const { found, n } = await afterForging(script, isOf("LeaseClosed"), (event) =>
    Object.assign(event, { how: "completed" }),
  );
  expect(found[0]).toBe(
    `${n}: closing: ${lease} is completed, its uses are not all reported, and no outcome is marked final`,
  );
});

test("accepts a last use in an outcome without a result, or in a repeated one", async () => {
  const script = new Script(startAt, noBackoff, 2);
  const twice = script.lease({ uses: 3 });
  script.report(twice, { n: 1, status: 200 });
  script.report(twice, { n: 1, status: 200, final: true });
  script.report(script.lease({ uses: 3 }), { n: 2, final: true });
  expect(script.commits.join("\n").match(/"how":"completed"/g)).toHaveLength(2);
  expect(await foundIn(script.commits)).toEqual([]);
});

test("finds a lease request for more uses than the policy could ever grant", async () => {
  const script = new Script(startAt, { ...noBackoff, rate: { limit: 5, windowMs: 60_000 } }, 1);
  const lease = script.lease({ uses: 5 });
  const { found, n } = await afterForging(script, isOf("LeaseGranted"), (event) =>
    Object.assign(event, { request: { uses: 6 } }),
  );
  expect(found).toEqual([
    `${n}: request: ${lease} is of a lease request for 6 uses, and at most 5 can ever be granted`,
  ]);
});

test("finds an event of a pool before it is opened", async () => {
  const script = new Script(startAt, noBackoff, 1);
  const { found } = await afterForging(script, isOf("PoolOpened"), (_event, { events }, place) =>
    events.push(...events.splice(place, 1)),
  );
  expect(found[0]).toBe("1: pool: ProxyAdded before the pool is opened");
});

test("finds a pool that drains without an open lease, or twice", async () => {
  const draining = { type: "PoolClosed", draining: true };
  const script = new Script(startAt, noBackoff, 1);
  const idle = forge(script.commits, 0, ({ events }) => void events.push(draining));
  expect(await foundIn(idle)).toEqual(["1: pool: the pool is to close with its last lease, and none is open"]);
  script.lease();
  const busy = forge(script.commits, 1, ({ events }) => void events.push(draining, draining));
  expect(await foundIn(busy)).toEqual(["2: pool: the pool is to close with its last lease a second time"]);
});

test("finds a proxy that returns with an address from which its id is not made", async () => {
  const script = new Script(startAt, noBackoff, 1);
  script.retire(1, "gone");
  labelled(script, "203.0.113.1");
  const isBack = (event: Event) => event["type"] === "ProxyAdded" && event["exit"] === "203.0.113.1";
  const { found, n } = await afterForging(script, isBack, (event) => Object.assign(event, { host: "192.0.2.99" }));
  const what = "is http://192.0.2.99, and was http://192.0.2.1: one id cannot be both";
  expect(found).toEqual([`${n}: proxy: ${proxyId(1)} ${what}`]);
});

test("finds a ledger of one pool that names another pool", async () => {
  const { commits } = new Script(startAt, noBackoff, 1);
  const { findings } = await verify({ ...sourceOf(commits), pool: "shop" }, {});
  expect(findings).toMatchObject([{ n: 1, rule: "pool", what: "the pool is called default, not shop" }]);
});
