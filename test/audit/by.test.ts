// The user who did it: in the events that a request leads to, in explanations, in reports, and in a decided replay.
import { expect, test } from "vitest";
import { eventLine } from "../../cli/event-line.ts";
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { explainLease, explainMoment, explainProxy } from "../../services/audit/explain/explain.ts";
import { gather } from "../../services/audit/report/gather.ts";
import { pageOf } from "../../services/audit/report/page.ts";
import { verify } from "../../services/audit/verify.ts";
import { whatIf } from "../../services/audit/what-if/what-if.ts";
import type { Command } from "../../state-machines/command.ts";
import { sourceOf } from "./ledgers.ts";
import { addition, proxyId, Script } from "./scripted.ts";

const start = "2026-01-31T14:00:00.000Z";

/** Ann does everything, one act per second. Proxies 1 and 2 are there without her. */
function played(): Script {
  const script = new Script(start, { backoff: { kind: "none" } }, 2);
  const [by, id] = ["ann", proxyId(1)];
  const acts: Command[] = [
    { ...addition(proxyId(3), "192.0.2.3", { country: "DE" }), by },
    { ...addition(proxyId(3), "192.0.2.3", { country: "FR" }), by },
    { type: "change-policy", policy: { concurrency: 3 }, by },
    { type: "rest", proxyId: id, forMs: 60_000, note: "moving", by },
    { type: "revive", proxyId: id, by },
    { type: "rest", proxyId: proxyId(2), forMs: 500, note: undefined, by },
    { type: "retire", proxyId: proxyId(3), reason: "gone", by },
    { type: "open", policy: { concurrency: 4 }, keyFingerprint: "0123456789abcdef", by },
  ];
  for (const act of acts) {
    script.do(act);
    script.pass(1000);
  }
  return script;
}

const eventsOf = (script: Script): Event[] =>
  script.commits.flatMap((bytes) => decodeCommit(bytes.toString()).events as Event[]);

test("every event that a user's request leads to has the user, and no other event has one", () => {
  const script = played();
  const mine = { type: "lease", leaseId: `l_${"1".repeat(22)}`, user: "bob", deadline: 0 } as const;
  script.do({ ...mine, request: { uses: 1, minUses: 1, waitMs: 0 } });
  script.do({ type: "close", drain: true, by: "ann" });
  script.release(mine.leaseId);
  const done = eventsOf(script).map((event) => [event.type, "by" in event ? event.by : undefined]);
  expect(done.slice(4)).toEqual([
    ["ProxyAdded", "ann"],
    ["ProxyChanged", "ann"],
    ["PolicyChanged", "ann"],
    ["RestBegan", "ann"],
    ["RestEnded", "ann"],
    ["RestBegan", "ann"],
    ["RestEnded", undefined],
    ["ProxyRetired", "ann"],
    ["PolicyChanged", "ann"],
    ["LeaseGranted", undefined],
    ["PoolClosed", "ann"],
    ["LeaseClosed", undefined],
    ["PoolClosed", undefined],
  ]);
  expect(done.slice(0, 4).every(([, by]) => by === undefined)).toBe(true);
  script.do({ type: "open", policy: undefined, keyFingerprint: "0123456789abcdef", by: "ann" });
  expect(eventsOf(script).at(-1)).toMatchObject({ type: "PoolOpened", by: "ann" });
});

test("a ledger with users verifies, and its decisions are reproduced", async () => {
  const source = sourceOf(played().commits);
  expect((await verify(source, {})).findings).toEqual([]);
  expect(await whatIf(source, { policy: {}, waitMs: 0 })).toMatchObject({ reproduced: { events: 13, isExact: true } });
});

test("explanations name the user", async () => {
  const script = played();
  const leaseId = `l_${"1".repeat(22)}`;
  const request = { uses: 1, minUses: 1, waitMs: 0 };
  script.do({ type: "lease", request, leaseId, user: "bob", deadline: 0 });
  script.do({ type: "close", drain: false, by: "ann" });
  const source = sourceOf(script.commits);
  const told = async (asked: Promise<object>): Promise<string> =>
    (await (asked as Promise<{ story: string[] }>)).story.join("\n");
  const at = (seconds: number) => ({ at: { at: Date.parse(start) + seconds * 1000 } });
  expect(await told(explainProxy(source, proxyId(1), at(3)))).toContain("manual: ann asked for it, saying “moving”");
  expect(await told(explainProxy(source, proxyId(1), at(3)))).toContain("ann ended its rest");
  const third = await told(explainProxy(source, proxyId(3), at(7)));
  expect(third).toContain("added 2026-01-31T14:00:00.000Z by ann (commit 2)");
  expect(third).toContain("since 2026-01-31T14:00:06.000Z by ann (commit");
  expect(await told(explainLease(source, leaseId, {}))).toContain("The request of bob: 1 use.");
  const closed = explainMoment(source, at(60).at, {});
  expect(await told(closed)).toContain("closed since 2026-01-31T14:00:08.000Z by ann");
});

test("a report lists the acts, and only those of one user if asked", async () => {
  const script = played();
  script.do({ type: "rest", proxyId: proxyId(2), forMs: 60_000, note: undefined, by: "<i>bob" });
  const source = sourceOf(script.commits);
  const all = await gather(source, {});
  expect(all.acts).toMatchObject({ count: 9, byUser: { ann: 8, "<i>bob": 1 } });
  expect(all.acts.listed.at(-1)).toMatchObject({ by: "<i>bob", type: "RestBegan", proxyId: proxyId(2) });
  const page = pageOf(all);
  expect(page).toContain("<td>&#60;i&#62;bob</td><td>RestBegan</td><td>p_0000000000000002</td>");
  expect(page).toContain("8 ann, 1 &#60;i&#62;bob");
  const own = await gather(source, { by: ["ann"] });
  expect(own.acts).toMatchObject({ count: 8, byUser: { ann: 8 } });
  expect(pageOf(own)).not.toContain("bob");
});

test("a report has a bounded number of acts and of users, whatever their names", async () => {
  const script = new Script(start, {}, 1);
  for (let i = 1; i <= 150; i++)
    script.do({
      type: "rest",
      proxyId: proxyId(1),
      forMs: i * 1000,
      note: undefined,
      by: i === 1 ? "__proto__" : `u${i}`,
    });
  const { acts } = await gather(sourceOf(script.commits), {});
  expect(acts.count).toBe(150);
  expect(acts.listed).toHaveLength(100);
  expect(Object.keys(acts.byUser)).toHaveLength(31);
  expect(Object.entries(acts.byUser)).toContainEqual(["others", 120]);
});

test("the line of an event names the user", () => {
  const event = { type: "ProxyRetired", proxyId: proxyId(1), reason: "gone", by: "ann" };
  expect(eventLine({ at: 0 }, event, (id) => id)).toMatch(/gone by ann$/);
});
