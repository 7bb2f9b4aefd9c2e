// Long work is done in slices, so that it does not block the picker: pages that few items match, and added lists.

import { describe, expect, test } from "vitest";
import { keyOf } from "../../runtime/secrets.ts";
import { Adding } from "../../services/picker/adding.ts";
import { LeasePage } from "../../services/picker/lease-page.ts";
import { Page } from "../../services/picker/page.ts";
import type { Lease } from "../../state-machines/fold/state.ts";
import { loopbackAllowed } from "../kit/outbound.ts";

const key = keyOf(Buffer.alloc(32, 7).toString("base64url"), "test");

describe("a page", () => {
  const ids = Array.from({ length: 50_000 }, (_, i) => `p_${String(i).padStart(6, "0")}`);
  const idsAfter = (after: string | undefined) => (after === undefined ? ids : ids.filter((id) => id > after));

  test("finds few matches over several looks, with the same result as in one look", () => {
    const page = new Page({ after: "p_000010", limit: 4 }, (id) => (id.endsWith("9999") ? { id } : undefined));
    expect(page.look(idsAfter)).toBe(false);
    expect(page.isWhole).toBe(false);
    let looks = 1;
    while (!page.look(idsAfter)) looks++;
    expect(looks).toBe(2);
    expect(page.items).toEqual([{ id: "p_009999" }, { id: "p_019999" }, { id: "p_029999" }, { id: "p_039999" }]);
    expect(page.next).toEqual({ next: "p_039999" });
  });

  test("is whole at its first look when it is full, and has no next when it is the last", () => {
    const first = new Page({ limit: 2 }, (id) => ({ id }));
    expect(first.look(idsAfter)).toBe(true);
    expect(first.next).toEqual({ next: "p_000001" });
    const last = new Page({ after: "p_049997", limit: 2 }, (id) => ({ id }));
    expect(last.look(idsAfter)).toBe(true);
    expect([last.items.length, last.next]).toEqual([2, {}]);
  });

  test("ends before its answer grows too large, and continues from there", () => {
    const page = new Page({ limit: 1000 }, (id) => ({ id, text: "x".repeat(10_000) }));
    expect(page.look(idsAfter)).toBe(true);
    expect(page.items.length).toBe(40);
    expect(page.next).toEqual({ next: "p_000039" });
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
    new LeasePage(range, { leases: leases.values(), isMeant, view: (id) => leases.get(id)?.id });

  test("covers all leases over several looks, and all pages together are in order", () => {
    const leases = among(45_000);
    const seen: string[] = [];
    let after: string | undefined;
    for (let pages = 0; pages < 45; pages++) {
      const page = pageOf(leases, { limit: 1000, ...(after === undefined ? {} : { after }) });
      let looks = 1;
      while (!page.look()) looks++;
      expect(looks).toBe(3);
      seen.push(...page.items);
      after = page.next.next;
    }
    expect(after).toBeUndefined();
    expect(seen).toEqual([...leases.keys()].sort());
  });

  test("shows the selected leases up to the limit, and whether there are more", () => {
    const leases = among(50);
    const isMeant = ({ id }: Lease) => id.endsWith("5");
    const page = pageOf(leases, { limit: 3, after: "l_000005" }, isMeant);
    expect(page.look()).toBe(true);
    expect([page.items, page.next]).toEqual([["l_000015", "l_000025", "l_000035"], { next: "l_000035" }]);
    const last = pageOf(leases, { limit: 3, after: "l_000035" }, isMeant);
    expect(last.look()).toBe(true);
    expect([last.items, last.next]).toEqual([["l_000045"], {}]);
  });

  test("is not taken for the last page when leases that it was to show have ended meanwhile", () => {
    const leases = among(25_000);
    const page = pageOf(leases, { limit: 10 });
    expect(page.look()).toBe(false);
    for (let i = 0; i < 11; i++) leases.delete(leaseOf(i)[0]);
    while (!page.look());
    const { next } = page.next;
    const others = pageOf(leases, { limit: 10, ...(next === undefined ? {} : { after: next }) });
    while (!others.look());
    const shown = [...page.items, ...others.items];
    expect(shown.slice(0, 3)).toEqual(["l_000011", "l_000012", "l_000013"]);
    expect(next).toBeDefined();
  });
});

describe("lists that are added", () => {
  const list = (count: number, from: number) =>
    Array.from({ length: count }, (_, i) => `user:pass@10.${from}.${i >> 8}.${i & 255}:80`);

  test("are read in pieces with other requests between them, and stay in order of arrival", async () => {
    const stored: number[] = [];
    const put = async (secrets: ReadonlyMap<string, string>) => void stored.push(secrets.size);
    const adding = new Adding({ outbound: loopbackAllowed, secrets: { put }, key });
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

  test("are refused when too many wait or a password cannot be stored, without delaying the next list", async () => {
    let fails = true;
    const put = async () => {
      if (fails) throw new Error("no answer");
    };
    const adding = new Adding({ outbound: loopbackAllowed, secrets: { put }, key });
    const all = Array.from({ length: 201 }, () => adding.add({ proxies: list(1, 1) }));
    expect(await all[200]).toMatchObject({ refusal: { code: "overloaded" } });
    expect(await all[199]).toMatchObject({ refusal: { code: "unavailable" } });
    fails = false;
    expect(await adding.add({ proxies: list(1, 1) })).toHaveProperty("commands");
  });
});
