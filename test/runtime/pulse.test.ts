// The pulse of a process, on a clock that the test moves.
import { expect, test } from "vitest";
import { Pulse } from "../../runtime/pulse.ts";

test("notices a gap of more than a second at the first look, before any timer has fired", () => {
  const timers: (() => void)[] = [];
  let now = 0;
  const pulse = new Pulse({
    wall: () => 0,
    monotonic: () => now,
    after: (_ms, callback) => {
      timers.push(callback);
      return () => {};
    },
    soon: () => {},
  });
  for (now = 250; now <= 5000; now += 250) timers.shift()?.();
  expect(pulse.gapOn()).toBe(Number.NEGATIVE_INFINITY);
  now += 1000;
  expect(pulse.gapOn()).toBe(Number.NEGATIVE_INFINITY);
  now += 1001;
  const gapOn = now;
  expect(pulse.gapOn()).toBe(gapOn);
  now += 250;
  timers.shift()?.();
  expect(pulse.gapOn()).toBe(gapOn);
});
