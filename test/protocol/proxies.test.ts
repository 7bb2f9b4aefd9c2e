// Proxies on the wire: add, list, get, retire, rest, revive. Protocol §1.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Added, type Changed, lax, type Proxy, startWire, type Wire } from "./wire.ts";

type Page = { proxies: Proxy[]; next?: string };

let wire: Wire;
beforeAll(async () => {
  wire = await startWire();
});
afterAll(() => wire.stop());

const add = (pool: string, ...proxies: unknown[]) => wire.ok<Added>("proxies.add", pool, { proxies });
const change = (verb: "retire" | "rest" | "revive", pool: string, body: object) =>
  wire.ok<Changed>(`proxies.${verb}`, pool, body);
const list = (pool: string, body: object = {}) => wire.ok<Page>("proxies.list", pool, body);
const idsOf = ({ proxies }: Page) => proxies.map(({ id }) => id);

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

describe("a proxy", () => {
  test("treats one host and port with two credentials as two proxies, and shows neither password", async () => {
    await wire.open("secretive", lax);
    await add("secretive", "http://ann:hush-1@10.2.3.1:80", "http://ann:hush-2@10.2.3.1:80", "10.2.3.1:80");
    const page = await wire.ask("proxies.list", "secretive", {});
    expect(page.body).not.toContain("hush");
    const { proxies } = page.json<Page>();
    expect(proxies.map(({ username }) => username).sort()).toEqual(["ann", "ann", undefined]);
    expect(new Set(proxies.map(({ id }) => id)).size).toBe(3);
    for (const { id } of proxies) {
      expect(id).toMatch(/^p_.{16}$/);
      expect((await wire.ask("proxies.get", "secretive", { id })).body).not.toContain("hush");
    }
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
      { url: "http://ann:hush@10.2.3.3:81", labels: { country: "DE" }, limits },
    ]);
    const [fresh] = await wire.proxies("fields");
    expect(fresh).toEqual({
      id: expect.stringMatching(/^p_.{16}$/),
      scheme: "http",
      host: "10.2.3.3",
      port: 81,
      username: "ann",
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

describe("rest, revive, retire", () => {
  test("a manual rest keeps the proxy from being leased until it ends", async () => {
    await wire.open("resting", lax, ["10.2.6.1:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("resting");
    const rest = { ids: [id], forMs: 60_000, reason: "look" };
    expect(await change("rest", "resting", rest)).toEqual({ changed: 1, unknown: [] });
    const resting = await wire.get("resting", id);
    expect(resting).toMatchObject({ state: "cooling", epoch: 1, reasons: [expect.stringMatching(/\S/)] });
    const [began] = await wire.dated("resting", "RestBegan");
    expect(resting.until).toBe((began?.at ?? 0) + 60_000);
    const refusal = await wire.refusedUntil(resting.until ?? 0, "lease", "resting", {}, "pool-exhausted");
    expect(refusal.limitedBy).toMatchObject({ rest: 1 });
  });

  test("a rest ends at its time, and the proxy becomes available without a command", async () => {
    await wire.open("rested", lax, ["10.2.6.8:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("rested");
    await change("rest", "rested", { ids: [id], forMs: 400 });
    await eventually(async () => expect((await wire.get("rested", id)).state).toBe("available"));
    const [began] = await wire.dated("rested", "RestBegan");
    const [ended] = await wire.dated("rested", "RestEnded");
    expect(began).toMatchObject({ until: (began?.at ?? 0) + 400 });
    expect(ended).toMatchObject({ how: "over", at: expect.any(Number) });
    expect(ended?.at).toBeGreaterThanOrEqual(Number(began?.["until"]));
    const rested = await wire.get("rested", id);
    expect(rested).not.toHaveProperty("until");
    expect(rested).not.toHaveProperty("reasons");
    expect(rested.epoch).toBe(1);
    expect((await wire.lease("rested")).epoch).toBe(1);
    const types = (await wire.events("rested")).map(({ type }) => type);
    expect(types.filter((type) => type.startsWith("Rest"))).toEqual(["RestBegan", "RestEnded"]);
  });

  test("the longer of two rests wins", async () => {
    await wire.open("longer", lax, ["10.2.6.2:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("longer");
    await change("rest", "longer", { ids: [id], forMs: 60_000 });
    const long = await wire.get("longer", id);
    await change("rest", "longer", { ids: [id], forMs: 1000 });
    expect(await wire.get("longer", id)).toEqual(long);
    await change("rest", "longer", { ids: [id], forMs: 120_000 });
    const longer = await wire.get("longer", id);
    expect(longer.until).toBeGreaterThanOrEqual((long.until ?? 0) + 60_000);
    expect(longer.epoch).toBe(long.epoch); // It has begun only one rest.
  });

  test("revive ends a rest at once, and leaves a proxy that does not rest unchanged", async () => {
    await wire.open("reviving", lax, ["10.2.6.3:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("reviving");
    expect(await change("revive", "reviving", { ids: [id] })).toEqual({ changed: 0, unknown: [] });
    await change("rest", "reviving", { ids: [id], forMs: 60_000 });
    expect(await change("revive", "reviving", { ids: [id] })).toEqual({ changed: 1, unknown: [] });
    expect((await wire.lease("reviving")).proxyId).toBe(id);
  });

  test("leases that are open when a rest begins stay valid; when it ends, the proxy is in-use again", async () => {
    await wire.open("interrupted", lax, ["10.2.6.4:80"]);
    const lease = await wire.lease("interrupted", { uses: 2 });
    const ids = [lease.proxyId];
    await change("rest", "interrupted", { ids, forMs: 60_000 });
    expect(await wire.get("interrupted", lease.proxyId)).toMatchObject({ state: "cooling", openLeases: 1 });
    expect(await wire.report("interrupted", { leaseId: lease.leaseId, n: 1, status: 200 })).toMatchObject({
      accepted: 1,
      stop: [{ leaseId: lease.leaseId, until: expect.any(Number) }],
    });
    await wire.ok("renew", "interrupted", { leaseId: lease.leaseId });
    await change("revive", "interrupted", { ids });
    expect((await wire.get("interrupted", lease.proxyId)).state).toBe("in-use");
  });

  test("a retired proxy is not leased; only add brings it back, with a fresh score and streak", async () => {
    await wire.open("retiring", lax, ["10.2.6.5:80"]);
    const lease = await wire.lease("retiring", { uses: 3 });
    const ids = [lease.proxyId];
    await wire.report("retiring", { leaseId: lease.leaseId, n: 1, status: 403 });
    expect(await change("retire", "retiring", { ids, reason: "sold" })).toEqual({ changed: 1, unknown: [] });
    expect(await change("retire", "retiring", { ids })).toEqual({ changed: 0, unknown: [] });
    expect(await change("revive", "retiring", { ids })).toEqual({ changed: 0, unknown: [] });
    expect(await change("rest", "retiring", { ids, forMs: 1000 })).toEqual({ changed: 0, unknown: [] });
    expect(await wire.get("retiring", lease.proxyId)).toMatchObject({ state: "retired", score: -1, openLeases: 1 });
    await wire.refused("lease", "retiring", {}, "no-match");
    // The end of its open lease is still recorded.
    await wire.report("retiring", { leaseId: lease.leaseId, n: 2, status: 200 });
    expect(await wire.ok("release", "retiring", { leaseId: lease.leaseId, used: 2 })).toMatchObject({ returned: 1 });
    expect(await wire.get("retiring", lease.proxyId)).toMatchObject({ state: "retired", openLeases: 0 });
    expect(await add("retiring", "10.2.6.5:80")).toMatchObject({ added: 1, already: 0 });
    expect(await wire.get("retiring", lease.proxyId)).toMatchObject({
      state: "available",
      score: 0,
      streak: 0,
      usesSinceRest: 2,
    });
  });

  test("retiring and adding again does not escape a rest, a usage quota or a window", async () => {
    const rate = { limit: 3, windowMs: 60_000 };
    await wire.open("round", { ...lax, rate, usage: { limit: 500, restMs: 60_000 } }, ["10.2.6.6:80"]);
    const lease = await wire.lease("round", { uses: 2 });
    const ids = [lease.proxyId];
    await wire.ok("release", "round", { leaseId: lease.leaseId });
    await change("rest", "round", { ids, forMs: 60_000 });
    const before = await wire.get("round", lease.proxyId);
    await change("retire", "round", { ids });
    await add("round", "10.2.6.6:80");
    const { addedAt: _, ...after } = await wire.get("round", lease.proxyId);
    expect(after).toMatchObject({ state: "cooling", until: before.until, epoch: before.epoch });
    expect(after).toMatchObject({ usesSinceRest: 2, usesInWindow: 2 });
    expect((await wire.refused("lease", "round", {}, "pool-exhausted")).limitedBy?.rest).toBe(1);
  });

  test("names unknown ids, and applies the command to the others", async () => {
    await wire.open("some", lax, ["10.2.6.7:80"]);
    const [{ id } = { id: "" }] = await wire.proxies("some");
    const ids = ["p_0123456789abcdef", id, "nonsense"];
    const unknown = ["p_0123456789abcdef", "nonsense"];
    expect(await change("rest", "some", { ids, forMs: 60_000 })).toEqual({ changed: 1, unknown });
    expect(await change("revive", "some", { ids })).toEqual({ changed: 1, unknown });
    expect(await change("retire", "some", { ids })).toEqual({ changed: 1, unknown });
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
