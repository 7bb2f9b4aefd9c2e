// A leader on a ledger in memory: its behaviour at the borders of its ledger. Time is real, or moved manually if the
// test is about time.

import { setImmediate as immediately } from "node:timers/promises";
import { expect, test } from "vitest";
import { type CommitEnvelope, decodeCommit, encodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import type { MetricsReply } from "../../protocol/metrics.ts";
import type { LeaderVerb, PoolVerb } from "../../protocol/verbs.ts";
import { type Clock, systemClock } from "../../runtime/clock.ts";
import type { Fault } from "../../runtime/fault.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { commitBytesMax, commitEventsMax, hashOf, stallMs } from "../../runtime/loop.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { untilReadTo } from "../../services/picker/fold.ts";
import { LeftOut } from "../../services/picker/left-out.ts";
import type { OutcomeFeed, OutcomeMessage } from "../../services/picker/outcomes.ts";
import { Requests } from "../../services/picker/requests.ts";
import { anybody } from "../../services/picker/who.ts";
import { HandClock } from "../kit/hand-clock.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { eventually } from "../kit/poll.ts";
import { proxyLines } from "../kit/pool.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");
const policy = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };

class Feed implements OutcomeFeed {
  readonly messages: OutcomeMessage[] = [];
  deliver: ((message: OutcomeMessage) => Promise<void>) | undefined;
  from: { seq: number } | undefined;
  follow(from: { seq: number }, deliver: (message: OutcomeMessage) => Promise<void>): void {
    this.from = from;
    this.deliver = deliver;
    for (const message of this.messages) if (message.seq > from.seq) void deliver(message);
  }
  publish(body: unknown): void {
    const message = { seq: this.messages.length + 1, storedAt: Date.now(), bytes: Buffer.from(JSON.stringify(body)) };
    this.messages.push(message);
    void this.deliver?.(message);
  }
  async last() {
    return this.messages.at(-1);
  }
  stop(): void {
    this.deliver = undefined;
  }
}

interface Given {
  ledger?: Ledger;
  feed?: Feed;
  key?: typeof key;
  clock?: Clock;
  gapOn?: () => number;
  announce?: (term: number) => Promise<void>;
  signer?: { id: string; sign: () => string };
  leftOut?: LeftOut;
  onDefect?: (error: unknown, where: object) => void;
  watched?: ConstructorParameters<typeof Requests>[0]["watched"];
}

async function lead(given: Given = {}) {
  const feed = given.feed ?? new Feed();
  const ends: unknown[] = [];
  const told: string[] = [];
  const broke: object[] = [];
  const ledger = given.ledger ?? new MemoryLedger();
  const leader = await foldedLeader({
    pool: "test",
    id: "leader",
    ledger,
    feed,
    clock: given.clock ?? systemClock,
    key: given.key ?? key,
    secrets: noSecrets,
    gapOn: given.gapOn,
    announce: given.announce,
    ...(given.signer && { signer: given.signer }),
    ...(given.leftOut && { leftOut: given.leftOut }),
    ...(given.onDefect && { onDefect: given.onDefect }),
    tell: (event) => {
      told.push(event.type);
      if (event.type === "fenced" || event.type === "closed") ends.push(event.type);
      if (event.type === "broke") ends.push(event.error);
      if (event.type === "broke") broke.push(event);
    },
  });
  let leases = 0;
  const newLeaseId = (): string =>
    `l_${String(++leases).padStart(12, "0")}${Math.random().toString(36).slice(2, 12).padEnd(10, "0")}`;
  const { watched } = given;
  const requests = new Requests({
    ...{ outbound: loopbackAllowed, leader, secrets: noSecrets, key, newLeaseId },
    ...(watched && { watched }),
  });
  const ask = (
    verb: Exclude<LeaderVerb | PoolVerb, "pool.open">,
    body: object = {},
  ): Promise<Record<string, unknown>> =>
    new Promise((resolve) => requests.handle(verb, body, (answer) => resolve(answer as Record<string, unknown>)));
  const open = (body: object = { policy }): Promise<object> => new Promise((resolve) => requests.open(body, resolve));
  return { leader, requests, feed, ends, told, broke, ask, open, ledger };
}

async function opened(given: Parameters<typeof lead>[0] = {}) {
  const led = await lead(given);
  const answer = led.open();
  await led.leader.lead();
  await answer;
  return led;
}

const commitsOf = (ledger: MemoryLedger): CommitEnvelope[] =>
  ledger.commits.map((commit) => decodeCommit(Buffer.from(commit.bytes).toString()));

test("gives the pool up if it cannot read the outcomes for seconds but can read the ledger", async () => {
  const ledger = new MemoryLedger();
  (await opened({ ledger })).leader.stop();
  const feed = new Feed();
  feed.last = () => Promise.reject(new Error("the connection is down"));
  const clock = new HandClock();
  const { leader, told } = await lead({ ledger, feed, clock });
  const serves = leader.lead();
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      clock.move(100);
      for (let i = 0; i < 5; i++) await immediately();
    }
  };
  await pass(4000);
  const { head } = ledger;
  ledger.head = () => Promise.reject(new Error("an election"));
  await pass(10_000);
  expect(told).toEqual(["claimed"]);
  ledger.head = head;
  await pass(5000);
  expect(told).toEqual(["claimed", "stuck"]);
  expect(await serves).toBe(false);
});

test("proves on a replicated ledger by a commit, which a read from a server that was cut off cannot forge", async () => {
  const clock = new HandClock();
  const ledger = Object.assign(new MemoryLedger(), { isReplicated: true });
  const signer = { id: "key", sign: () => "signed" };
  const { leader, ask, ends } = await opened({ ledger, clock, signer });
  const before = ledger.commits.length;
  await ask("pool.stats");
  expect(ledger.commits).toHaveLength(before); // The last commit is the proof.
  clock.move(2000);
  await ask("pool.stats");
  expect(commitsOf(ledger).slice(before)).toMatchObject([{ events: [{ type: "HeadSigned", n: before }] }]);
  clock.move(2000);
  const head = await ledger.head();
  await ledger.append({ id: "another leader's", bytes: Buffer.from("{}"), afterSeq: head.seq });
  ledger.head = () => Promise.resolve(head); // As it was before.
  const answers: unknown[] = [];
  void ask("pool.stats").then((answer) => answers.push(answer));
  await eventually(() => expect(ends).toEqual(["fenced"]));
  expect(answers).toEqual([]);
  leader.stop();
});

test("does not fold a replicated ledger that ends too early, until 15 seconds have passed", async () => {
  const clock = new HandClock();
  const ledger = Object.assign(new MemoryLedger(), { isReplicated: true });
  let isThere = false;
  const waiting = untilReadTo({ ledger, clock }, 1).then(() => (isThere = true));
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 500) {
      clock.move(500);
      for (let i = 0; i < 5; i++) await immediately();
    }
  };
  await pass(10_000);
  expect(isThere).toBe(false);
  await ledger.append({ id: "a", bytes: Buffer.from("a"), afterSeq: 0 });
  await pass(500);
  expect(isThere).toBe(true);
  isThere = false;
  const lost = untilReadTo({ ledger, clock }, 2).then(() => (isThere = true));
  await pass(14_000);
  expect(isThere).toBe(false);
  await pass(1500);
  expect(isThere).toBe(true);
  await Promise.all([waiting, lost]);
});

test("does not show a lag of 0 while the outcomes cannot be read", async () => {
  const clock = new HandClock();
  let isThere = true;
  const watched = {
    outcomeStoredAfter: () => (isThere ? Promise.resolve(undefined) : Promise.reject(new Error("the link is down"))),
    defects: () => 0,
    stallMs: () => ({ le: [], counts: [0], sum: 0 }),
  };
  const { leader, ask } = await opened({ clock, watched });
  const lagMs = async (): Promise<unknown> => (await ask("pool.metrics"))["outcomeLagMs"];
  clock.move(4000);
  expect(await lagMs()).toBe(0);
  isThere = false;
  clock.move(4000);
  expect(await lagMs()).toBe(4000);
  clock.move(1000);
  expect(await lagMs()).toBe(5000);
  isThere = true;
  expect(await lagMs()).toBe(0);
  leader.stop();
});

test("claims and opens a closed pool again in one commit, and tells beforehand of a refusal", async () => {
  const ledger = new MemoryLedger();
  const first = await opened({ ledger });
  await first.ask("proxies.add", { proxies: proxyLines(2) });
  await first.ask("lease");
  await first.ask("pool.close");
  const second = await lead({ ledger });
  expect(second.requests.refusalToOpen({ policy: { limitBy: "proxy" } })).toMatchObject({ field: "policy.limitBy" });
  const before = ledger.commits.length;
  const answer = second.open({});
  await second.leader.lead();
  expect(await answer).toMatchObject({ pool: "test" });
  expect(commitsOf(ledger).slice(before)).toMatchObject([
    { term: 2, events: [{ type: "LeaderClaimed" }, { type: "PoolOpened" }] },
  ]);
  second.leader.stop();
});

test("claims and opens a pool in its first commit", async () => {
  const ledger = new MemoryLedger();
  const { leader } = await opened({ ledger });
  expect(commitsOf(ledger)).toMatchObject([
    { n: 1, prev: "", term: 1, events: [{ type: "LeaderClaimed" }, { type: "PoolOpened" }] },
  ]);
  leader.stop();
});

test("decides a large request in slices, and answers when the last slice is stored", async () => {
  const ledger = new MemoryLedger();
  const { leader, ask } = await opened({ ledger });
  const proxies = Array.from({ length: 5000 }, (_, i) => ({
    url: `127.3.${i >> 8}.${i & 255}:80`,
    labels: { note: "x".repeat(100) },
  }));
  expect(await ask("proxies.add", { proxies })).toMatchObject({ added: 5000 });
  const commits = commitsOf(ledger);
  expect(commits.length).toBeGreaterThan(5);
  for (const [i, commit] of commits.entries()) {
    expect(commit.events.length).toBeLessThanOrEqual(commitEventsMax);
    expect(ledger.commits[i]?.bytes.length).toBeLessThan(commitBytesMax + 4096);
    expect(commit.prev).toBe(i === 0 ? "" : hashOf(ledger.commits[i - 1]!.bytes));
  }
  leader.stop();
});

test("answers other requests while many candidates are reindexed, and keeps an earlier request's proxy for it", async () => {
  const { leader, ask } = await opened();
  await ask("proxies.add", { proxies: Array.from({ length: 10_500 }, (_, i) => `10.0.${i >> 8}.${i & 255}:80`) });
  await ask("proxies.add", { proxies: [{ url: "10.1.0.1:80", labels: { country: "XX" } }] });
  await ask("pool.policy", { policy: { concurrency: 1 } });
  const held = await ask("lease", { labels: { country: "XX" } });
  const answered: string[] = [];
  const told = async (what: string, answer: Promise<Record<string, unknown>>) => {
    const said = await answer;
    answered.push(what);
    return said;
  };
  const waiting = told("waiting", ask("lease", { labels: { country: "XX" }, waitMs: 60_000 }));
  await ask("pool.stats");
  // Under this policy that proxy would be first for any request, once it has been returned.
  const others = [
    told("policy", ask("pool.policy", { policy: { strategy: { kind: "lifo" } } })),
    told("released", ask("release", { leaseId: held["leaseId"] })),
    told("numbers", ask("pool.stats")),
    told("request", ask("lease")),
    told("pool", ask("pool.get")),
  ];
  const [, , numbers, request] = await Promise.all(others);
  expect(await waiting).toMatchObject({ host: "10.1.0.1" });
  expect(request).toMatchObject({ leaseId: expect.any(String) });
  expect(request?.["host"]).not.toBe("10.1.0.1");
  expect(numbers).toMatchObject({ proxies: { available: 10_499, "in-use": 2, leasable: 10_499 } });
  expect(answered.slice(0, 3)).toEqual(["policy", "released", "pool"]);
  leader.stop();
});

test("ingests outcomes once, even if a message is larger than a commit and the leader changes in between", async () => {
  const ledger = new MemoryLedger();
  const feed = new Feed();
  const first = await opened({ ledger, feed });
  await first.ask("proxies.add", { proxies: proxyLines(3) });
  const lease = await first.ask("lease", { uses: 1000 });
  const outcomes = Array.from({ length: 1000 }, (_, i) => ({
    leaseId: lease["leaseId"],
    n: i + 1,
    status: 200,
    target: "x".repeat(150),
  }));
  // Only the first slice reaches the ledger: the leader is killed there.
  const store = ledger.store.bind(ledger);
  const takes = (commit: { bytes: Uint8Array }): boolean => Buffer.from(commit.bytes).includes("UseReported");
  let slices = 0;
  ledger.append = async (commit) => (takes(commit) && ++slices > 1 ? new Promise<never>(() => {}) : store(commit));
  feed.publish(outcomes);
  await eventually(() => expect(slices).toBe(2));
  first.leader.stop();
  const cursor = commitsOf(ledger).at(-1)?.cursor;
  expect(cursor).toMatchObject({ seq: 0, taken: expect.any(Number) });
  ledger.append = async (commit) => store(commit);
  const second = await lead({ ledger, feed });
  await second.leader.lead();
  const events = commitsOf(ledger).flatMap((commit) => commit.events as Event[]);
  const uses = events.filter((event) => event.type === "UseReported").map((event) => event.n);
  expect(uses).toEqual(outcomes.map(({ n }) => n));
  expect(await second.ask("pool.stats")).toMatchObject({
    outcomes: { succeeded: 1000, ignored: 0 },
    leases: { open: 0 },
  });
  second.leader.stop();
});

test("refuses leases when the ledger is nearly full, and still accepts reports, ends and claims", async () => {
  let fill = 0;
  const ledger = new MemoryLedger();
  ledger.room = () => ({ bytes: fill * 1e9, bytesMax: 1e9 });
  const first = await opened({ ledger });
  await first.ask("proxies.add", { proxies: proxyLines(2) });
  const lease = await first.ask("lease");
  first.leader.stop();
  fill = 0.9;
  const second = await lead({ ledger });
  await second.leader.lead();
  expect(await second.ask("lease")).toMatchObject({ code: "unavailable", retryAfterMs: expect.any(Number) });
  expect(await second.ask("proxies.add", { proxies: proxyLines(1, 9) })).toMatchObject({ code: "unavailable" });
  expect(await second.ask("report", { outcomes: [{ leaseId: lease["leaseId"], status: 200 }] })).toMatchObject({
    accepted: 1,
  });
  expect(await second.ask("release", { leaseId: lease["leaseId"] })).toMatchObject({ used: 1 });
  second.leader.stop();
});

test("refuses requests while a commit has no result, and answers the one in flight when it has one", async () => {
  const clock = new HandClock();
  const ledger = new MemoryLedger({ wall: clock.wall });
  const { leader, ask } = await opened({ ledger, clock });
  await ask("proxies.add", { proxies: proxyLines(2) });
  const store = ledger.store.bind(ledger);
  let answer: (() => void) | undefined;
  ledger.append = (commit) => new Promise((resolve) => (answer = () => resolve(store(commit))));
  const inFlight = ask("lease");
  await eventually(() => expect(answer).toBeDefined());
  let isAnswered = false;
  const waiting = ask("lease").finally(() => (isAnswered = true));
  clock.move(stallMs - 1);
  await immediately();
  expect(isAnswered).toBe(false);
  clock.move(1);
  expect(await waiting).toMatchObject({ code: "unavailable", retryAfterMs: expect.any(Number) });
  expect(await ask("lease")).toMatchObject({ code: "unavailable" });
  ledger.append = async (commit) => store(commit);
  answer?.();
  expect(await inFlight).toMatchObject({ leaseId: expect.any(String) });
  expect(await ask("lease")).toMatchObject({ leaseId: expect.any(String) });
  leader.stop();
});

/** A leader whose commit has no result, in a process that has just had a gap in its life. */
async function afterGap() {
  const clock = new HandClock();
  const ledger = new MemoryLedger({ wall: clock.wall });
  let gapOn = Number.NEGATIVE_INFINITY;
  const led = await opened({ ledger, clock, gapOn: () => gapOn });
  await led.ask("proxies.add", { proxies: proxyLines(2) });
  const store = ledger.store.bind(ledger);
  let land: (() => void) | undefined;
  ledger.append = (commit) => new Promise((resolve) => (land = () => resolve(store(commit))));
  const answers: unknown[] = [];
  const ask = (): void => void led.ask("lease").then((answer) => answers.push(answer));
  ask();
  await eventually(() => expect(land).toBeDefined());
  ledger.append = async (commit) => store(commit);
  ask();
  gapOn = clock.monotonic() + 5000;
  clock.move(5000);
  ask();
  await immediately();
  expect(answers).toEqual([]);
  return { ...led, ledger, clock, answers, land: () => land?.() };
}

test("says nothing after a gap until it has proved that it still leads, not even a refusal", async () => {
  const { answers, land, leader } = await afterGap();
  land();
  await eventually(() => expect(answers).toHaveLength(3));
  expect(answers).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ leaseId: expect.any(String) }),
      expect.objectContaining({ code: "unavailable" }),
    ]),
  );
  leader.stop();
});

test("stays silent for ever if another leader took over in the gap, whether or not its commit was stored", async () => {
  const { answers, ledger, land, ends, leader } = await afterGap();
  const next = await lead({ ledger, clock: systemClock });
  await next.leader.lead();
  land();
  await eventually(() => expect(ends).toEqual(["fenced"]));
  await immediately();
  expect(answers).toEqual([]);
  leader.stop();
  next.leader.stop();
});

test("proves itself again after a commit that was in flight in the gap and was stored before the next claim", async () => {
  const { answers, ledger, land, ends } = await afterGap();
  const head = ledger.head.bind(ledger);
  // The answer to the commit is delivered only after another leader has claimed.
  ledger.head = async () => ({ ...(await head()), seq: 1000 });
  land();
  await eventually(() => expect(ends).toEqual(["fenced"]));
  expect(answers).toEqual([]);
});

test("announces its term after its claim is stored, before it says that it has claimed", async () => {
  const ledger = new MemoryLedger();
  const said: string[] = [];
  let tries = 0;
  const announce = async (term: number): Promise<void> => {
    said.push(`term ${term} after ${ledger.commits.length} commit, told ${told.length}`);
    if (++tries === 1) throw new Error("the broker is away");
  };
  const { leader, told, open } = await lead({ ledger, announce });
  const answer = open();
  await leader.lead();
  await answer;
  expect(said).toEqual(["term 1 after 1 commit, told 0", "term 1 after 1 commit, told 0"]);
  expect(told).toEqual(["claimed", "caughtUp"]);
  leader.stop();
});

test("answers nothing after a leader is fenced", async () => {
  const ledger = new MemoryLedger();
  const old = await opened({ ledger });
  await old.ask("proxies.add", { proxies: proxyLines(2) });
  const next = await lead({ ledger });
  await next.leader.lead();
  let answered = false;
  void old.ask("lease").then(() => (answered = true));
  await eventually(() => expect(old.ends).toEqual(["fenced"]));
  expect(await next.ask("pool.stats")).toMatchObject({ leader: { term: 2 }, leases: { granted: 0 } });
  expect(answered).toBe(false);
  next.leader.stop();
});

test("records a flood of refusals in at most one commit a second, and forgets none", async () => {
  const clock = new HandClock();
  const ledger = new MemoryLedger({ wall: clock.wall });
  const { leader, ask } = await opened({ ledger, clock });
  const before = ledger.commits.length;
  const flood = async (): Promise<void> => {
    const answers = await Promise.all(Array.from({ length: 2000 }, () => ask("lease")));
    expect(new Set(answers.map((answer) => answer["code"]))).toEqual(new Set(["no-match"]));
  };
  const settled = async (): Promise<number> => {
    await ask("pool.stats");
    return ledger.commits.length - before;
  };
  await flood();
  expect(await settled()).toBe(0);
  clock.move(999);
  expect(await settled()).toBe(0);
  clock.move(1);
  expect(await settled()).toBe(1);
  // A leader without a recent acknowledgement commits the first refusals at once. That proves that it still leads.
  clock.move(5000);
  await flood();
  expect(await settled()).toBe(2);
  await flood();
  clock.move(999);
  expect(await settled()).toBe(2);
  clock.move(1);
  expect(await settled()).toBe(3);
  expect(await ask("pool.stats")).toMatchObject({ refused: { "no-match": 6000 } });
  leader.stop();
});

test.each<[what: string, why: RegExp, damage: (commits: { bytes: Uint8Array }[]) => unknown]>([
  [
    "a changed byte",
    /at sequence 3: it does not follow the one before it: the hash chain is broken\./,
    (commits) =>
      (commits[1]!.bytes = Buffer.from(Buffer.from(commits[1]!.bytes).toString().replace("192.0.2.1", "192.0.2.7"))),
  ],
  ["a missing commit", /at sequence 3: expected commit 2, found 3 \(1 missing\)\./, (commits) => commits.splice(1, 1)],
  ["garbage", /at sequence 2: .*JSON.*\./, (commits) => (commits[1]!.bytes = Buffer.from("garbage"))],
])("stops the pool when its ledger has %s, and reports the place and the cure", async (_what, why, damage) => {
  const ledger = new MemoryLedger();
  const { leader, ask } = await opened({ ledger });
  await ask("proxies.add", { proxies: proxyLines(2) });
  await ask("lease");
  leader.stop();
  damage(ledger.commits);
  await expect(lead({ ledger })).rejects.toMatchObject({
    code: "stop-damaged",
    message: expect.stringMatching(
      new RegExp(`pool test is damaged ${why.source}.*audit verify --pool test.*restore a backup .*remuda restore`),
    ),
  } satisfies Partial<Record<keyof Fault, unknown>>);
});

test("says that a newer version wrote its ledger, and not that it is damaged", async () => {
  const ledger = new MemoryLedger();
  const { leader, ask } = await opened({ ledger });
  await ask("proxies.add", { proxies: proxyLines(2) });
  leader.stop();
  const write = (events: object[]): void => {
    const last = ledger.commits.at(-1)!;
    const head = decodeCommit(Buffer.from(last.bytes).toString());
    const texts = events.map((event) => JSON.stringify(event));
    const bytes = Buffer.from(encodeCommit({ ...head, n: head.n + 1, prev: hashOf(last.bytes) }, texts));
    ledger.store({ id: `newer-${head.n}`, bytes, afterSeq: last.seq });
  };
  // An inert event decides nothing, so a reader may skip it.
  write([{ type: "LeaderClaimed", leader: "newer", term: 2, version: "9.8.7" }]);
  write([{ type: "Remark", text: "hello", inert: true }]);
  const { leader: skipped } = await lead({ ledger });
  expect(await skipped.lead()).toBe(true);
  skipped.stop();
  write([{ type: "LeaderClaimed", leader: "newer", term: 4, version: "9.8.7" }, { type: "ProxyBlessed" }]);
  const fault = {
    code: "stop-newer",
    message: expect.stringMatching(
      /^Version 9\.8\.7 of Remuda wrote the ledger of pool test, and this picker cannot read it: at sequence 6, the event ProxyBlessed is not known\. .*Update this picker\.$/,
    ),
  };
  await expect(lead({ ledger })).rejects.toMatchObject(fault);
  ledger.commits[5]!.bytes = Buffer.from(
    Buffer.from(ledger.commits[5]!.bytes).toString().replace('{"v":2,', '{"v":3,'),
  );
  await expect(lead({ ledger })).rejects.toMatchObject({
    code: "stop-newer",
    message: expect.stringContaining("the commit's version is 3, and this program reads 2"),
  });
});

test("refuses another installation's key before it claims anything", async () => {
  const ledger = new MemoryLedger();
  const { leader } = await opened({ ledger });
  leader.stop();
  const other = keyOf(Buffer.alloc(32, 2).toString("base64url"), "test");
  await expect(lead({ ledger, key: other })).rejects.toMatchObject({
    code: "fix-setup",
    message: expect.stringContaining("key"),
  });
  expect(ledger.commits).toHaveLength(1);
});

test("answers a cancelled waiting request, and grants nothing for it", async () => {
  const { leader, ask } = await opened();
  await ask("pool.policy", { policy: { concurrency: 1 } });
  await ask("proxies.add", { proxies: proxyLines(1) });
  const { leaseId } = await ask("lease");
  const requestId = "a-request-to-be-cancelled";
  const waiting = ask("lease", { waitMs: 60_000, requestId });
  expect(await ask("cancel", { requestId })).toEqual({ cancelled: true });
  expect(await waiting).toMatchObject({ code: "unavailable", message: "This request was cancelled." });
  await ask("release", { leaseId });
  expect(await ask("pool.stats")).toMatchObject({ waiting: 0, leases: { open: 0, granted: 1 }, refused: {} });
  expect(await ask("cancel", { requestId })).toEqual({ cancelled: false });
  expect(await ask("cancel", { requestId: "short" })).toMatchObject({ code: "invalid-request", field: "requestId" });
  leader.stop();
});

test("stops the pool with an error when an expired lease request is not answered", async () => {
  const { leader, ask, ends } = await opened();
  await ask("pool.policy", { policy: { concurrency: 1 } });
  await ask("proxies.add", { proxies: proxyLines(1) });
  await ask("lease");
  leader.engine.waiting.serveOverdue = () => {};
  void ask("lease", { waitMs: 20 });
  await eventually(() => expect(ends).toHaveLength(1));
  expect((ends[0] as Fault).message).toBe(
    "The pool test is no longer served: a lease request has waited long enough, and is neither granted nor refused.",
  );
});

test("cancels only one copy of a lease request, and keeps a lease that is already granted", async () => {
  const { leader, ask } = await opened();
  await ask("pool.policy", { policy: { concurrency: 1 } });
  await ask("proxies.add", { proxies: proxyLines(1) });
  const { leaseId } = await ask("lease");
  const requestId = "a-request-in-two-copies";
  const copies = [ask("lease", { waitMs: 60_000, requestId }), ask("lease", { waitMs: 60_000, requestId })];
  expect(await ask("cancel", { requestId })).toEqual({ cancelled: true });
  expect(await ask("pool.stats")).toMatchObject({ waiting: 1 });
  await ask("release", { leaseId });
  const [first, second] = await Promise.all(copies);
  expect(first).toMatchObject({ leaseId: expect.any(String), requestId });
  expect(second).toMatchObject({ leaseId: first?.["leaseId"] });
  expect(await ask("cancel", { requestId })).toEqual({ cancelled: false });
  expect(await ask("pool.stats")).toMatchObject({ leases: { open: 1, granted: 2 } });
  leader.stop();
});

test("counts waits, commits, the limits that held requests back, and rejected requests", async () => {
  let fill = 0;
  const clock = new HandClock();
  const ledger = new MemoryLedger({ wall: clock.wall });
  ledger.room = () => ({ bytes: fill * 1e9, bytesMax: 1e9 });
  const { leader, ask } = await opened({ ledger, clock });
  await ask("pool.policy", { policy: { concurrency: 1 } });
  await ask("proxies.add", { proxies: proxyLines(1) });
  const { leaseId } = await ask("lease");
  expect(await ask("lease")).toMatchObject({ code: "pool-exhausted" });
  const waiting = ask("lease", { waitMs: 30_000 });
  await ask("pool.stats");
  clock.move(700);
  await ask("release", { leaseId });
  await waiting;
  const metrics = (await ask("pool.metrics")) as unknown as MetricsReply;
  expect(metrics).toMatchObject({
    stats: { leases: { granted: 2 } },
    heldBack: { rate: 0, concurrency: 2, usage: 0, bytes: 0, rest: 0, exclude: 0, session: 0, holder: 0 },
    rejected: {},
    cancelled: 0,
    ambiguousAttempts: 0,
    defects: 0,
    outcomeLagMs: 0,
  });
  const total = (counts: readonly number[]): number => counts.reduce((sum, each) => sum + each, 0);
  const waits = ({ le, counts, sum }: typeof metrics.waitMs.granted) => {
    expect(le).toEqual(le.toSorted((a, b) => a - b));
    return { sum, among: counts.flatMap((count, i) => Array.from({ length: count }, () => le[i])) };
  };
  expect(waits(metrics.waitMs.granted)).toEqual({ sum: 700, among: [metrics.waitMs.granted.le[0], 1000] });
  expect(waits(metrics.waitMs.refused)).toEqual({ sum: 0, among: [metrics.waitMs.refused.le[0]] });
  const commits = ledger.commits.length;
  for (const histogram of [metrics.commitMs, metrics.eventsPerCommit, metrics.answersPerCommit]) {
    expect(total(histogram.counts)).toBe(commits);
    expect(histogram.counts.length).toBe(histogram.le.length + 1);
  }
  expect(metrics.eventsPerCommit.sum).toBe(commitsOf(ledger).flatMap((commit) => commit.events).length);
  leader.stop();
  fill = 0.95;
  const next = await lead({ ledger, clock });
  await next.leader.lead();
  await next.ask("lease");
  expect(await next.ask("pool.metrics")).toMatchObject({ rejected: { unavailable: 1 } });
  next.leader.stop();
});

test("keeps a session and a holder's cap over a change of leader, and ends a session while there is no leader", async () => {
  const clock = new HandClock();
  const ledger = new MemoryLedger({ wall: clock.wall });
  const feed = new Feed();
  const first = await opened({ ledger, feed, clock });
  await first.ask("pool.policy", {
    policy: { strategy: { kind: "round-robin" }, holder: { leasesMax: 1 }, session: { ttlMs: 400 } },
  });
  await first.ask("proxies.add", { proxies: proxyLines(3) });
  const held = await first.ask("lease", { session: "s", holder: "x" });
  const gone = await first.ask("lease", { session: "gone" });
  await first.ask("release", { leaseId: gone["leaseId"] });
  first.leader.stop();
  clock.move(401);
  const second = await lead({ ledger, feed, clock });
  await second.leader.lead();
  expect([...second.leader.state.sessions.keys()]).toEqual(["s"]);
  expect(await second.ask("lease", { holder: "x" })).toMatchObject({
    code: "pool-exhausted",
    limitedBy: { holder: 3 },
  });
  expect(await second.ask("lease", { session: "s" })).toMatchObject({ proxyId: held["proxyId"] });
  expect(await second.ask("lease", { session: "gone" })).not.toMatchObject({ proxyId: gone["proxyId"] });
  second.leader.stop();
});

/** Makes every look at this key of the map throw, as a bug would. Returns how to mend it. */
function plantBug(map: ReadonlyMap<string, unknown>, bad: string | undefined): () => void {
  const get = map.get.bind(map);
  const planted = map as { get: (key: string) => unknown };
  planted.get = (key) => {
    if (key === bad) throw new TypeError("planted");
    return get(key);
  };
  return () => {
    planted.get = get;
  };
}

test("refuses a command that makes a turn throw, stores nothing of the turn, and leaves it out when it comes again", async () => {
  const ledger = new MemoryLedger();
  const leftOut = new LeftOut(systemClock);
  const first = await opened({ ledger, leftOut });
  await first.ask("proxies.add", { proxies: proxyLines(2) });
  const { proxies } = (await first.ask("proxies.list")) as { proxies: { id: string }[] };
  const [bad, good] = proxies.map(({ id }) => id);
  plantBug(first.leader.state.proxies, bad);
  const before = ledger.commits.length;
  let isInnocentAnswered = false;
  void first.ask("proxies.retire", { ids: [good] }).then(() => {
    isInnocentAnswered = true;
  });
  expect(await first.ask("proxies.retire", { ids: [bad] })).toMatchObject({
    code: "invalid-request",
    message: expect.stringContaining("a bug"),
  });
  expect(ledger.commits).toHaveLength(before);
  expect(first.broke).toMatchObject([
    { defect: { message: "planted" }, leftOut: { command: "each retire", commands: 1 } },
  ]);
  const second = await lead({ ledger, leftOut });
  plantBug(second.leader.state.proxies, bad);
  await second.leader.lead();
  expect(await second.ask("proxies.retire", { ids: [bad] })).toMatchObject({ code: "invalid-request" });
  expect(await second.ask("proxies.retire", { ids: [good] })).toMatchObject({ changed: 1 });
  expect(second.broke).toEqual([]);
  expect(isInnocentAnswered).toBe(false); // Its client repeats it.
  second.leader.stop();
});

test("refuses a waiting request that makes a turn throw, and its copies, but no other request of its kind", async () => {
  const ledger = new MemoryLedger();
  const leftOut = new LeftOut(systemClock);
  const first = await opened({ ledger, leftOut });
  await first.ask("proxies.add", { proxies: proxyLines(1) });
  const { proxyId } = (await first.ask("lease")) as { proxyId: string };
  await first.ask("proxies.rest", { ids: [proxyId], forMs: 60_000 });
  const request = { requestId: "waits-and-breaks-0001", waitMs: 60_000, session: "bad" };
  const waits = [first.ask("lease", request), first.ask("lease", request)];
  await first.ask("pool.stats");
  plantBug(first.leader.state.sessions, "bad");
  void first.ask("proxies.revive", { ids: [proxyId] });
  for (const answer of await Promise.all(waits)) expect(answer).toMatchObject({ code: "invalid-request" });
  expect(first.broke).toMatchObject([{ leftOut: { command: "lease", requestId: "waits-and-breaks-0001" } }]);
  const second = await lead({ ledger, leftOut });
  await second.leader.lead();
  expect(await second.ask("lease", request)).toMatchObject({ code: "invalid-request" });
  const other = { ...request, requestId: "waits-and-works-00001", waitMs: 0 };
  expect(await second.ask("lease", other)).toMatchObject({ code: "pool-exhausted" });
  second.leader.stop();
});

test("leaves out an outcome of the stream that makes a turn throw, and ingests the others", async () => {
  const ledger = new MemoryLedger();
  const leftOut = new LeftOut(systemClock);
  const feed = new Feed();
  const first = await opened({ ledger, leftOut, feed });
  await first.ask("proxies.add", { proxies: proxyLines(2) });
  const bad = (await first.ask("lease")) as { leaseId: string };
  const good = (await first.ask("lease")) as { leaseId: string };
  plantBug(first.leader.state.leases, bad.leaseId);
  feed.publish([bad, good].map(({ leaseId }) => ({ leaseId, result: "success" })));
  await eventually(() => expect(first.broke).toHaveLength(1));
  expect(first.broke).toMatchObject([{ leftOut: { command: "outcome", leaseId: bad.leaseId, sequence: 1 } }]);
  const second = await lead({ ledger, leftOut, feed });
  const mend = plantBug(second.leader.state.leases, bad.leaseId);
  await second.leader.lead();
  mend();
  expect(await second.ask("pool.stats")).toMatchObject({
    outcomes: { succeeded: 1, ignored: 1 },
    leases: { open: 1 },
  });
  second.leader.stop();
});

test("names no command when a turn throws while it decides none, and answers no request", async () => {
  const { leader, ask, broke } = await opened();
  Object.defineProperty(leader.state, "draining", {
    get() {
      throw new TypeError("planted");
    },
  });
  let isAnswered = false;
  void ask("pool.stats").then(() => {
    isAnswered = true;
  });
  await eventually(() => expect(broke).toHaveLength(1));
  expect(broke[0]).toMatchObject({ defect: { message: "planted" } });
  expect(broke[0]).not.toHaveProperty("leftOut");
  expect(isAnswered).toBe(false);
});

test("does not answer the command that broke it if another leader has taken over", async () => {
  const ledger = new MemoryLedger();
  let gapOn = Number.NEGATIVE_INFINITY;
  const { leader, ask, broke } = await opened({ ledger, gapOn: () => gapOn });
  const next = await lead({ ledger });
  await next.leader.lead();
  next.leader.stop();
  gapOn = Infinity; // This process did not run for a while.
  plantBug(leader.state.proxies, "p_0000000000000000");
  let isAnswered = false;
  void ask("proxies.retire", { ids: ["p_0000000000000000"] }).then(() => {
    isAnswered = true;
  });
  await eventually(() => expect(broke).toHaveLength(1));
  expect(isAnswered).toBe(false);
});

test("goes on after an answer that cannot be shown because of a bug, and reports it", async () => {
  const defects: unknown[] = [];
  const { leader, ask, broke } = await opened({ onDefect: (error, where) => defects.push(error, where) });
  await ask("proxies.add", { proxies: proxyLines(1) });
  const call = { arrivedAt: leader.now(), who: anybody };
  const reply = (): never => {
    throw new TypeError("planted");
  };
  const answer = await new Promise<object>((respond) => leader.submit({ type: "look" }, { ...call, respond, reply }));
  expect(answer).toMatchObject({ code: "unavailable", retryAfterMs: 1000 });
  expect(defects).toMatchObject([{ message: "planted" }, { answer: "settled" }]);
  expect(await ask("lease")).toMatchObject({ uses: 1 });
  expect(broke).toEqual([]);
  leader.stop();
});

/** A ledger whose next append waits for `release`. The requests of a test then come while it is in flight. */
class GatedLedger extends MemoryLedger {
  #gate: Promise<void> | undefined;
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gate = promise;
    return resolve;
  }
  override async append(...given: Parameters<MemoryLedger["append"]>): ReturnType<MemoryLedger["append"]> {
    const gate = this.#gate;
    this.#gate = undefined;
    await gate;
    return super.append(...given);
  }
}

const typesIn = ({ events }: CommitEnvelope): string[] => (events as Event[]).map(({ type }) => type);

test("leaves half of a turn to requests while outcomes have piled up, and takes all of it otherwise", async () => {
  const ledger = new GatedLedger();
  const { leader, feed, ask } = await opened({ ledger });
  await ask("proxies.add", { proxies: proxyLines(8) });
  const leases = await Promise.all(Array.from({ length: 3 }, () => ask("lease", { uses: 1000 })));
  const release = ledger.hold();
  const before = ledger.commits.length;
  const first = ask("lease");
  await immediately(); // Its commit is in flight.
  for (const { leaseId } of leases)
    feed.publish(Array.from({ length: 1000 }, (_, i) => ({ leaseId, n: i + 1, result: "success" })));
  const second = ask("lease");
  release();
  await Promise.all([first, second]);
  await eventually(() => expect(leader.outcomes.isEmpty).toBe(true));
  const [, next, ...later] = commitsOf(ledger).slice(before);
  expect(typesIn(next!).filter((type) => type === "UseReported").length).toBeLessThanOrEqual(commitEventsMax / 2);
  expect(typesIn(next!)).toContain("LeaseGranted");
  expect(Math.max(...later.map((commit) => commit.events.length))).toBeGreaterThan(commitEventsMax / 2);
  leader.stop();
});

test("ingests few ignored outcomes in one turn while a request waits", async () => {
  const ledger = new GatedLedger();
  const { leader, feed, ask } = await opened({ ledger });
  await ask("proxies.add", { proxies: proxyLines(2) });
  const release = ledger.hold();
  const before = ledger.commits.length;
  const first = ask("lease");
  await immediately();
  for (let i = 0; i < 5; i++) feed.publish(Array.from({ length: 1000 }, () => "no outcome"));
  const second = ask("lease");
  release();
  await Promise.all([first, second]);
  const [, next] = commitsOf(ledger).slice(before);
  expect((next!.events as Event[]).find(({ type }) => type === "OutcomesIgnored")).toMatchObject({ count: 500 });
  leader.stop();
});

test("bounds its queue in requests and in bytes, with a share for reports, releases and renewals", async () => {
  const ledger = new GatedLedger();
  const { leader, ask, requests } = await opened({ ledger });
  await ask("proxies.add", { proxies: proxyLines(2) });
  const { leaseId } = await ask("lease");
  const answers: Record<string, unknown>[] = [];
  const send = (verb: "lease" | "release" | "report" | "renew", body: object, bytes: number): Promise<void> | void =>
    requests.handle(verb, body, (answer) => void answers.push(answer as Record<string, unknown>), undefined, bytes);
  const unread = { bytes: 512 * 1024, respond: (answer: object) => void answers.push(answer as (typeof answers)[0]) };
  const release = ledger.hold();
  const inFlight = ask("lease");
  await immediately();
  for (let i = 0; i < 70; i++) send("lease", {}, 512 * 1024);
  expect(answers).toHaveLength(6); // 64 of them have 32 MiB.
  expect(answers[0]).toMatchObject({
    code: "overloaded",
    retryAfterMs: 1000,
    message: expect.stringContaining("32 MiB"),
  });
  expect(leader.admits("others", unread)).toBe(false);
  expect(leader.admits("settling", unread)).toBe(true);
  expect(answers).toHaveLength(7);
  for (let i = 0; i < 70; i++) send("report", { outcomes: [{ leaseId, result: "success" }] }, 512 * 1024);
  expect(answers).toHaveLength(13);
  expect(leader.admits("settling", unread)).toBe(false);
  expect(leader.admits("others", { ...unread, bytes: 0 })).toBe(true);
  release();
  await inFlight;
  await eventually(() => expect(answers).toHaveLength(14 + 64 + 64));
  expect(leader.engine.requests.load).toEqual({
    requests: { settling: 0, others: 0 },
    bytes: { settling: 0, others: 0 },
  });
  expect(leader.admits("others", unread) && leader.admits("settling", unread)).toBe(true);
  leader.stop();
});

test("takes releases and renewals while the queue is full of lease requests", async () => {
  const ledger = new GatedLedger();
  const { leader, ask, requests } = await opened({ ledger });
  const release = ledger.hold();
  const inFlight = ask("proxies.add", { proxies: proxyLines(2) });
  await immediately();
  let rejected = 0;
  const count = (answer: object): void => void ("code" in answer && answer.code === "overloaded" && rejected++);
  for (let i = 0; i < 20_010; i++) requests.handle("lease", {}, count);
  expect(rejected).toBe(10);
  const unread = { bytes: 100, respond: count };
  expect([leader.admits("others", unread), leader.admits("settling", unread)]).toEqual([false, true]);
  leader.stop();
  release();
  await Promise.race([inFlight, immediately()]);
});
