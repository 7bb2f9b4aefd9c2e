// The single-writer loop, on a clock that is moved by hand.
import { setImmediate as immediately } from "node:timers/promises";
import { expect, test } from "vitest";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { Loop } from "../../runtime/loop.ts";
import { HandClock } from "../kit/hand-clock.ts";

test("what is due and is left undone is tried again, and does not keep the process busy", async () => {
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
