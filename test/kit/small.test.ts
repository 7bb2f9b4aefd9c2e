import { describe, expect, test } from "vitest";
import { expectAlike } from "./alike.ts";
import { eventually } from "./poll.ts";
import { type Seeded, seeded, withSeed } from "./seed.ts";
import { within } from "./within.ts";

describe("eventually", () => {
  test("returns the first result that is not an error message", async () => {
    let tries = 0;
    const answer = await eventually(
      () => {
        tries += 1;
        if (tries < 3) throw new Error("not yet");
        return "so";
      },
      { everyMs: 1 },
    );
    expect([answer, tries]).toEqual(["so", 3]);
  });

  test("ends with the last error message, even if a check hangs", async () => {
    const never = () => Promise.reject(new Error("still 3"));
    await expect(eventually(never, { timeoutMs: 30, everyMs: 5 })).rejects.toThrow(
      "the condition did not hold within 30 ms: still 3",
    );
    const hangs = () => new Promise<never>(() => {});
    await expect(eventually(hangs, { timeoutMs: 30, everyMs: 5 })).rejects.toThrow("the check never answered");
  });
});

describe("within", () => {
  test("returns a result in time, passes on its error, and gives up when it is late", async () => {
    expect(await within(1000, Promise.resolve("so"))).toBe("so");
    await expect(within(1000, Promise.reject(new Error("no")))).rejects.toThrow("no");
    await expect(within(50, new Promise(() => {}))).rejects.toThrow("it was not there within 50 ms");
  });

  test("does not count time in which this process gets no turn", async () => {
    const soon = new Promise((resolve) => setTimeout(resolve, 60, "so"));
    const looked = within(200, soon);
    const until = performance.now() + 400;
    while (performance.now() < until);
    expect(await looked).toBe("so");
  });
});

describe("expectAlike", () => {
  test("agrees with toEqual: undefined fields count as absent, and any other difference is reported", () => {
    const document = () => ({ a: [1, { b: "x" }], c: null, d: undefined as unknown });
    expectAlike(document(), document());
    expectAlike(document(), { a: [1, { b: "x" }], c: null });
    expectAlike({ a: new Map([[1, 2]]) }, { a: new Map([[1, 2]]) });
    for (const other of [
      { a: [1, { b: "y" }], c: null },
      { a: [1, { b: "x" }, 2], c: null },
      { a: [1, { b: "x" }], c: undefined },
      { a: [1, { b: "x" }], c: null, d: 0 },
      { a: new Map([[1, 2]]) },
      [1],
      null,
    ]) {
      expect(() => expectAlike(document(), other)).toThrow();
      expect(() => expectAlike(other, document())).toThrow();
    }
    expect(() => expectAlike({ a: new Map([[1, 2]]) }, { a: new Map([[1, 3]]) })).toThrow();
  });
});

describe("seeded chance", () => {
  test("gives the same draws for the same seed, within bounds, and every possible value", () => {
    const draws = (random: Seeded) => Array.from({ length: 200 }, () => random.int(-2, 3));
    expect(draws(seeded(7))).toEqual(draws(seeded(7)));
    expect(draws(seeded(7))).not.toEqual(draws(seeded(8)));
    expect(new Set(draws(seeded(7)))).toEqual(new Set([-2, -1, 0, 1, 2, 3]));
    const random = seeded(9);
    expect(random.pick(["only"])).toBe("only");
    expect(() => random.pick([])).toThrow(RangeError);
    expect(Array.from({ length: 50 }, () => [random.chance(0), random.chance(1)])).toEqual(
      Array(50).fill([false, true]),
    );
  });

  test("prints the seed of a failure, and nothing for a success", async () => {
    const printed: string[] = [];
    const print = (line: string) => printed.push(line);
    expect(await withSeed(({ seed }) => seed, { seed: 42, print })).toBe(42);
    expect(printed).toEqual([]);
    const failing = withSeed(() => Promise.reject(new Error("no")), { seed: 42, print });
    await expect(failing).rejects.toThrow("no");
    expect(printed).toEqual(["failed with seed 42; REMUDA_TEST_SEED=42 runs it again"]);
  });
});
