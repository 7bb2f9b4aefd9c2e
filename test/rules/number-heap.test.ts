import { describe, expect, test } from "vitest";
import { NumberHeap } from "../../state-machines/structures/number-heap.ts";
import { type Seeded, withSeed } from "../kit/seed.ts";

type Key = readonly [number, number, number];

/** The expected order, computed in the simplest way. */
function sorted(keys: ReadonlyMap<number, Key>): number[] {
  const entries = [...keys].sort(([, a], [, b]) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return entries.map(([item]) => item);
}

function keyFor(random: Seeded, item: number, width: 1 | 3): Key {
  // The last number of a key is unique, as in ranks. The earlier ones rarely are.
  const unique = random.int(0, 50) * 1000 + item - 2 ** 52;
  return width === 1 ? [unique, 0, 0] : [random.int(0, 2), -random.int(0, 3), unique];
}

describe("a ranking", () => {
  test.each([1, 3] as const)(
    "with %i numbers to a key keeps its items in order after any additions, moves and removals",
    (width) =>
      withSeed((random) => {
        const ranking = new NumberHeap(width);
        const keys = new Map<number, Key>();
        for (let step = 0; step < 600; step++) {
          const item = random.int(0, 199);
          if (random.chance(0.3)) {
            ranking.delete(item);
            keys.delete(item);
          } else {
            const key = keyFor(random, item, width);
            ranking.set(item, ...key);
            keys.set(item, key);
          }
          const order = sorted(keys);
          expect([ranking.size, ranking.top, ranking.least]).toEqual([
            keys.size,
            order[0] ?? -1,
            keys.get(order[0] ?? -1)?.[0] ?? Infinity,
          ]);
          if (step % 20 > 0) continue;
          expect([...ranking.inOrder()]).toEqual(order);
          expect([...ranking.all()].sort((a, b) => a - b)).toEqual([...keys.keys()].sort((a, b) => a - b));
          for (let each = 0; each < 200; each++) expect(ranking.has(each)).toBe(keys.has(each));
          for (const [each, key] of keys) expect(ranking.keyOf(each)).toEqual(key);
        }
        ranking.clear();
        expect([ranking.size, ranking.top, ranking.least, [...ranking.inOrder()]]).toEqual([0, -1, Infinity, []]);
        ranking.set(7, 1);
        expect([ranking.has(6), ranking.has(7), ranking.top]).toEqual([false, true, 7]);
      }),
  );

  test("removes an item without moving any other", () => {
    const ranking = new NumberHeap(1);
    for (let item = 0; item < 21; item++) ranking.set(item, item);
    ranking.delete(99);
    ranking.delete(20);
    ranking.delete(20);
    expect([...ranking.inOrder()]).toEqual(Array.from({ length: 20 }, (_, item) => item));
  });
});
