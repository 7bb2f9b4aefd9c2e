// Pools on the wire: open, get, policy, stats, list, close; and $SRV. Protocol §1 and §7.

import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { connectRaw, type RawMessage } from "../kit/raw-nats.ts";
import { lax, type Pool, type Released, startWire, type Wire } from "./wire.ts";

let wire: Wire;
beforeAll(async () => {
  wire = await startWire();
});
afterAll(() => wire.stop());

const leaderVerbs = [
  "lease",
  "renew",
  "release",
  "report",
  "proxies.add",
  "proxies.list",
  "proxies.get",
  "proxies.retire",
  "proxies.rest",
  "proxies.revive",
  "leases.list",
  "token.get",
  "token.reject",
];

describe("opening a pool", () => {
  test("opens the default pool at the start, with the contract's whole default policy", async () => {
    const { pool, policy, version, openedAt } = await wire.ok<Pool>("pool.get", "default");
    expect({ pool, version }).toEqual({ pool: "default", version: 1 });
    const [opened] = await wire.dated("default", "PoolOpened");
    expect(openedAt).toBe(opened?.at);
    // Only another clock can show that the pool's time is epoch milliseconds. The two clocks are compared to the
    // minute.
    expect(Math.abs(Date.now() - openedAt)).toBeLessThan(60_000);
    const { outcomes, classify, ...rules } = policy;
    expect(rules).toEqual({
      rate: { limit: 30, windowMs: 60_000 },
      countFrom: "report",
      marginMs: 100,
      concurrency: 2,
      limitBy: "exit",
      usage: { limit: 500, restMs: 900_000 },
      bytes: null,
      failures: { limit: 30, windowMs: 300_000, restMs: 600_000 },
      streak: { limit: 100, restMs: 600_000, retireAfter: null },
      backoff: {
        kind: "exponential",
        baseMs: 1000,
        maxMs: 300_000,
        jitterMs: 1000,
        jitterShare: 0.2,
        baseMsBy: { blocked: 30_000, "proxy-auth": 300_000 },
      },
      score: { min: -10_000, max: 10_000 },
      lease: { ttlMs: 90_000, ttlMsMax: 3_600_000, graceMs: 2000, usesMax: 1000 },
      strategy: { kind: "best" },
      waiting: { max: 10_000 },
      session: { ttlMs: 600_000, patienceMs: 10_000, max: 100_000 },
      holder: { leasesMax: null },
      hosts: [],
      gateway: { tunnelUses: "flights", h2: "estimate", idleMs: 300_000, ageMsMax: 3_600_000 },
      token: null,
    });
    expect(outcomes).toMatchObject({ blocked: { score: -1, counts: true, rest: "backoff" } });
    expect(classify).toMatchObject({ status: { 403: "blocked" }, error: { ECONNREFUSED: "unreachable" } });
  });

  test("answers with the pool; opening it again keeps it and merges the given policy", async () => {
    const first = await wire.ok<Pool>("pool.open", "twice", { policy: { concurrency: 3, usage: null } });
    expect(first).toMatchObject({ pool: "twice", version: 1, policy: { concurrency: 3, usage: null } });
    expect(first.policy).toMatchObject({ rate: { limit: 30, windowMs: 60_000 } });
    expect(await wire.ok<Pool>("pool.open", "twice")).toEqual(first);
    expect(await wire.ok<Pool>("pool.open", "twice", {})).toEqual(first);
    const merged = await wire.ok<Pool>("pool.open", "twice", { policy: { rate: { limit: 40 } } });
    expect(merged).toMatchObject({ version: 2, openedAt: first.openedAt });
    expect(merged.policy).toEqual({ ...first.policy, rate: { limit: 40, windowMs: 60_000 } });
    expect(await wire.ok<Pool>("pool.get", "twice")).toEqual(merged);
  });

  test("an invalid policy opens no pool and starts no ledger", async () => {
    for (const policy of [{ nope: 1 }, { rate: { limit: 0 } }, { lease: { ttlMs: 5, ttlMsMax: 4 } }, [], 5, "lax"]) {
      const refusal = await wire.refused("pool.open", "unborn", { policy }, "invalid-request");
      expect(refusal.field).toMatch(/^policy/);
    }
    await wire.noResponders("lease", "unborn");
    await wire.refused("pool.get", "unborn", "", "unknown-pool");
    expect(await wire.ledger("unborn")).toEqual([]);
  });

  test("an invalid policy leaves an open pool unchanged", async () => {
    await wire.open("firm", lax, ["10.1.0.1:80"]);
    await wire.changesNothing("firm", () =>
      wire.refused("pool.open", "firm", { policy: { concurrency: 1, nope: 1 } }, "invalid-request"),
    );
  });

  test("answers both clients that open the same pool at once", async () => {
    const [first, second] = await Promise.all([
      wire.ok<Pool>("pool.open", "both"),
      wire.ok<Pool>("pool.open", "both", { policy: { concurrency: 7 } }),
    ]);
    expect(first).toMatchObject({ pool: "both" });
    expect(second).toMatchObject({ pool: "both", policy: { concurrency: 7 } });
  });

  test("opens the pool although another client sends an invalid policy for it at the same moment", async () => {
    const opening = wire.ok<Pool>("pool.open", "crowded");
    await Promise.all([
      wire.refused("pool.open", "crowded", { policy: { nope: 1 } }, "invalid-request"),
      expect(opening).resolves.toMatchObject({ pool: "crowded" }),
    ]);
    expect(await wire.ok<Pool>("pool.get", "crowded")).toMatchObject({ version: 1 });
  });

  test("accepts names that match [a-z0-9][a-z0-9-]{0,62} only", async () => {
    for (const name of ["Upper", "-dash", "under_score", "é", "a".repeat(64)]) {
      await wire.refused("pool.open", name, {}, "invalid-request");
    }
    await wire.noResponders("pool.open", "two.words");
    for (const name of ["0", "9-", "a".repeat(63)]) {
      expect(await wire.ok<Pool>("pool.open", name)).toMatchObject({ pool: name });
    }
  });
});

describe("the policy", () => {
  test("merges a partial document: objects by field; lists and null replace; a new kind brings its own fields", async () => {
    const { policy } = await wire.open("merging");
    const steps: [Record<string, unknown>, Record<string, unknown>][] = [
      [{ lease: { ttlMs: 5000 } }, { lease: { ...(policy.lease as object), ttlMs: 5000 } }],
      [{ usage: null }, { usage: null }],
      [{ usage: { limit: 7 } }, { usage: { limit: 7, restMs: 900_000 } }],
      [
        {
          rate: [
            { limit: 2, windowMs: 1000 },
            { limit: 9, windowMs: 60_000 },
          ],
        },
        {
          rate: [
            { limit: 2, windowMs: 1000 },
            { limit: 9, windowMs: 60_000 },
          ],
        },
      ],
      [{ rate: null }, { rate: null }],
      [{ backoff: { kind: "fixed" } }, { backoff: { kind: "fixed", restMs: 300_000, jitterMs: 0 } }],
      [{ backoff: { restMs: 1 } }, { backoff: { kind: "fixed", restMs: 1, jitterMs: 0 } }],
      [{ backoff: { kind: "none" } }, { backoff: { kind: "none" } }],
      [{ strategy: { kind: "drain" } }, { strategy: { kind: "drain" } }],
      [{ classify: { status: { 418: "blocked" } } }, {}],
    ];
    let expected: Record<string, unknown> = policy;
    for (const [index, [patch, outcome]] of steps.entries()) {
      const changed = await wire.ok<Pool>("pool.policy", "merging", { policy: patch, ifVersion: index + 1 });
      expect(changed.version).toBe(index + 2);
      expected = { ...expected, ...outcome };
      if (patch.classify !== undefined) expected = { ...expected, classify: changed.policy.classify };
      expect(changed.policy).toEqual(expected);
    }
    expect(expected.classify).toMatchObject({ status: { 418: "blocked", 403: "blocked" } });
  });

  test("makes no new version for a document that changes nothing", async () => {
    const before = await wire.open("calm", { concurrency: 4 });
    expect(await wire.ok<Pool>("pool.policy", "calm", { policy: { concurrency: 4 } })).toEqual(before);
    expect(await wire.ok<Pool>("pool.policy", "calm", { policy: {} })).toEqual(before);
  });

  test("goes back to the default policy, over NATS and over HTTP, if asked to", async () => {
    const initial = await wire.open("reset", { ...lax, hosts: ["example.com"] }, []);
    expect(initial.policy).toMatchObject({ rate: null, hosts: ["example.com"] });
    await wire.refused("pool.policy", "reset", { reset: true, ifVersion: 9 }, "invalid-request");
    const { policy: standard } = await wire.ok<Pool>("pool.get", "default");
    const reset = await wire.ok<Pool>("pool.policy", "reset", { reset: true, ifVersion: 1 });
    expect(reset).toMatchObject({ version: 2, policy: standard });
    const kept = await wire.ok<Pool>("pool.policy", "reset", { reset: true, policy: { concurrency: 7 } });
    expect(kept.policy).toEqual({ ...standard, concurrency: 7 });
    const response = await fetch(`${wire.remuda.httpUrl}/v1/pools/reset/policy/reset`, { method: "POST" });
    expect(await response.json()).toMatchObject({ version: 4, policy: standard });
    expect((await wire.refused("pool.policy", "reset", {}, "invalid-request")).field).toBe("policy");
    expect(
      (await wire.refused("pool.policy", "reset", { policy: { hosts: ["https://a.b"] } }, "invalid-request")).field,
    ).toMatch(/^policy\.hosts/);
  });

  test("refuses an update that names an outdated version", async () => {
    await wire.open("versioned");
    await wire.ok("pool.policy", "versioned", { policy: { concurrency: 3 }, ifVersion: 1 });
    await wire.changesNothing("versioned", async () => {
      for (const ifVersion of [1, 3]) {
        await wire.refused("pool.policy", "versioned", { policy: { concurrency: 9 }, ifVersion }, "invalid-request");
      }
    });
  });

  test.each<[string, Record<string, unknown>, RegExp]>([
    ["an unknown field", { concurency: 3 }, /concurency$/],
    ["an unknown field further down", { lease: { ttl: 3 } }, /lease\.ttl$/],
    ["a wrong type", { concurrency: "2" }, /concurrency$/],
    ["a window of 0", { rate: { limit: 3, windowMs: 0 } }, /rate\.windowMs$/],
    ["a limit of 0", { usage: { limit: 0 } }, /usage\.limit$/],
    ["a negative duration", { marginMs: -1 }, /marginMs$/],
    ["a fraction", { failures: { limit: 1.5 } }, /failures\.limit$/],
    ["a maximum below its default", { lease: { ttlMsMax: 1000 } }, /lease\.ttlMs(Max)?$/],
    ["a default above its maximum", { lease: { ttlMs: 3_600_001 } }, /lease\.ttlMs(Max)?$/],
    ["a share above 1", { backoff: { jitterShare: 1.1 } }, /backoff\.jitterShare$/],
    ["a longest backoff below the first", { backoff: { baseMs: 9000, maxMs: 8000 } }, /backoff\.(maxMs|baseMs)$/],
    ["an unknown kind", { backoff: { kind: "hope" } }, /backoff/],
    ["an unknown strategy", { strategy: { kind: "guess" } }, /strategy/],
    ["a field of another kind", { backoff: { kind: "fixed", baseMs: 5 } }, /backoff\.baseMs$/],
    ["an unknown outcome class", { outcomes: { sulking: { score: 1, counts: true, rest: "none" } } }, /outcomes/],
    ["an unknown class of a status", { classify: { status: { 403: "sulking" } } }, /classify\.status\.403$/],
    ["a score that cannot be 0", { score: { min: 5 } }, /score\.min$/],
    ["no windows at all", { rate: [] }, /rate/],
    ["null for a part that cannot be switched off", { lease: null }, /lease$/],
    ["a field called __proto__", JSON.parse('{"__proto__":{"rate":null}}'), /__proto__/],
  ])("refuses %s, names the field, and changes nothing", async (_what, policy, field) => {
    await wire.ok("pool.open", "strict");
    const before = await wire.ok<Pool>("pool.get", "strict");
    const refusal = await wire.refused("pool.policy", "strict", { policy }, "invalid-request");
    expect(refusal.field).toMatch(field);
    expect(refusal.message).not.toBe("");
    expect(await wire.ok<Pool>("pool.get", "strict")).toEqual(before);
  });

  test("refuses a request without a policy", async () => {
    await wire.ok("pool.open", "strict");
    for (const body of ["", {}, { policy: null }, { policy: [] }, { policy: "x" }]) {
      expect((await wire.refused("pool.policy", "strict", body, "invalid-request")).field).toBe("policy");
    }
  });

  test("accepts a rule that can never fire, with a warning", async () => {
    const opened = await wire.open("futile", {
      rate: [
        { limit: 50, windowMs: 1000 },
        { limit: 20, windowMs: 60_000 },
      ],
    });
    expect(opened.version).toBe(1);
    expect(opened.warnings).toEqual([expect.stringContaining("rate")]);
  });

  test("applies a new policy at once", async () => {
    await wire.open("tighter", { ...lax, concurrency: 2 }, ["10.1.0.2:80"]);
    await wire.lease("tighter");
    await wire.ok("pool.policy", "tighter", { policy: { concurrency: 1 } });
    expect((await wire.refused("lease", "tighter", {}, "pool-exhausted")).limitedBy?.concurrency).toBe(1);
    await wire.ok("pool.policy", "tighter", { policy: { concurrency: null } });
    await wire.lease("tighter");
  });
});

describe("stats", () => {
  test("counts proxies by state, leases, outcomes and refused requests, and names the leader", async () => {
    const entries = ["10.1.1.1:80", "10.1.1.2:80", "10.1.1.3:80", "10.1.1.4:80"];
    await wire.open("counted", { ...lax, lease: { graceMs: 0 } }, entries);
    const brief = await wire.lease("counted", { ttlMs: 1 });
    await eventually(async () => expect((await wire.stats("counted")).leases.expired).toBe(1));
    await wire.ok("proxies.retire", "counted", { ids: [brief.proxyId] });
    const resting = await wire.proxyAt("counted", "10.1.1.4");
    await wire.ok("proxies.rest", "counted", { ids: [resting.id], forMs: 60_000 });
    const lease = await wire.lease("counted", { uses: 3 });
    await wire.report(
      "counted",
      { leaseId: lease.leaseId, n: 1, status: 200 },
      { leaseId: lease.leaseId, n: 2, status: 500 },
      { leaseId: lease.leaseId, n: 2, status: 500 },
    );
    await wire.refused("lease", "counted", { labels: { no: "such" } }, "no-match");
    await wire.refused("lease", "counted", { uses: 0 }, "invalid-request");
    const stats = await eventually(async () => {
      const stats = await wire.stats("counted");
      expect(stats.leases).toEqual({ open: 1, granted: 2, expired: 1 });
      expect(stats.refused).toEqual({ "no-match": 1, "invalid-request": 1 });
      return stats;
    });
    const ledger = await wire.ledger("counted");
    expect(stats).toEqual({
      pool: "counted",
      at: expect.any(Number),
      sequence: ledger.at(-1)?.seq,
      commits: ledger.length,
      proxies: { available: 1, "in-use": 1, cooling: 1, exhausted: 0, retired: 1, leasable: 2 },
      leases: { open: 1, granted: 2, expired: 1 },
      outcomes: { succeeded: 1, failed: 0, neutral: 1, ignored: 1 },
      refused: { "no-match": 1, "invalid-request": 1 },
      waiting: 0,
      leader: { id: expect.stringMatching(/\S/), term: 1 },
    });
    expect(stats.at).toBeGreaterThanOrEqual(ledger.at(-1)?.commit.at ?? Number.POSITIVE_INFINITY);
    expect(stats.at).toBeLessThanOrEqual((await wire.stats("counted")).at);
  });
});

describe("closing a pool", () => {
  test("a closed pool answers nothing and is not listed; reopening it restores its state", async () => {
    await wire.open("closing", { ...lax, concurrency: 3 }, ["10.1.2.1:80"]);
    const names = async () =>
      (await wire.ok<{ pools: { pool: string }[] }>("pool.list", "all")).pools.map(({ pool }) => pool);
    expect(await names()).toEqual(expect.arrayContaining(["closing", "default"]));
    const proxies = await wire.proxies("closing");
    expect(await wire.ok<Pool>("pool.close", "closing")).toMatchObject({ pool: "closing", version: 1 });
    for (const verb of leaderVerbs) await wire.noResponders(verb, "closing");
    for (const verb of ["pool.get", "pool.stats", "pool.close"])
      await wire.refused(verb, "closing", {}, "unknown-pool");
    await wire.refused("pool.policy", "closing", { policy: {} }, "unknown-pool");
    expect(await names()).not.toContain("closing");
    expect(await wire.ok<Pool>("pool.open", "closing")).toMatchObject({ policy: { concurrency: 3 } });
    expect(await wire.proxies("closing")).toEqual(proxies);
    await wire.lease("closing");
    const commits = (await wire.ledger("closing")).map(({ commit }) => commit.n);
    expect(commits).toEqual(commits.map((_, index) => index + 1));
  });

  test("a draining pool grants nothing, lets open leases end, and closes with the last one", async () => {
    await wire.open("draining", lax, ["10.1.2.2:80"]);
    const lease = await wire.lease("draining", { uses: 2 });
    expect(await wire.ok<Pool>("pool.close", "draining", { drain: true })).toMatchObject({ pool: "draining" });
    const refusal = await wire.ask("lease", "draining", {});
    expect(refusal.headers.get("Nats-Service-Error-Code")).toMatch(/^[45]\d\d$/);
    expect((await wire.stats("draining")).leases.open).toBe(1);
    expect(await wire.report("draining", { leaseId: lease.leaseId, n: 1, status: 200 })).toMatchObject({ accepted: 1 });
    const renewed = await wire.ok<{ leaseId: string }>("renew", "draining", { leaseId: lease.leaseId });
    expect(renewed.leaseId).toBe(lease.leaseId);
    const released = await wire.ok<Released>("release", "draining", { leaseId: lease.leaseId });
    expect(released).toEqual({ leaseId: lease.leaseId, used: 2, returned: 0 });
    await eventually(() => wire.noResponders("lease", "draining"));
    expect((await wire.events("draining")).filter(({ type }) => type === "PoolClosed")).not.toEqual([]);
  });

  test("drains a pool without leases at once", async () => {
    await wire.open("idle");
    await wire.ok("pool.close", "idle", { drain: true });
    await eventually(() => wire.noResponders("lease", "idle"));
  });
});

describe("a pool that was never opened", () => {
  test.each(leaderVerbs)("remuda.%s.<pool> gets NATS's own no-responders reply", async (verb) => {
    await wire.noResponders(verb, "missing");
  });

  test.each(["pool.get", "pool.stats", "pool.close", "pool.policy"])(
    "remuda.%s.<pool> says unknown-pool",
    async (verb) => {
      await wire.refused(verb, "missing", { policy: {} }, "unknown-pool");
    },
  );
});

describe("$SRV", () => {
  test.each(["PING", "INFO", "STATS"])(
    "%s is answered, for all, for the name, and for the one instance",
    async (verb) => {
      const all = await wire.nats.request(`$SRV.${verb}`);
      const card = all.json<{ name: string; id: string; version: string; type: string }>();
      expect(card).toMatchObject({
        name: "remuda",
        id: expect.stringMatching(/\S/),
        version: expect.stringMatching(/^\d+\.\d+\.\d+/),
        type: `io.nats.micro.v1.${verb.toLowerCase()}_response`,
      });
      for (const subject of [`$SRV.${verb}.remuda`, `$SRV.${verb}.remuda.${card.id}`]) {
        expect((await wire.nats.request(subject)).json()).toMatchObject({ id: card.id });
      }
      expect(await wire.nats.request(`$SRV.${verb}.other`)).toMatchObject({ status: 503 });
    },
  );

  test("INFO lists the subjects, and STATS counts requests and errors on them", async () => {
    type Endpoint = { name: string; subject: string; num_requests?: number; num_errors?: number };
    const of = (message: RawMessage, verb: string) =>
      message.json<{ endpoints: Endpoint[] }>().endpoints.find(({ subject }) => subject.startsWith(`remuda.${verb}.`));
    const info = await wire.nats.request("$SRV.INFO.remuda");
    for (const verb of [...leaderVerbs, "pool.open", "pool.get", "pool.policy", "pool.stats", "pool.close"]) {
      expect(of(info, verb), verb).toMatchObject({ name: expect.stringMatching(/^[A-Za-z0-9_-]+$/) });
    }
    const before = of(await wire.nats.request("$SRV.STATS.remuda"), "renew");
    await wire.refused("renew", "default", { leaseId: "l_0123456789012345678901" }, "unknown-lease");
    const after = of(await wire.nats.request("$SRV.STATS.remuda"), "renew");
    expect(after?.num_requests).toBe((before?.num_requests ?? 0) + 1);
    expect(after?.num_errors).toBe((before?.num_errors ?? 0) + 1);
  });
});

test("answers unavailable, not unknown-pool, for an open pool that no process can lead", async () => {
  const ledger = await connectRaw(wire.remuda.natsUrlAs("ledger"));
  const at = Date.now();
  const commit = { v: 2, n: 7, prev: "of another chain", term: 1, at, cursor: { seq: 0, at: 0 }, events: [] };
  await ledger.request("remuda.ledger.leaderless", JSON.stringify(commit));
  await wire.refused("pool.get", "leaderless", {}, "unavailable");
  await wire.noResponders("lease", "leaderless");
  await eventually(async () => {
    const { unusable = [] } = await wire.ok<{ unusable?: { pool: string }[] }>("pool.list", "all");
    expect(unusable.map(({ pool }) => pool)).toContain("leaderless");
  });
  const closed = { ...commit, n: 8, events: [{ type: "PoolClosed" }] };
  await ledger.request("remuda.ledger.leaderless", JSON.stringify(closed));
  await wire.refused("pool.get", "leaderless", {}, "unknown-pool");
  await ledger.close();
});

describe("deleting a pool", () => {
  test("deletes a closed pool's proxies, credentials and ledger, and lets the name be used again", async () => {
    const first = await wire.open("gone", lax, ["10.5.9.1:80", "ann:hush@10.5.9.2:80"]);
    const lease = await wire.lease("gone");
    const follower = await connectRaw(wire.remuda.natsUrlAs("follower"));
    onTestFinished(() => follower.close());
    const outcomes = async (): Promise<unknown> => {
      const asked = JSON.stringify({ subjects_filter: "remuda.outcome.gone" });
      const { body } = await follower.request("$JS.API.STREAM.INFO.REMUDA_OUTCOMES", asked);
      return JSON.parse(body).state.subjects?.["remuda.outcome.gone"] ?? 0;
    };
    expect(await wire.refused("pool.delete", "gone", {}, "invalid-request")).toMatchObject({ field: "pool" });
    expect(await wire.ok("release", "gone", { leaseId: lease.leaseId })).toMatchObject({ returned: 0 });
    await wire.publish("gone", { leaseId: lease.leaseId, n: 1, status: 200 });
    expect(await outcomes()).toBe(1);
    await wire.ok("pool.close", "gone");
    await wire.refused("pool.delete", "gone", { archive: "yes" }, "invalid-request");
    expect(await wire.ok("pool.delete", "gone", { archive: true })).toEqual({ deleted: true });
    expect(await wire.ledger("gone")).toEqual([]);
    expect(await outcomes()).toBe(0);
    await wire.refused("pool.delete", "gone", {}, "unknown-pool");
    await wire.refused("pool.get", "gone", {}, "unknown-pool");
    const { pools } = await wire.ok<{ pools: Pool[] }>("pool.list", "all");
    expect(pools.map(({ pool }) => pool)).not.toContain("gone");
    const again = await wire.open("gone", {}, ["10.5.9.2:80"]);
    expect(again).toMatchObject({ version: 1 });
    expect(again.openedAt).toBeGreaterThanOrEqual(first.openedAt);
    expect((await wire.stats("gone")).leases).toEqual({ open: 0, granted: 0, expired: 0 });
    const proxies = await wire.proxies("gone");
    expect(proxies.map(({ host }) => host)).toEqual(["10.5.9.2"]);
    expect((await wire.ledger("gone"))[0]?.commit).toMatchObject({ n: 1, prev: "" });
  });

  test("is a route of HTTP as well, and a closed pool stays closed without it", async () => {
    await wire.open("gone-http", lax, ["10.5.9.3:80"]);
    const at = `${wire.remuda.httpUrl}/v1/pools/gone-http`;
    const call = async (method: string, path = "") => (await fetch(`${at}${path}`, { method })).json();
    expect(await call("DELETE", "?delete=true")).toMatchObject({ code: "invalid-request", field: "pool" });
    expect(await call("DELETE")).toMatchObject({ pool: "gone-http" });
    expect(await call("DELETE", "?delete=true&archive=true")).toEqual({ deleted: true });
    expect(await call("DELETE", "?delete=true")).toMatchObject({ code: "unknown-pool" });
  });
});
