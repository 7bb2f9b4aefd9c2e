// Long work is done in slices, so that it does not block the picker: pages that few items match, and added lists.

import { describe, expect, test } from "vitest";
import { keyOf } from "../../runtime/secrets.ts";
import { Adding } from "../../services/picker/adding.ts";
import { type Filling, fillLeasePage, fillPage } from "../../services/picker/page.ts";
import type { Lease, Proxy } from "../../state-machines/fold/state.ts";
import { loopbackAllowed } from "../kit/outbound.ts";

const key = keyOf(Buffer.alloc(32, 7).toString("base64url"), "test");

/** The page, and the number of slices that it took. */
function filled<T>(filling: Filling<T>) {
  for (let slices = 1; ; slices++) {
    const step = filling.next();
    if (step.done === true) return { ...step.value, slices };
  }
}

describe("a page", () => {
  const ids = Array.from({ length: 50_000 }, (_, i) => `p_${String(i).padStart(6, "0")}`);
  const idsAfter = (after: string | undefined) => (after === undefined ? ids : ids.filter((id) => id > after));

  test("finds few matches over several slices, with the same result as in one", () => {
    const view = (id: string) => (id.endsWith("9999") ? { id } : undefined);
    expect(filled(fillPage({ after: "p_000010", limit: 4 }, { idsAfter, view }))).toEqual({
      items: [{ id: "p_009999" }, { id: "p_019999" }, { id: "p_029999" }, { id: "p_039999" }],
      next: "p_039999",
      slices: 3,
    });
  });

  test("is whole after its first slice when it is full, and has no next when it is the last", () => {
    const view = (id: string) => ({ id });
    expect(filled(fillPage({ limit: 2 }, { idsAfter, view }))).toMatchObject({ next: "p_000001", slices: 1 });
    const last = filled(fillPage({ after: "p_049997", limit: 2 }, { idsAfter, view }));
    expect(last).toEqual({ items: [{ id: "p_049998" }, { id: "p_049999" }], slices: 1 });
  });

  test("ends before its answer grows too large, and continues from there", () => {
    const view = (id: string) => ({ id, text: "x".repeat(10_000) });
    const page = filled(fillPage({ limit: 1000 }, { idsAfter, view }));
    expect([page.items.length, page.next, page.slices]).toEqual([40, "p_000039", 1]);
  });
});

describe("a page of leases", () => {
  const leaseOf = (i: number): [string, Lease] => {
    const id = `l_${String(i).padStart(6, "0")}`;
    return [id, { id } as Lease]; // No other field of it is read.
  };
  /** In an order far from that of the ids. */
  const among = (count: number) => new Map(Array.from({ length: count }, (_, i) => leaseOf((i * 7919) % count)));
  const pageOf = (leases: Map<string, Lease>, range: { after?: string; limit: number }, isMeant = (_: Lease) => true) =>
    fillLeasePage(range, { leases: leases.values(), isMeant, view: (id) => leases.get(id)?.id });

  test("covers all leases over several slices, and all pages together are in order", () => {
    const leases = among(45_000);
    const seen: string[] = [];
    let after: string | undefined;
    for (let pages = 0; pages < 45; pages++) {
      const page = filled(pageOf(leases, { limit: 1000, ...(after === undefined ? {} : { after }) }));
      expect(page.slices).toBe(3);
      seen.push(...page.items);
      after = page.next;
    }
    expect(after).toBeUndefined();
    expect(seen).toEqual([...leases.keys()].sort());
  });

  test("shows the selected leases up to the limit, and whether there are more", () => {
    const leases = among(50);
    const isMeant = ({ id }: Lease) => id.endsWith("5");
    const items = ["l_000015", "l_000025", "l_000035"];
    const page = filled(pageOf(leases, { limit: 3, after: "l_000005" }, isMeant));
    expect(page).toEqual({ items, next: "l_000035", slices: 1 });
    const last = filled(pageOf(leases, { limit: 3, after: "l_000035" }, isMeant));
    expect(last).toEqual({ items: ["l_000045"], slices: 1 });
  });

  test("is not taken for the last page when leases that it was to show have ended meanwhile", () => {
    const leases = among(25_000);
    const filling = pageOf(leases, { limit: 10 });
    expect(filling.next().done).toBe(false);
    for (let i = 0; i < 11; i++) leases.delete(leaseOf(i)[0]);
    const page = filled(filling);
    const others = filled(pageOf(leases, { limit: 10, ...(page.next === undefined ? {} : { after: page.next }) }));
    const shown = [...page.items, ...others.items];
    expect(shown.slice(0, 3)).toEqual(["l_000011", "l_000012", "l_000013"]);
    expect(page.next).toBeDefined();
  });
});

describe("lists that are added", () => {
  const state = { pool: "shop", proxies: new Map<string, Proxy>() };
  const leader = { state };
  const list = (count: number, from: number) =>
    Array.from({ length: count }, (_, i) => `user:pass@10.${from}.${i >> 8}.${i & 255}:80`);

  test("are read in pieces with other requests between them, and stay in order of arrival", async () => {
    const stored: number[] = [];
    const put = async (secrets: ReadonlyMap<string, string>) => void stored.push(secrets.size);
    const adding = new Adding({ outbound: loopbackAllowed, secrets: { put }, key, leader });
    const add = (proxies: string[]) => adding.add({ proxies, ids: false });
    const done: string[] = [];
    let turns = 0;
    const count = (): void => {
      if (done.length === 0) {
        turns++;
        setImmediate(count);
      }
    };
    const long = add(list(1000, 1)).then(() => done.push("long"));
    const pasted = add([list(500, 2).join("\n")]).then(() => done.push("pasted"));
    const short = add(list(1, 3)).then(() => done.push("short"));
    setImmediate(count);
    await Promise.all([short, pasted, long]);
    expect(done).toEqual(["long", "pasted", "short"]);
    expect(stored).toEqual([1000, 500, 1]);
    expect(turns).toBeGreaterThanOrEqual(9);
  });

  test("are refused when too many wait or a password cannot be stored, without delaying the next list", async () => {
    let fails = true;
    const put = async () => {
      if (fails) throw new Error("no answer");
    };
    const adding = new Adding({ outbound: loopbackAllowed, secrets: { put }, key, leader });
    const add = (proxies: string[]) => adding.add({ proxies, ids: false });
    const all = Array.from({ length: 201 }, () => add(list(1, 1)));
    expect(await all[200]).toMatchObject({ refusal: { code: "overloaded" } });
    expect(await all[199]).toMatchObject({ refusal: { code: "unavailable" } });
    fails = false;
    expect(await add(list(1, 1))).toHaveProperty("commands");
  });

  test("are refused if the pool would have more proxies than are allowed, unless it knows them", async () => {
    const put = async (): Promise<void> => {};
    const adding = new Adding({ outbound: loopbackAllowed, secrets: { put }, key, leader, proxiesMax: 3 });
    const add = async (proxies: string[]) => {
      const added = await adding.add({ proxies, ids: false });
      if ("refusal" in added) return added;
      for (const { newcomer } of added.commands) state.proxies.set(newcomer.id, {} as Proxy); // Only its id is read.
      added.over();
      return added;
    };
    expect(await add(list(4, 1))).toEqual({
      refusal: {
        code: "overloaded",
        message:
          "The pool shop has 0 proxies, those retired in the last hour included. With 4 more it would have more than " +
          "the 3 that REMUDA_PROXIES_MAX allows. Retire proxies, or raise it.",
        retryAfterMs: 60_000,
      },
    });
    const twice = [...list(3, 1), ...list(1, 1)];
    expect(await add(twice)).toHaveProperty("commands");
    expect(await add(list(4, 1))).toMatchObject({ refusal: { code: "overloaded" } });
    expect(await add(twice)).toHaveProperty("commands");
    state.proxies.clear();
    // Sent at once, the lists are counted before they are in the pool.
    const [first, second] = await Promise.all([2, 2].map((n, i) => adding.add({ proxies: list(n, i), ids: false })));
    expect(first).toHaveProperty("commands");
    expect(second).toMatchObject({ refusal: { code: "overloaded" } });
    if (first !== undefined && "commands" in first) first.over();
    expect(await adding.add({ proxies: list(2, 1), ids: false })).toHaveProperty("commands");
  });
});
