// Adding proxies on the wire. Protocol §3.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Added, lax, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const add = (pool: string, ...proxies: unknown[]) => wire.ok<Added>("proxies.add", pool, { proxies });

describe("add", () => {
  test("reports new, known and changed proxies", async () => {
    await wire.open("adding", lax);
    const none = { added: 0, already: 0, updated: 0, rejected: [], rejectedCount: 0 };
    const plain = "10.2.0.1:8080";
    const labelled = { url: "socks5://10.2.0.2:1080", labels: { country: "DE" } };
    const limited = { url: "10.2.0.3:80", limits: { concurrency: 1, rate: { limit: 3, windowMs: 1000 }, usage: null } };
    expect(await add("adding", plain, labelled, limited)).toEqual({ ...none, added: 3 });
    expect(await add("adding", plain, labelled, limited)).toEqual({ ...none, already: 3 });
    expect(await add("adding", "http://10.2.0.1:8080", { url: plain })).toEqual({ ...none, already: 2 });
    const other = { ...labelled, labels: { country: "FR" } };
    expect(await add("adding", other, { ...limited, limits: { concurrency: 2 } })).toEqual({ ...none, updated: 2 });
    expect(await wire.proxyAt("adding", "10.2.0.2")).toMatchObject({ labels: { country: "FR" } });
    expect(await wire.proxyAt("adding", "10.2.0.3")).toMatchObject({ limits: { concurrency: 2 } });
    expect(await add("adding")).toEqual(none);
    expect(await wire.proxies("adding")).toHaveLength(3);
  });

  test("reports each invalid entry with place, masked input and reason, and adds the others", async () => {
    await wire.open("mixed", lax);
    const bad = [
      "no-port",
      "10.2.1.1:99999",
      "10.2.1.2:0:user:hush-hush",
      "ftp://user:hush-hush@10.2.1.3:80",
      { url: "http://user:hush-hush@10.2.1.4:80", labels: { "": "x" } },
      { url: "http://user:hush-hush@10.2.1.5:80", limits: { concurrency: 0 } },
      { url: "http://user:hush-hush@10.2.1.6:80", limits: { speed: 1 } },
      { url: 5 },
      { labels: {} },
      5,
      null,
      true,
      [],
      {},
    ];
    const good = ["10.2.1.7:80", { url: "http://user:hush-hush@10.2.1.8:80" }, "# a comment"];
    const reply = await add("mixed", good[0], ...bad, ...good.slice(1));
    expect(reply).toMatchObject({ added: 2, already: 0, updated: 0, rejectedCount: bad.length });
    expect(reply.rejected.map(({ line }) => line)).toEqual(bad.map((_, index) => index + 2));
    for (const { input, why } of reply.rejected) {
      expect(why).toMatch(/\S/);
      expect(`${input}${why}`).not.toContain("hush-hush");
    }
    expect(reply.rejected[0]).toMatchObject({ input: "no-port", why: expect.stringContaining("port") });
    expect((await wire.proxies("mixed")).map(({ host }) => host).sort()).toEqual(["10.2.1.7", "10.2.1.8"]);
  });

  test("returns the input of an entry with invalid labels or limits, its password masked", async () => {
    await wire.open("masked", lax);
    const url = "http://user:hush-hush@10.2.1.9:80";
    const { rejected } = await add("masked", { url, limits: { speed: 1 } }, { url, labels: { a: 5 } });
    for (const { input } of rejected) {
      expect(input).not.toContain("hush-hush");
      expect(input).toContain("10.2.1.9:80");
    }
  });

  test("lists at most 100 invalid entries, and counts all of them", async () => {
    await wire.open("garbage", lax);
    const reply = await add("garbage", ...Array.from({ length: 250 }, (_, n) => `line ${n} of nothing`), "10.2.2.1:80");
    expect(reply).toMatchObject({ added: 1, rejectedCount: expect.any(Number) });
    expect(reply.rejected).toHaveLength(100);
    expect(reply.rejectedCount).toBeGreaterThanOrEqual(250);
    expect(await wire.proxies("garbage")).toHaveLength(1);
  });

  test("never stores an invalid entry", async () => {
    await wire.open("clean", lax);
    const garbage = ["", " ", "\u0000", "%", ":::", "@@@", "http://", "<html>", "💥", "1.2.3:80", "a".repeat(5000)];
    await wire.changesNothing("clean", () => add("clean", ...garbage));
  });

  test("adds more proxies than fit into one commit", async () => {
    await wire.open("large", lax);
    const entries = Array.from({ length: 2500 }, (_, n) => `10.3.${n >> 8}.${n & 255}:80`);
    expect(await add("large", ...entries)).toMatchObject({ added: 2500, rejected: [] });
    expect(await add("large", ...entries)).toMatchObject({ already: 2500 });
    expect((await wire.stats("large")).proxies).toMatchObject({ available: 2500, leasable: 2500 });
  });
});
