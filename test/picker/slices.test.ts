// What would keep the picker busy for too long is done in slices: pages that few match, lists that are added.
import { describe, expect, test } from "vitest";
import { keyOf } from "../../runtime/secrets.ts";
import { Adding } from "../../services/picker/adding.ts";
import { Page } from "../../services/picker/page.ts";

const key = keyOf(Buffer.alloc(32, 7).toString("base64url"), "test");

describe("a page", () => {
  const ids = Array.from({ length: 50_000 }, (_, i) => `p_${String(i).padStart(6, "0")}`);
  const idsAfter = (after: string | undefined) => (after === undefined ? ids : ids.filter((id) => id > after));

  test("that few match is found over several looks, and is the same as if it had been one", () => {
    const page = new Page({ after: "p_000010", limit: 4 }, (id) => (id.endsWith("9999") ? { id } : undefined));
    expect(page.look(idsAfter)).toBe(false);
    expect(page.isWhole).toBe(false);
    let looks = 1;
    while (!page.look(idsAfter)) looks++;
    expect(looks).toBe(2);
    expect(page.items).toEqual([{ id: "p_009999" }, { id: "p_019999" }, { id: "p_029999" }, { id: "p_039999" }]);
    expect(page.next).toEqual({ next: "p_039999" });
  });

  test("that is full is whole at its first look, and the last one has no next", () => {
    const first = new Page({ limit: 2 }, (id) => ({ id }));
    expect(first.look(idsAfter)).toBe(true);
    expect(first.next).toEqual({ next: "p_000001" });
    const last = new Page({ after: "p_049997", limit: 2 }, (id) => ({ id }));
    expect(last.look(idsAfter)).toBe(true);
    expect([last.items.length, last.next]).toEqual([2, {}]);
  });

  test("ends before its answer grows too large, and goes on from there", () => {
    const page = new Page({ limit: 1000 }, (id) => ({ id, text: "x".repeat(10_000) }));
    expect(page.look(idsAfter)).toBe(true);
    expect(page.items.length).toBe(40);
    expect(page.next).toEqual({ next: "p_000039" });
  });
});

describe("lists that are added", () => {
  const list = (count: number, from: number) =>
    Array.from({ length: count }, (_, i) => `user:pass@10.${from}.${i >> 8}.${i & 255}:80`);

  test("are read in pieces, others have their turn between, and a short one does not overtake a long one", async () => {
    const stored: number[] = [];
    const put = async (secrets: ReadonlyMap<string, string>) => void stored.push(secrets.size);
    const adding = new Adding({ secrets: { put }, key });
    const done: string[] = [];
    let turns = 0;
    const count = (): void => {
      if (done.length === 0) {
        turns++;
        setImmediate(count);
      }
    };
    const long = adding.add({ proxies: list(1000, 1) }).then(() => done.push("long"));
    const pasted = adding.add({ proxies: [list(500, 2).join("\n")] }).then(() => done.push("pasted"));
    const short = adding.add({ proxies: list(1, 3) }).then(() => done.push("short"));
    setImmediate(count);
    await Promise.all([short, pasted, long]);
    expect(done).toEqual(["long", "pasted", "short"]);
    expect(stored).toEqual([1000, 500, 1]);
    expect(turns).toBeGreaterThanOrEqual(9);
  });

  test("are refused where too many wait, and where a password cannot be stored; the next one is not held up by that", async () => {
    let fails = true;
    const put = async () => {
      if (fails) throw new Error("no answer");
    };
    const adding = new Adding({ secrets: { put }, key });
    const all = Array.from({ length: 201 }, () => adding.add({ proxies: list(1, 1) }));
    expect(await all[200]).toMatchObject({ refusal: { code: "overloaded" } });
    expect(await all[199]).toMatchObject({ refusal: { code: "unavailable" } });
    fails = false;
    expect(await adding.add({ proxies: list(1, 1) })).toHaveProperty("run");
  });
});
