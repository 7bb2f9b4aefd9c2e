// The quota of open pools: which pools count, and requests that come at the same time.
import { expect, test } from "vitest";
import { refuse } from "../../protocol/refusal.ts";
import { OpenPools } from "../../services/picker/open-pools.ts";

/** Pools by name, with the user who opened each. Undefined: its leader does not answer. */
function installation(pools: Record<string, string | undefined>) {
  const openPools = new OpenPools({
    names: async () => Object.keys(pools),
    look: async (pool) =>
      pools[pool] === undefined ? refuse("unavailable", "no leader") : { pool, openedBy: pools[pool] },
  });
  const open = async (pool: string, name: string, most: number): Promise<object> =>
    new Promise((respond) => {
      const opener = { body: {}, respond, who: { name, role: "admin" as const, quota: { openPools: most } } };
      void openPools.admit(pool, opener, (admitted) => {
        setImmediate(() => {
          pools[pool] = name;
          admitted.respond({ pool });
        });
      });
    });
  return { pools, open };
}

const over = {
  code: "overloaded",
  message: "ann has reached the quota openPools: at most 2 open pools.",
  retryAfterMs: 60_000,
};

test("counts the open pools that the user has opened, and no others", async () => {
  const { pools, open } = installation({ default: "remuda", shop: "bob", dark: undefined });
  expect(await open("a", "ann", 2)).toEqual({ pool: "a" });
  expect(await open("b", "ann", 2)).toEqual({ pool: "b" });
  expect(await open("c", "ann", 2)).toEqual(over);
  expect(await open("c", "bob", 2)).toEqual({ pool: "c" });
  delete pools["a"];
  expect(await open("d", "ann", 2)).toEqual({ pool: "d" });
});

test("a pool that is open already is opened again even at the quota", async () => {
  const { open } = installation({ a: "ann", b: "ann", shop: "bob" });
  expect(await open("a", "ann", 2)).toEqual({ pool: "a" });
  expect(await open("shop", "ann", 2)).toEqual({ pool: "shop" });
});

test("simultaneous requests do not exceed the quota together", async () => {
  const { open } = installation({});
  const answers = await Promise.all(["a", "b", "c", "d"].map((pool) => open(pool, "ann", 2)));
  expect(answers).toEqual([{ pool: "a" }, { pool: "b" }, over, over]);
});

test("bounds how many requests of a user wait to be checked", async () => {
  const { open } = installation({});
  const answers = await Promise.all(Array.from({ length: 150 }, (_, i) => open(`p${i}`, "ann", 2)));
  const rejected = answers.filter((answer) => "message" in answer && /More than 100/.test(String(answer.message)));
  expect(rejected).toHaveLength(50);
  expect(await open("a", "cat", 2)).toEqual({ pool: "a" });
});
