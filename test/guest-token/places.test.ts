// How the pools of an executor share its places.
import { expect, test } from "vitest";
import { Places } from "../../services/guest-token/places.ts";

const of = (pool: string, count: number): { pool: string; n: number }[] =>
  Array.from({ length: count }, (_, n) => ({ pool, n }));

function taken(places: Places<{ pool: string; n: number }>): string[] {
  const found: string[] = [];
  for (let next = places.next(); next !== undefined; next = places.next()) found.push(`${next.pool}${next.n}`);
  return found;
}

test("gives half of the places to a pool that is alone, and keeps room for the others", () => {
  const places = new Places<{ pool: string; n: number }>({ places: 8, queued: 100 });
  for (const refresh of of("a", 20)) places.add(refresh);
  expect(taken(places)).toEqual(["a0", "a1", "a2", "a3"]);
  for (const refresh of of("b", 20)) places.add(refresh);
  expect(taken(places)).toEqual(["b0", "b1"]);
  for (const refresh of of("c", 20)) places.add(refresh);
  expect(taken(places)).toEqual(["c0"]);
  for (const refresh of of("d", 1)) places.add(refresh);
  expect(taken(places)).toEqual(["d0"]);
});

test("gives a place that becomes free to the pool that has the fewest, and keeps the order within a pool", () => {
  const places = new Places<{ pool: string; n: number }>({ places: 4, queued: 100 });
  for (const refresh of [...of("a", 9), ...of("b", 2)]) places.add(refresh);
  expect(taken(places)).toEqual(["a0", "b0", "a1"]);
  places.end({ pool: "a", n: 0 });
  expect(taken(places)).toEqual(["b1"]);
  places.end({ pool: "b", n: 0 });
  places.end({ pool: "b", n: 1 });
  expect(taken(places)).toEqual(["a2"]);
});

test("takes no refresh from a pool that fills the queue, and still takes those of another one", () => {
  const places = new Places<{ pool: string; n: number }>({ places: 2, queued: 8 });
  expect(of("a", 8).map((refresh) => places.add(refresh))).toEqual([
    true,
    true,
    true,
    true,
    false,
    false,
    false,
    false,
  ]);
  expect(of("b", 3).map((refresh) => places.add(refresh))).toEqual([true, true, false]);
  places.clear();
  expect(taken(places)).toEqual([]);
  expect(places.add({ pool: "a", n: 9 })).toBe(true);
});
