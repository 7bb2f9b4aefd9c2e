// Proxies on the wire: identity, fields, exit, pages, own limits. Protocol §3.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Added, type Changed, lax, type Proxy, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
beforeAll(async () => {
  wire = await sharedWire();
});
afterAll(() => wire.stop());

const add = (pool: string, ...proxies: unknown[]) => wire.ok<Added>("proxies.add", pool, { proxies });
const change = (verb: "retire" | "rest" | "revive", pool: string, body: object) =>
  wire.ok<Changed>(`proxies.${verb}`, pool, body);
type Page = { proxies: Proxy[]; next?: string };
const list = (pool: string, body: object = {}) => wire.ok<Page>("proxies.list", pool, body);
const idsOf = ({ proxies }: Page) => proxies.map(({ id }) => id);

describe("a proxy", () => {
  test("treats one host and port with two credentials as two proxies, and shows neither login", async () => {
    await wire.open("secretive", lax);
    await add("secretive", "http://ann-bell:hush-1@10.2.3.1:80", "http://ann-bell:hush-2@10.2.3.1:80", "10.2.3.1:80");
    const page = await wire.ask("proxies.list", "secretive", {});
    expect(page.body).not.toContain("hush");
    const { proxies } = page.json<Page>();
    expect(proxies.map(({ username }) => username).sort()).toEqual(["ann…", "ann…", undefined]);
    expect(new Set(proxies.map(({ id }) => id)).size).toBe(3);
    for (const { id } of proxies) {
      expect(id).toMatch(/^p_.{16}$/);
      expect((await wire.ask("proxies.get", "secretive", { id })).body).not.toContain("hush");
    }
  });

  test("is found by a part of its address, exit, id or label, in upper or lower case, and by no part of its login", async () => {
    const entries = [
      "http://ann-bell:hush@10.2.3.4:81",
      { url: "10.2.3.5:80", labels: { city: "Paris", exit: "192.0.2.9" } },
    ];
    await wire.open("parts", lax, entries);
    const [first, second] = (await list("parts")).proxies.toSorted((a, b) => a.port - b.port).reverse();
    const found = async (text: string) => idsOf(await list("parts", { text }));
    for (const text of ["10.2.3.4", "3.4:81", "http://10.2.3.4:81", first?.id.slice(3).toUpperCase() ?? ""])
      expect([text, await found(text)]).toEqual([text, [first?.id]]);
    for (const text of ["pARIS", "192.0.2.9", second?.id ?? ""])
      expect([text, await found(text)]).toEqual([text, [second?.id]]);
    for (const text of ["ann", "hush", "Berlin"]) expect([text, await found(text)]).toEqual([text, []]);
    expect(await found("10.2.3.")).toHaveLength(2);
  });

  test("gives the same entry the same id in every pool", async () => {
    const entry = "socks5://ann:hush@10.2.3.2:1080";
    await wire.open("one", lax, [entry]);
    await wire.open("other", lax, [entry]);
    expect(idsOf(await list("one"))).toEqual(idsOf(await list("other")));
  });

  test("has the contract's fields before its first use, and more after it", async () => {
    const limits = { rate: { limit: 2, windowMs: 60_000 } };
    await wire.open("fields", { ...lax, marginMs: 0, lease: { graceMs: 0 } }, [
      { url: "http://ann-bell:hush@10.2.3.3:81", labels: { country: "DE" }, limits },
    ]);
    const [fresh] = await wire.proxies("fields");
    expect(fresh).toEqual({
      id: expect.stringMatching(/^p_.{16}$/),
      scheme: "http",
      host: "10.2.3.3",
      port: 81,
      username: "ann…",
      exit: "10.2.3.3",
      labels: { country: "DE" },
      limits,
      state: "available",
      epoch: 0,
      score: 0,
      streak: 0,
      usesSinceRest: 0,
      usesInWindow: 0,
      openLeases: 0,
      totals: { granted: 0, succeeded: 0, failed: 0, neutral: 0, unreported: 0 },
      addedAt: expect.any(Number),
    });
    const id = fresh?.id ?? "";
    const lease = await wire.lease("fields", { uses: 2 });
    const inUse = { state: "in-use", usesSinceRest: 2, usesInWindow: 2, openLeases: 1, lastUsedAt: lease.grantedAt };
    expect(await wire.get("fields", id)).toEqual({ ...fresh, ...inUse, totals: { ...fresh?.totals, granted: 2 } });
    await wire.report("fields", { leaseId: lease.leaseId, n: 1, status: 200 });
    await wire.report("fields", { leaseId: lease.leaseId, n: 2, status: 200 });
    const spent = await wire.get("fields", id);
    expect(spent).toEqual({
      ...fresh,
      score: 2,
      usesSinceRest: 2,
      usesInWindow: 2,
      lastUsedAt: lease.grantedAt,
      leasableAt: expect.any(Number),
      totals: { granted: 2, succeeded: 2, failed: 0, neutral: 0, unreported: 0 },
    });
    // Its first slot becomes free when more than a window has passed since the first report.
    const [first] = await wire.dated("fields", "UseReported");
    expect(spent.leasableAt).toBe((first?.at ?? 0) + 60_000 + 1);
  });

  test("takes its exit from the label exit, else from a literal host, else from its own id", async () => {
    const gateway = "gate.example.com:80";
    await wire.open("exits", { ...lax, concurrency: 1 }, [
      { url: "10.2.3.4:80", labels: { exit: "198.51.100.7" } },
      { url: "10.2.3.5:80", labels: { exit: "198.51.100.7" } },
      "10.2.3.6:80",
      "10.2.3.6:81",
      "[2001:db8::1]:80",
      `http://ann:hush-1@${gateway}`,
      `http://ann:hush-2@${gateway}`,
    ]);
    const exits = new Map((await wire.proxies("exits")).map((proxy) => [`${proxy.host}:${proxy.port}`, proxy.exit]));
    expect(exits.get("10.2.3.4:80")).toBe("198.51.100.7");
    expect(exits.get("10.2.3.6:81")).toBe("10.2.3.6");
    expect(exits.get("2001:db8::1:80")).toBe("2001:db8::1");
    const gateways = (await wire.proxies("exits")).filter(({ host }) => host === "gate.example.com");
    expect(new Set(gateways.map(({ exit }) => exit)).size).toBe(2);
    // Seven proxies leave from five addresses. Each address may have one lease.
    expect((await wire.stats("exits")).proxies.leasable).toBe(7);
    const leased = await Promise.all(Array.from({ length: 5 }, () => wire.lease("exits")));
    expect(new Set(leased.map(({ proxyId }) => proxyId)).size).toBe(5);
    expect((await wire.refused("lease", "exits", {}, "pool-exhausted")).limitedBy).toMatchObject({ concurrency: 7 });
  });

  test("an unknown one is unknown-proxy", async () => {
    await wire.open("strangers", lax);
    await wire.refused("proxies.get", "strangers", { id: "p_0123456789abcdef" }, "unknown-proxy");
    await wire.refused("proxies.get", "strangers", { id: "whatever" }, "unknown-proxy");
  });
});

describe("list", () => {
  beforeAll(async () => {
    await wire.open(
      "listing",
      lax,
      Array.from({ length: 23 }, (_, n) => ({
        url: `10.2.4.${n}:80`,
        labels: { parity: n % 2 === 0 ? "even" : "odd", ...(n < 5 && { low: "yes" }) },
      })),
    );
  });

  test("orders pages by id, and gives `next` while more remain", async () => {
    const all = idsOf(await list("listing"));
    expect(all).toHaveLength(23);
    expect(all).toEqual([...all].sort());
    expect(await list("listing")).not.toHaveProperty("next");
    const paged: string[] = [];
    const sizes: number[] = [];
    for (let after: string | undefined; ; ) {
      const page: Page = await list("listing", { limit: 10, after });
      paged.push(...idsOf(page));
      sizes.push(page.proxies.length);
      if (page.next === undefined) break;
      after = page.next;
    }
    expect(paged).toEqual(all);
    expect(sizes).toEqual([10, 10, 3]);
    expect(await list("listing", { limit: 23 })).not.toHaveProperty("next");
    expect(idsOf(await list("listing", { after: all.at(-1) }))).toEqual([]);
  });

  test("returns the first 100 by default", async () => {
    await wire.open(
      "hundreds",
      lax,
      Array.from({ length: 101 }, (_, n) => `10.2.5.${n}:80`),
    );
    const page = await list("hundreds");
    expect(page.proxies).toHaveLength(100);
    expect((await list("hundreds", { after: page.next })).proxies).toHaveLength(1);
    expect((await list("hundreds", { limit: 1000 })).proxies).toHaveLength(101);
  });

  test("filters by state and by labels together, on every page", async () => {
    const odd = await list("listing", { labels: { parity: "odd" } });
    expect(odd.proxies).toHaveLength(11);
    expect((await list("listing", { labels: { parity: "odd", low: "yes" } })).proxies).toHaveLength(2);
    expect((await list("listing", { labels: { parity: "none" } })).proxies).toEqual([]);
    await change("rest", "listing", { ids: idsOf(odd).slice(0, 4), forMs: 60_000 });
    expect(idsOf(await list("listing", { state: "cooling" }))).toEqual(idsOf(odd).slice(0, 4));
    expect((await list("listing", { state: "cooling", labels: { parity: "even" } })).proxies).toEqual([]);
    const first = await list("listing", { state: "available", labels: { parity: "odd" }, limit: 4 });
    expect(idsOf(first)).toEqual(idsOf(odd).slice(4, 8));
    const second = await list("listing", {
      state: "available",
      labels: { parity: "odd" },
      limit: 4,
      after: first.next,
    });
    expect(idsOf(second)).toEqual(idsOf(odd).slice(8));
    expect(second).not.toHaveProperty("next");
  });
});

describe("a proxy's own limits", () => {
  test("replace those of the policy", async () => {
    await wire.open("own", { ...lax, concurrency: 5, rate: { limit: 100, windowMs: 60_000 } }, [
      { url: "10.2.7.1:80", limits: { rate: { limit: 3, windowMs: 60_000 }, concurrency: 1 } },
    ]);
    const lease = await wire.lease("own", { uses: 10 });
    expect(lease.uses).toBe(3);
    expect((await wire.refused("lease", "own", {}, "pool-exhausted")).limitedBy).toEqual({
      rate: 1,
      concurrency: 1,
      usage: 0,
      rest: 0,
      exclude: 0,
      session: 0,
    });
  });
});
