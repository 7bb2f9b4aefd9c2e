// The pool's time over several leaders. Each runs on a machine whose clocks differ. Windows must not open early.

import { afterAll, beforeAll, expect, test } from "vitest";
import { decodeCommit } from "../../events/commit.ts";
import { ledgerStream, ledgerSubject } from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import { type Clock, systemClock } from "../../runtime/clock.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { keyOf } from "../../runtime/secrets.ts";
import { goOn, type TimePorts } from "../../services/picker/pool-time.ts";
import { Requests } from "../../services/picker/requests.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { foldedLeader } from "../kit/leader.ts";
import { noSecrets } from "../kit/no-secrets.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { startStreams, type TestStreams } from "../kit/streams.ts";

const key = keyOf(Buffer.alloc(32, 1).toString("base64url"), "test");
const hourMs = 3_600_000;
const off = { usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const policy = { ...off, rate: { limit: 1, windowMs: 60_000 }, marginMs: 100 };

let streams: TestStreams;
let bus: Bus;

beforeAll(async () => {
  streams = await startStreams();
  ({ bus } = streams);
});

afterAll(async () => {
  await streams?.stop();
});

/** A process that leads the pool by its own clocks. The first one opens the pool and adds a proxy. */
async function takeOver(ledger: Ledger, clock: Clock, given: Pick<TimePorts, "seen" | "kept"> = {}) {
  const feed = { follow: () => {}, last: async () => undefined, stop: () => {} };
  const leader = await foldedLeader({
    pool: "test",
    id: "leader",
    ledger,
    feed,
    clock,
    key,
    secrets: noSecrets,
    tell: () => {},
    ...given,
  });
  let leases = 0;
  const newLeaseId = (): string => `l_${leader.state.term}_${String(++leases).padStart(20, "0")}`;
  const requests = new Requests({
    outbound: loopbackAllowed,
    leader,
    secrets: noSecrets,
    key,
    newLeaseId,
  });
  const ask = (verb: Parameters<Requests["handle"]>[0], body: object): Promise<Record<string, unknown>> =>
    new Promise((resolve) => requests.handle(verb, body, (answer) => resolve(answer as Record<string, unknown>)));
  const isNew = !leader.state.opened;
  if (isNew) requests.open({ policy }, () => {});
  await leader.lead();
  if (isNew) await ask("proxies.add", { proxies: ["10.0.0.1:8080"] });
  return { leader, ask };
}

/** Virtual time: the broker's clock, and machines with clocks of their own. */
function virtualTime() {
  const time = { now: 1_700_000_000_000, brokerOffMs: 0 };
  const ledger = new MemoryLedger({ wall: () => time.now + time.brokerOffMs });
  const machine = (given: { wallOffMs?: number; bootId?: string } = {}) => {
    let asleepMs = 0;
    const clock: Clock = {
      wall: () => time.now + (given.wallOffMs ?? 0),
      monotonic: () => time.now - 1_600_000_000_000 - asleepMs,
      after: () => () => {},
      soon: (callback) => void setImmediate(callback),
      boot: () => ({ id: given.bootId ?? "boot", ms: time.now - 1_500_000_000_000 - asleepMs }),
    };
    const sleep = (ms: number): void => {
      time.now += ms;
      asleepMs += ms;
    };
    return { clock, sleep };
  };
  const lastAt = (): number => decodeCommit(Buffer.from(ledger.commits.at(-1)!.bytes).toString()).at;
  return { time, ledger, machine, lastAt };
}

async function useOnce({ ask }: Awaited<ReturnType<typeof takeOver>>): Promise<void> {
  const { leaseId } = await ask("lease", {});
  expect(leaseId).toEqual(expect.any(String));
  await ask("report", { outcomes: [{ leaseId, status: 200 }] });
}

/** Asks until it is granted: how long after the use of the first leader, in true time, the window opens again. */
async function opensAfter(second: Awaited<ReturnType<typeof takeOver>>, time: { now: number }, usedAt: number) {
  const { code, retryAfterMs } = await second.ask("lease", {});
  expect(code).toBe("pool-exhausted");
  time.now += Number(retryAfterMs) - 1;
  expect(await second.ask("lease", {})).toMatchObject({ code: "pool-exhausted", retryAfterMs: 1 });
  time.now += 1;
  expect(await second.ask("lease", {})).toMatchObject({ leaseId: expect.any(String) });
  return time.now - usedAt;
}

const windowMs = 60_101;

test.each([
  ["nothing is set", {}, windowMs],
  ["the broker's clock is set forward", { brokerOffMs: hourMs }, windowMs],
  ["this machine's clock is set forward", { wallOffMs: hourMs }, windowMs],
  ["both are set forward, on the same boot", { brokerOffMs: hourMs, wallOffMs: hourMs, isKept: true }, windowMs],
  ["the broker's clock is set back a little", { brokerOffMs: -500 }, windowMs + 500],
  ["this machine's clock is an hour behind", { wallOffMs: -hourMs }, windowMs + 30_000],
])("a cold start opens no window early when %s", async (_what, given, expected) => {
  const { brokerOffMs = 0, wallOffMs = 0, isKept = false } = given as Record<string, number | undefined>;
  const { time, ledger, machine } = virtualTime();
  const { clock } = machine();
  const first = await takeOver(ledger, clock);
  await useOnce(first);
  const kept = { term: first.leader.state.term, at: first.leader.now(), boot: clock.boot!()! };
  const usedAt = time.now;
  time.now += 30_000;
  time.brokerOffMs = brokerOffMs;
  const second = await takeOver(ledger, machine({ wallOffMs }).clock, isKept ? { kept } : {});
  expect(await opensAfter(second, time, usedAt)).toBe(expected);
});

test("a cold start does not use a time that was kept in the data directory before this boot", async () => {
  const { time, ledger, machine } = virtualTime();
  const { clock } = machine();
  const first = await takeOver(ledger, clock);
  await useOnce(first);
  const kept = { term: 1, at: first.leader.now(), boot: { id: "earlier", ms: clock.boot!()!.ms - 1 } };
  const usedAt = time.now;
  time.now += 30_000;
  expect(await opensAfter(await takeOver(ledger, clock, { kept }), time, usedAt)).toBe(windowMs);
});

test.each([hourMs, -hourMs])(
  "a picker that followed the leader goes on by its own monotonic clock when all clocks are set %d ms off",
  async (offMs) => {
    const { time, ledger, machine } = virtualTime();
    const first = await takeOver(ledger, machine().clock);
    await useOnce(first);
    const usedAt = time.now;
    time.now += 29_000;
    const { clock } = machine({ wallOffMs: offMs });
    const seen = { term: first.leader.state.term, at: first.leader.now(), on: clock.monotonic() };
    time.now += 1000;
    time.brokerOffMs = offMs;
    expect(await opensAfter(await takeOver(ledger, clock, { seen }), time, usedAt)).toBe(windowMs);
  },
);

test("a picker that followed an earlier leader counts from when it read the last commit", async () => {
  const { time, ledger, machine } = virtualTime();
  const first = await takeOver(ledger, machine().clock);
  const { clock } = machine();
  const seen = { term: first.leader.state.term, at: first.leader.now() + 10_000, on: clock.monotonic() };
  await useOnce(await takeOver(ledger, machine().clock));
  const usedAt = time.now;
  time.now += 5000;
  time.brokerOffMs = hourMs;
  expect(await opensAfter(await takeOver(ledger, clock, { seen }), time, usedAt)).toBe(windowMs + 5000);
});

test("a picker that last saw the leader more than a minute ago does not count as its follower", async () => {
  const { time, ledger, machine } = virtualTime();
  const first = await takeOver(ledger, machine().clock);
  const { clock } = machine();
  const seen = { term: first.leader.state.term, at: first.leader.now() + 3000, on: clock.monotonic() };
  time.now += 60_001;
  await useOnce(first);
  const usedAt = time.now;
  time.now += 5000;
  expect(await opensAfter(await takeOver(ledger, clock, { seen }), time, usedAt)).toBe(windowMs);
});

test("makes up for a leader machine's sleep only when nothing is counted any more", async () => {
  const { time, ledger, machine, lastAt } = virtualTime();
  const { clock, sleep } = machine();
  const first = await takeOver(ledger, clock);
  sleep(hourMs);
  await useOnce(first);
  expect(lastAt()).toBe(time.now - hourMs);
  time.now += 30_000;
  const second = await takeOver(ledger, machine().clock);
  expect(lastAt()).toBe(time.now - hourMs);
  expect(await second.ask("lease", {})).toMatchObject({ code: "pool-exhausted", retryAfterMs: 30_101 });
  time.now += 30_101;
  const third = await takeOver(ledger, machine().clock);
  expect(lastAt()).toBe(time.now);
  await useOnce(third);
});

test("sets no pool's time back when the broker's clock is set back", async () => {
  const { time, ledger, machine, lastAt } = virtualTime();
  await useOnce(await takeOver(ledger, machine().clock));
  const before = lastAt();
  time.now -= hourMs;
  const second = await takeOver(ledger, machine().clock);
  expect(lastAt()).toBe(before);
  time.now += 60_000;
  expect(await second.ask("lease", {})).toMatchObject({ code: "pool-exhausted", retryAfterMs: 101 });
});

test("writes the broker's time on JetStream and opens no window early when the leader is an hour ahead", async () => {
  const ledger = (): JetStreamLedger =>
    new JetStreamLedger({ bus, stream: ledgerStream, subject: ledgerSubject("test") });
  const ahead: Clock = { ...systemClock, wall: () => Date.now() + hourMs };
  await useOnce(await takeOver(ledger(), systemClock));
  const second = await takeOver(ledger(), ahead);
  const answer = await second.ask("lease", {});
  expect(answer).toMatchObject({ code: "pool-exhausted" });
  expect(Number(answer["retryAfterMs"])).toBeGreaterThan(30_000);
  for await (const { bytes, storedAt } of ledger().read(0)) {
    const { at } = decodeCommit(Buffer.from(bytes).toString());
    expect(storedAt - at).toBeGreaterThanOrEqual(-1);
    expect(storedAt - at).toBeLessThan(10_000);
  }
  second.leader.stop();
});

test("goes on by what the leader said last if the last commit was read long ago, because clocks drift apart", async () => {
  const state = new PoolState("test");
  Object.assign(state, { at: 1000, term: 3 });
  // The follower's clock gains a second in an hour.
  const clock = { ...systemClock, monotonic: () => hourMs + 1000 };
  const seen = { term: 3, at: 1000 + hourMs - 500, on: hourMs + 500 };
  await goOn({ ledger: { now: async () => 0 }, clock, seen }, state, { storedAt: 0, on: 0 });
  expect(state.at).toBe(1000 + hourMs);
});
