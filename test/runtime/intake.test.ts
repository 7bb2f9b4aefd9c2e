// When requests are handled if more of them come than can be handled at once. A turn of the event loop is a call here.
import { expect, test } from "vitest";
import { Intake } from "../../runtime/intake.ts";

function intake() {
  let next: (() => void) | undefined;
  const handled: string[] = [];
  const answered: string[] = [];
  const dropped: string[] = [];
  const kept: string[] = [];
  let now = 0;
  const late: (() => void)[] = [];
  const under = new Intake({
    soon(callback) {
      next = callback;
    },
    after(_ms, callback) {
      late.push(callback);
      return () => {};
    },
    monotonic: () => now,
  });
  const take = (name: string, { group = "alice", bytes = 100, goesOn, mayWait = true }: Partial<Given> = {}): void =>
    under.take({
      ...{ group, bytes, mayWait },
      run() {
        handled.push(name);
        return goesOn;
      },
      reject: ({ isDropped }) => void (isDropped ? dropped : answered).push(name),
      keep: () => void kept.push(name),
    });
  /** Returns what was handled in one turn of the event loop. */
  const turn = (): string[] => {
    handled.length = 0;
    const callback = next;
    next = undefined;
    callback?.();
    return [...handled];
  };
  const endLate = (): void => {
    for (const callback of late.splice(0)) callback();
  };
  const pass = (ms: number): void => {
    now += ms;
  };
  return { take, turn, pass, endLate, handled, answered, dropped, kept, isIdle: () => next === undefined };
}

type Given = { group: string; bytes: number; goesOn: Promise<void>; mayWait: boolean };

const names = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`);

test("handles requests at once, and is idle after them", () => {
  const { take, turn, handled, isIdle } = intake();
  for (const name of ["a", "b"]) take(name);
  expect(handled).toEqual(["a", "b"]);
  expect(turn()).toEqual([]);
  expect(isIdle()).toBe(true);
});

test("handles 500 requests in one turn, and the others in the next turns, in the order in which they came", () => {
  const { take, turn, handled, kept } = intake();
  const all = names("r", 1200);
  for (const name of all) take(name);
  expect(handled).toEqual(all.slice(0, 500));
  expect(kept).toEqual(all.slice(500));
  expect(turn()).toEqual(all.slice(500, 1000));
  expect(turn()).toEqual(all.slice(1000));
  expect(turn()).toEqual([]);
});

test("handles 256 KiB in one turn, and at least one request", () => {
  const { take, turn, handled } = intake();
  for (const name of ["a", "b", "c"]) take(name, { bytes: 400_000 });
  expect(handled).toEqual(["a"]);
  expect(turn()).toEqual(["b"]);
  expect(turn()).toEqual(["c"]);
});

test("handles a request of another group in the next turn, however many wait before it", () => {
  const { take, turn } = intake();
  for (const name of names("flood", 5000)) take(name, { group: "bob" });
  take("lease");
  expect(turn()).toContain("lease");
});

test("rejects requests beyond 5000 or 8 MiB of a group, and answers 1000 of them in a second", () => {
  const { take, turn, answered, dropped, pass } = intake();
  for (const name of names("r", 7000)) take(name);
  expect([answered.length, dropped.length]).toEqual([1000, 500]);
  pass(999);
  turn();
  for (const name of names("more", 600)) take(name);
  expect([answered.length, dropped.length]).toEqual([1000, 600]);
  pass(1);
  turn();
  for (const name of names("long", 300)) take(name, { group: "bob", bytes: 30_000 });
  expect([answered.length, dropped.length]).toEqual([1021, 600]);
});

test("bounds the waiting requests of all groups", () => {
  const { take, answered, dropped } = intake();
  for (const group of names("user", 10)) for (const name of names("r", 3000)) take(name, { group });
  expect(answered.length + dropped.length).toBe(30_000 - 500 - 20_000);
});

test("lets 256 requests of a group go on at the same time, and delays no other group by that", async () => {
  const { take, turn, handled } = intake();
  let end = (): void => {};
  const goesOn = new Promise<void>((resolve) => {
    end = resolve;
  });
  for (const name of names("list", 258)) take(name, { goesOn });
  take("lease", { group: "bob" });
  expect(handled).toEqual([...names("list", 256), "lease"]);
  expect(turn()).toEqual([]);
  end();
  await goesOn;
  await Promise.resolve();
  expect(turn()).toEqual(["list256", "list257"]);
});

test("lets two requests of a group go on at the same time while requests of the group are rejected", async () => {
  const { take, turn, handled } = intake();
  const ends: (() => void)[] = [];
  for (const name of names("get", 6000)) take(name, { goesOn: new Promise((resolve) => ends.push(resolve)) });
  expect(handled.length).toBe(256);
  for (const end of ends.slice(0, 256)) end();
  await new Promise((resolve) => setImmediate(resolve));
  expect(turn()).toEqual(["get256", "get257"]);
});

test("reads at most 16 MiB of large requests of a group in a second, and 32 MiB of all", () => {
  const { take, turn, handled, answered, pass } = intake();
  const large = { bytes: 512 * 1024, mayWait: false };
  for (const name of names("bob", 40)) take(name, { ...large, group: "bob" });
  expect([handled.length, answered.length]).toEqual([32, 8]);
  for (const name of names("small", 5)) take(name, { group: "bob", mayWait: false });
  for (const group of ["ann", "eve"]) for (const name of names(group, 20)) take(name, { ...large, group });
  expect([handled.length, answered.length]).toEqual([32 + 5 + 32, 8 + 8]);
  pass(1000);
  turn();
  take("next", { ...large, group: "bob" });
  expect(handled).toEqual(["next"]);
});

test("handles a request that may not wait at once, however many wait", () => {
  const { take, handled } = intake();
  for (const name of names("list", 3000)) take(name);
  take("lease", { mayWait: false });
  expect(handled.at(-1)).toBe("lease");
});

test("does not wait for a request that takes too long", () => {
  const { take, turn, endLate } = intake();
  for (const name of names("get", 257)) take(name, { goesOn: new Promise(() => {}) });
  expect(turn()).toEqual([]);
  endLate();
  expect(turn()).toEqual(["get256"]);
});
