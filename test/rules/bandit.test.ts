import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import { discounted, learn, meanOf, one, pairsMax } from "../../state-machines/candidates/evidence.ts";
import { grant, release } from "../../state-machines/decide/lease.ts";
import { ingest } from "../../state-machines/decide/report.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const halfLifeMs = 80_000;
const pick = (strategy: object = {}, more: object = {}) =>
  new TestPool({ ...free, strategy: { kind: "bandit", halfLifeMs, slowMs: null, ...strategy }, ...more });

const evidenceOf = (pool: TestPool, id: string) => pool.state.proxies.get(id)!.evidence;

/** Reports a number of uses of this proxy alone. */
function seen(pool: TestPool, id: string, count: number, outcome: Record<string, unknown>): void {
  const exclude = [...pool.state.proxies.keys()].filter((other) => other !== id);
  const request = leaseRequestSchema.parse({ exclude });
  pool.turn((turn) => {
    for (let i = 0; i < count; i++) {
      const leaseId = `l_seen_${String(turn.state.nextOrder).padStart(20, "0")}`;
      grant(turn, { request, leaseId });
      ingest(turn, outcomeSchema.parse({ leaseId, ...outcome }), turn.at);
    }
  });
}

/** How often each proxy is chosen in a number of draws of one turn. */
function candidates(pool: TestPool, draws: number, request: object = {}): Record<string, number> {
  const counts: Record<string, number> = {};
  const parsed = leaseRequestSchema.parse(request);
  pool.turn((turn) => {
    for (let i = 0; i < draws; i++) {
      const leaseId = `l_drawn_${String(i).padStart(20, "0")}`;
      const granted = grant(turn, { request: parsed, leaseId });
      if (granted === "later" || !("lease" in granted)) throw new Error(JSON.stringify(granted));
      release(turn, { leaseId });
      const { id } = granted.lease.proxy;
      counts[id] = (counts[id] ?? 0) + 1;
    }
  });
  return counts;
}

describe("learning from outcomes", () => {
  test("counts successes and failures, and ignores neutral outcomes", () => {
    const pool = pick();
    const [a] = pool.add(proxyLines(1));
    for (const status of [200, 200, 403, 500]) pool.report(pool.granted(), { status });
    expect(evidenceOf(pool, a!)).toEqual({ successes: 2 * one, failures: one, at: pool.at });
  });

  test("halves the evidence after each half-life, in whole numbers", () => {
    const pool = pick();
    const [a] = pool.add(proxyLines(1));
    seen(pool, a!, 8, { status: 200 });
    const left = () => discounted(pool.state, evidenceOf(pool, a!)).successes / one;
    pool.wait(halfLifeMs);
    expect(left()).toBe(4);
    pool.wait(2 * halfLifeMs);
    expect(left()).toBe(1);
    pool.wait(halfLifeMs / 2);
    expect(left()).toBeCloseTo(Math.SQRT1_2, 4);
    expect(Number.isInteger(left() * one)).toBe(true);
    pool.wait(100 * halfLifeMs);
    expect(left()).toBe(0);
    expect(meanOf(discounted(pool.state, evidenceOf(pool, a!)))).toBe(500_000);
  });

  test("gives slow successes less weight, half at slowMs; failures have no weight as successes however quick", () => {
    const pool = pick({ slowMs: 1000 });
    const [a] = pool.add(proxyLines(1));
    pool.report(pool.granted(), { status: 200, latencyMs: 1000 });
    expect(evidenceOf(pool, a!)).toMatchObject({ successes: one / 2, failures: one / 2 });
    pool.report(pool.granted(), { status: 403, latencyMs: 1 });
    expect(evidenceOf(pool, a!)).toMatchObject({ successes: one / 2, failures: one * 1.5 });
  });

  test("prefers the quicker of two proxies with equal success", () => {
    const pool = pick({ slowMs: 1000 });
    const [quick, slow] = pool.add(proxyLines(2));
    seen(pool, quick!, 20, { status: 200, latencyMs: 50 });
    seen(pool, slow!, 20, { status: 200, latencyMs: 2000 });
    expect(candidates(pool, 200)[quick!]).toBeGreaterThan(190);
  });

  test("keeps at most fifty outcomes, so that a dead proxy is recognized soon", () => {
    const pool = pick();
    const [a] = pool.add(proxyLines(1));
    seen(pool, a!, 300, { status: 200 });
    const { successes, failures } = evidenceOf(pool, a!)!;
    expect([successes, failures]).toEqual([50 * one, 0]);
    seen(pool, a!, 50, { status: 403 });
    expect(meanOf(evidenceOf(pool, a!)!)).toBeLessThan(400_000);
  });

  test("starts afresh when a proxy is added again; learns and keeps nothing under another strategy", () => {
    const pool = pick();
    const [a, b] = pool.add(proxyLines(2));
    seen(pool, a!, 3, { status: 200 });
    seen(pool, b!, 3, { status: 200 });
    pool.retire(a!);
    pool.add(proxyLines(1));
    expect([evidenceOf(pool, a!), evidenceOf(pool, b!)?.successes]).toEqual([null, 3 * one]);
    pool.policy({ strategy: { kind: "best" } });
    expect(evidenceOf(pool, b!)).toBeNull();
    pool.report(pool.granted(), { status: 200 });
    expect([evidenceOf(pool, a!), evidenceOf(pool, b!), pool.state.newcomers]).toEqual([null, null, null]);
  });
});

describe("choosing a proxy", () => {
  test("chooses good proxies mostly and bad ones rarely, and records the reason", () => {
    const pool = pick();
    const [good, bad] = pool.add(proxyLines(2));
    seen(pool, good!, 20, { status: 200 });
    seen(pool, bad!, 20, { status: 403 });
    const counts = candidates(pool, 300);
    expect(counts[good!]).toBeGreaterThan(297);
    pool.granted();
    expect(pool.facts[0]).toMatchObject({
      type: "LeaseGranted",
      strategy: "bandit",
      ranked: { successesMilli: 20_000, failuresMilli: 0, drawnMilli: expect.any(Number), candidates: 2 },
    });
    const { ranked } = pool.facts[0] as { ranked: Record<string, number> };
    expect(Object.values(ranked).every(Number.isInteger)).toBe(true);
  });

  test("tries a proxy that failed long ago again, as its failures fade", () => {
    const pool = pick();
    const [good, bad] = pool.add(proxyLines(2));
    seen(pool, bad!, 30, { status: 403 });
    seen(pool, good!, 30, { status: 200 });
    const soon = candidates(pool, 300)[bad!] ?? 0;
    pool.wait(6 * halfLifeMs);
    seen(pool, good!, 10, { status: 200 });
    expect(soon).toBe(0);
    expect(candidates(pool, 300)[bad!]).toBeGreaterThan(5);
  });

  test("expects unknown proxies to do as other unknown proxies have done", () => {
    const tried = (status: number) => {
      const pool = pick();
      const [known, unknown, ...others] = pool.add(proxyLines(22));
      for (const id of others) seen(pool, id, 1, { status });
      seen(pool, known!, 8, { status: 200 });
      seen(pool, known!, 8, { status: 403 });
      return candidates(pool, 200, { exclude: others })[unknown!] ?? 0;
    };
    expect(tried(200)).toBeGreaterThan(150);
    expect(tried(403)).toBeLessThan(50);
  });

  test("chooses no proxy that is at a limit, resting or excluded, however good", () => {
    const pool = pick({}, { concurrency: 1 });
    const [a, b, c, d] = pool.add(proxyLines(4));
    for (const id of [a, b, c]) seen(pool, id!, 10, { status: 200 });
    seen(pool, d!, 10, { status: 403 });
    pool.rest(a!, 60_000);
    pool.granted({ exclude: [c, d] });
    expect(candidates(pool, 50, { exclude: [c] })).toEqual({ [d!]: 50 });
    expect(pool.refused({ exclude: [c, d] }).code).toBe("pool-exhausted");
  });

  test("finds the good proxies among thousands", () => {
    const pool = pick();
    const lines = Array.from({ length: 2000 }, (_, i) => `10.1.${i >> 8}.${i & 255}:8080`);
    const ids = pool.add(lines);
    const good = new Set(ids.filter((_, i) => i % 10 === 0));
    let succeeded = 0;
    const request = leaseRequestSchema.parse({});
    pool.turn((turn) => {
      for (let i = 0; i < 600; i++) {
        const leaseId = `l_${String(i).padStart(22, "0")}`;
        const granted = grant(turn, { request, leaseId });
        if (granted === "later" || !("lease" in granted)) throw new Error("the pool is empty");
        const isGood = good.has(granted.lease.proxy.id);
        ingest(turn, { leaseId, status: isGood ? 200 : 403 }, turn.at);
        if (isGood && i >= 300) succeeded++;
      }
    });
    expect(succeeded).toBeGreaterThan(200);
  });
});

describe("evidence by target", () => {
  const target = (name: string) => ({ target: `https://user@${name}/path?query` });

  test("keeps a proxy that one target bans good for other targets, and stores hosts only", () => {
    const pool = pick({ by: "target" });
    const [a, b] = pool.add(proxyLines(2));
    for (const [id, name, status] of [
      [a, "a.example", 200],
      [a, "b.example", 403],
      [b, "a.example", 403],
      [b, "b.example", 200],
    ] as const) {
      seen(pool, id!, 20, { status, ...target(name) });
    }
    expect(candidates(pool, 100, target("a.example"))[a!]).toBeGreaterThan(97);
    expect(candidates(pool, 100, target("b.example"))[b!]).toBeGreaterThan(97);
    expect(JSON.stringify(pool.facts)).toContain('"target":"b.example"');
    expect(JSON.stringify(pool.facts)).not.toContain("query");
    expect([...pool.state.targets.keys()]).toEqual(["a.example", "b.example"]);
  });

  test("finds the best proxies known at the target when most proxies are banned there", () => {
    const pool = pick({ by: "target" });
    const ids = pool.add(Array.from({ length: 100 }, (_, i) => `10.1.0.${i}:8080`));
    seen(pool, ids[90]!, 20, { status: 200, ...target("a.example") });
    for (const id of ids.slice(0, 40)) {
      seen(pool, id, 2, { status: 200, ...target("b.example") });
      seen(pool, id, 1, { status: 403, ...target("a.example") });
    }
    expect(candidates(pool, 100, target("a.example"))[ids[90]!]).toBeGreaterThan(60);
  });

  test("counts an outcome without a target for its request's target; uses all targets for a request without one", () => {
    const pool = pick({ by: "target" });
    const [a, b] = pool.add(proxyLines(2));
    pool.report(pool.granted({ ...target("a.example"), exclude: [b] }), { status: 200 });
    expect([...pool.state.pairs.values()].map((pair) => [pair.proxy.id, pair.target])).toEqual([[a, "a.example"]]);
    seen(pool, b!, 20, { status: 403, ...target("c.example") });
    seen(pool, a!, 20, { status: 200, ...target("c.example") });
    expect(candidates(pool, 100)[a!]).toBeGreaterThan(97);
  });

  test("starts afresh at every target when a proxy is added again; keeps no pairs if the policy has no targets", () => {
    const pool = pick({ by: "target" });
    const [a, b] = pool.add(proxyLines(2));
    seen(pool, a!, 20, { status: 200, ...target("a.example") });
    seen(pool, b!, 2, { status: 200, ...target("a.example") });
    pool.retire(a!);
    pool.add(proxyLines(1));
    expect(candidates(pool, 100, target("a.example"))[b!]).toBeGreaterThan(50);
    pool.policy({ strategy: { by: "proxy" } });
    expect([pool.state.pairs.size, pool.state.targets.size]).toEqual([0, 0]);
    expect(evidenceOf(pool, b!)).not.toBeNull();
  });

  test("forgets the pair that learned longest ago when there is one too many", () => {
    const pool = pick({ by: "target" });
    const [a] = pool.add(proxyLines(1));
    const { state } = pool;
    pool.report(pool.granted(), { status: 200, target: "first.example" });
    pool.report(pool.granted(), { status: 200, target: "second.example" });
    pool.report(pool.granted(), { status: 200, target: "first.example" });
    const [second, first] = [...state.pairs.values()];
    expect([second?.target, first?.target]).toEqual(["second.example", "first.example"]);
    // Filled directly: a hundred thousand reports would test nothing more.
    state.pairs.clear();
    state.pairs.set("2", second!);
    state.pairs.set("1", first!);
    for (let i = state.pairs.size; i < pairsMax; i++)
      state.pairs.set(`${i} filler`, { ...first!, target: "filler", place: -1 });
    learnOnce(pool, a!, "third.example");
    expect(state.pairs.size).toBe(pairsMax);
    expect([...state.targets.keys()].sort()).toEqual(["first.example", "third.example"]);
  });

  test("refuses a target that is neither a URL nor a host", () => {
    expect(leaseRequestSchema.safeParse({ target: "no host at all" }).success).toBe(false);
    expect(leaseRequestSchema.safeParse({ target: "https://[::1]:8080/x" }).success).toBe(true);
  });
});

/** Bypasses the comparison of states, because this state was filled directly. */
function learnOnce(pool: TestPool, id: string, target: string): void {
  const proxy = pool.state.proxies.get(id)!;
  learn(pool.state, proxy, {
    type: "UseReported",
    leaseId: "l_0000000000000000000000",
    n: 1,
    proxyId: id,
    class: "success",
    result: "success",
    score: 0,
    streak: 0,
    storedAt: pool.at,
    target,
  });
}
