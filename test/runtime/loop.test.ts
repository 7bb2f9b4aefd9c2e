// The single-writer loop, on a clock that the test moves.
import { setImmediate as immediately } from "node:timers/promises";
import { expect, test } from "vitest";
import { systemClock } from "../../runtime/clock.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { type Draft, Loop, type Owner } from "../../runtime/loop.ts";
import { HandClock } from "../kit/hand-clock.ts";

test("retries due work that was left undone, and does not keep the process busy", async () => {
  const clock = new HandClock();
  const turns: number[] = [];
  const idle = { term: 1, cursor: { seq: 0, at: 0 }, chance: undefined, events: [], answers: false, more: false };
  const loop = new Loop({
    ledger: new MemoryLedger(),
    clock,
    start: { seq: 0, commits: 0, hash: "", time: clock.monotonic },
    owner: {
      turn: (at) => {
        turns.push(at);
        return idle;
      },
      wakeAt: () => 5,
      committed() {},
      stored() {},
      fenced() {},
      broke() {},
      stalled() {},
    },
  });
  const pass = async (ms: number): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      clock.move(i === 0 ? ms : 0);
      await immediately();
    }
  };
  loop.wake();
  await pass(0);
  expect(turns).toEqual([0]);
  await pass(5);
  expect(turns).toEqual([0, 5]);
  await pass(1);
  await pass(1);
  expect(turns).toEqual([0, 5, 6, 7]);
  loop.stop();
  await pass(1);
  expect(turns).toHaveLength(4);
});

test("neither answers nor breaks at once after a read that is behind, and reports damage after 15 seconds", async () => {
  const clock = new HandClock();
  const ledger = new MemoryLedger();
  await ledger.append({ id: "a", bytes: Buffer.from("a"), afterSeq: 0 });
  const said: string[] = [];
  const draft = { term: 1, cursor: { seq: 0, at: 0 }, chance: undefined, events: [], answers: true, more: false };
  const loop = new Loop({
    ledger,
    clock,
    start: { seq: 1, commits: 1, hash: "", time: clock.monotonic },
    owner: {
      turn: () => draft,
      committed() {},
      stored: () => said.push("stored"),
      fenced: () => said.push("fenced"),
      broke: (cause) => said.push(String(cause)),
      stalled() {},
      wakeAt: () => Number.POSITIVE_INFINITY,
    },
  });
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 100) {
      clock.move(100);
      for (let i = 0; i < 5; i++) await immediately();
    }
  };
  const commits = ledger.commits.splice(0);
  loop.wake();
  await pass(14_000);
  expect(said).toEqual([]);
  ledger.commits.push(...commits);
  await pass(200);
  expect(said).toEqual(["stored"]);
  ledger.commits.splice(0);
  await pass(2000);
  loop.wake();
  await pass(14_000);
  expect(said).toEqual(["stored"]);
  await pass(1500);
  expect(said[1]).toMatch(/ends at sequence 0, but 1 was acknowledged/);
});

test("ends with the error of a bug while a commit is stored, and does not report another leader", async () => {
  const bug = new Error("a bug");
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const loop = new Loop({
    ledger: new MemoryLedger(),
    clock: systemClock,
    start: { seq: 0, commits: 0, hash: "", time: Date.now },
    owner: {
      turn: () => ({
        term: 1,
        cursor: { seq: 0, at: 0 },
        chance: undefined,
        events: ["{}"],
        answers: false,
        more: false,
      }),
      committed() {
        throw bug;
      },
      stored() {},
      fenced: () => resolve("fenced"),
      broke: resolve,
      stalled() {},
      wakeAt: () => Number.POSITIVE_INFINITY,
    },
  });
  loop.wake();
  expect(await promise).toBe(bug);
});

test.each([
  { isReplicated: false, leads: true },
  { isReplicated: true, leads: false },
])("after a turn that throws: one read of the ledger proves that it leads: $leads", async ({ isReplicated, leads }) => {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const loop = new Loop({
    ledger: Object.assign(new MemoryLedger(), { isReplicated }),
    clock: systemClock,
    start: { seq: 0, commits: 0, hash: "", time: Date.now },
    owner: {
      turn() {
        throw new Error("a bug");
      },
      committed() {},
      stored() {},
      fenced() {},
      broke: (_cause, now) => resolve(now.leads),
      stalled() {},
      wakeAt: () => Number.POSITIVE_INFINITY,
    },
  });
  loop.wake();
  expect(await promise).toBe(leads);
});

test("lets other tasks run between any two slices of work that store nothing", async () => {
  const slices = 5;
  const heard: string[] = [];
  let resolve: () => void = () => {};
  let reject: (cause: unknown) => void = () => {};
  const done = new Promise<void>((...settle) => {
    [resolve, reject] = settle;
  });
  const owner: Owner = {
    turn(): Draft {
      heard.push("slice");
      setImmediate(() => heard.push("others"));
      const count = heard.filter((each) => each === "slice").length;
      if (count === slices) setImmediate(resolve);
      return {
        term: 1,
        cursor: { seq: 0, at: 0 },
        chance: undefined,
        events: [],
        answers: false,
        more: count < slices,
      };
    },
    committed() {},
    stored() {},
    fenced() {},
    stalled() {},
    broke: reject,
    wakeAt: () => Number.POSITIVE_INFINITY,
  };
  const start = { seq: 0, commits: 0, hash: "", time: Date.now };
  const loop = new Loop({ ledger: new MemoryLedger(), clock: systemClock, owner, start });
  loop.wake();
  await done;
  loop.stop();
  expect(heard).toEqual(Array.from({ length: slices }, () => ["slice", "others"]).flat());
});
