// Requests that made a leader fail are left out for a while. leader.test.ts has the leader's part.
import { expect, test } from "vitest";
import { LeftOut } from "../../services/picker/left-out.ts";
import type { Request } from "../../state-machines/command.ts";
import { HandClock } from "../kit/hand-clock.ts";

test("leaves a request out for a minute, and compares no request after that", () => {
  const clock = new HandClock();
  const leftOut = new LeftOut(clock);
  let compared = 0;
  const toJSON = (): object => {
    compared++;
    return {};
  };
  const other: Request & { toJSON(): object } = { type: "cancel", requestId: "others", toJSON };
  const bad: Request = { type: "cancel", requestId: "bad" };
  expect(leftOut.refusalOf(other)).toBeUndefined();
  expect(compared).toBe(0);
  leftOut.broken(new Error("a bug"), { pool: "test", undecided: { request: bad, to: [] }, leads: true });
  clock.move(59_000);
  leftOut.broken(new Error("a bug"), { pool: "test", undecided: { request: bad, to: [] }, leads: true });
  clock.move(59_000);
  expect(leftOut.refusalOf(bad)).toMatchObject({ code: "invalid-request" });
  expect(leftOut.refusalOf(other)).toBeUndefined();
  expect(compared).toBe(1);
  clock.move(1000);
  expect(leftOut.refusalOf(other)).toBeUndefined();
  expect(compared).toBe(1);
  expect(leftOut.refusalOf(bad)).toBeUndefined();
});
