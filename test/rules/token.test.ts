import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isRefusal } from "../../protocol/refusal.ts";
import { close } from "../../state-machines/decide/pool.ts";
import { tokenDueAt } from "../../state-machines/decide/refreshes.ts";
import { ingest } from "../../state-machines/decide/report.ts";
import { reject } from "../../state-machines/decide/token.ts";
import { poolKey } from "../../state-machines/machines/token.ts";
import { proxyLines } from "../kit/pool.ts";
import { TokenPool } from "../kit/token-pool.ts";

const ofPool = { scope: "pool" } as const;
const noRate = { rate: null } as const;

describe.each(["pool", "proxy"] as const)("a token of the %s", (scope) => {
  test("is fetched once on request, through a lease granted in the same commit and counted like any other", () => {
    const pool = new TokenPool({ scope });
    const [id] = pool.add(proxyLines(1));
    expect(pool.refused({ token: true })).toMatchObject({ code: "token-unavailable", retryAfterMs: 15_000 });
    const [granted, requested] = pool.facts;
    expect(pool.types()).toEqual(["LeaseGranted.in-use", "TokenRequested"]);
    expect(granted).toMatchObject({ proxyId: id, uses: 1, expiresAt: pool.at + 15_000 });
    expect(requested).toMatchObject({ scope, token: "refreshing", deadlineAt: pool.at + 15_000, why: "asked" });
    expect(requested?.type === "TokenRequested" && requested.leaseId).toBe(
      granted?.type === "LeaseGranted" && granted.leaseId,
    );
    expect("proxyId" in requested!).toBe(scope === "proxy");
    expect(pool.proxy(id!)).toMatchObject({ openLeases: 1, usesInWindow: 1, usesSinceRest: 1 });
    pool.wait(100);
    expect(pool.refused({ token: true })).toMatchObject({ code: "token-unavailable", retryAfterMs: 14_900 });
    expect(pool.requested).toHaveLength(1);
    const tokenId = pool.minted();
    const lease = pool.granted({ token: true });
    expect(pool.facts[0]).toMatchObject({ type: "LeaseGranted", tokenId, request: { token: true } });
    expect(pool.state.leases.get(lease.leaseId)?.token).toMatchObject({ tokenId, mintedAt: pool.at });
    expect(pool.requested).toHaveLength(1);
  });

  test("is not fetched without a request for it, nor for requests without a token", () => {
    const pool = new TokenPool({ scope });
    pool.add(proxyLines(3));
    pool.granted();
    pool.wait(600_000);
    expect(pool.requested).toEqual([]);
  });

  test.each([
    ["119 s old is kept, since another worker has just had it fetched", 119_000, "kept", 1000],
    ["just under two minutes old is kept", 119_999, "kept", 1],
    ["121 s old is fetched anew, at once", 121_000, "refreshing", 15_000],
  ] as const)("%s", (_title, ageMs, action, retryAfterMs) => {
    const pool = new TokenPool({ scope }, noRate);
    const [id] = pool.add(proxyLines(1));
    const tokenId = pool.begun();
    pool.wait(ageMs);
    expect(pool.reject(tokenId)).toMatchObject({ action, tokenId });
    expect(pool.requested).toHaveLength(action === "kept" ? 1 : 2);
    if (action === "kept") {
      expect(pool.reject(tokenId).retryAfterMs).toBe(retryAfterMs);
      expect(pool.facts).toEqual([
        {
          type: "TokenRejected",
          tokenId,
          ...(scope === "proxy" ? { proxyId: id } : {}),
          token: "fresh",
          action: "kept",
          mintedAt: pool.at - ageMs,
          keptUntil: pool.at + retryAfterMs,
          count: 1,
        },
      ]);
      expect(isRefusal(pool.lease({ token: true }))).toBe(false);
    } else {
      expect(pool.facts.map(({ type }) => type)).toEqual(["TokenRejected", "LeaseGranted", "TokenRequested"]);
      expect(pool.reject(tokenId)).toEqual({ action: "refreshing", tokenId });
      expect(tokenDueAt(pool.state, pool.candidates, scope === "pool" ? poolKey : id!) - pool.at).toBe(retryAfterMs);
      expect(pool.requested).toHaveLength(2);
      expect(pool.refused({ token: true }).code).toBe("token-unavailable");
    }
  });

  test("ignores and records the rejection of an old or unknown one", () => {
    const pool = new TokenPool({ scope }, noRate);
    const [id] = pool.add(proxyLines(1));
    const old = pool.begun();
    pool.wait(121_000);
    pool.reject(old);
    const current = pool.minted();
    pool.wait(121_000);
    expect(pool.reject(old, id)).toEqual({ action: "ignored", tokenId: current });
    expect(pool.facts).toMatchObject([{ type: "TokenRejected", tokenId: old, action: "ignored", count: 1 }]);
    expect(pool.reject("a token's own value", id)).toEqual({ action: "ignored", tokenId: current });
    expect(JSON.stringify(pool.facts)).not.toContain("value");
    expect(pool.requested).toHaveLength(2);
    expect(pool.reject("t_0000000000000000000000").action).toBe("ignored");
    expect(pool.requested).toHaveLength(2);
  });

  test("is fetched again after it runs out only on request", () => {
    const pool = new TokenPool({ scope }, noRate);
    pool.add(proxyLines(1));
    pool.begun(60_000);
    pool.wait(59_999);
    pool.release(pool.granted({ token: true }), 1);
    pool.wait(1);
    expect(pool.requested).toHaveLength(1);
    expect(pool.refused({ token: true }).code).toBe("token-unavailable");
    expect(pool.requested[1]).toMatchObject({ why: "expired" });
  });

  test("is fetched ahead of its end if the policy says so, and given meanwhile", () => {
    const pool = new TokenPool({ scope, refreshAheadMs: 10_000 }, noRate);
    pool.add(proxyLines(1));
    const first = pool.begun(60_000);
    pool.wait(49_999);
    expect(pool.requested).toHaveLength(1);
    pool.wait(1);
    expect(pool.requested[1]).toMatchObject({ why: "ahead" });
    const lease = pool.granted({ token: true });
    expect(pool.state.leases.get(lease.leaseId)?.token?.tokenId).toBe(first);
    const second = pool.minted(60_000);
    expect(pool.state.leases.get(pool.granted({ token: true }).leaseId)?.token?.tokenId).toBe(second);
  });

  test("is still given until it runs out when a refresh ahead of its end fails", () => {
    const pool = new TokenPool({ scope, refreshAheadMs: 10_000, retry: { baseMs: 20_000, jitterShare: 0 } }, noRate);
    const [id] = pool.add(proxyLines(1));
    pool.begun(60_000);
    pool.wait(50_000);
    pool.failed();
    expect(pool.facts.at(-1)).toMatchObject({ type: "TokenRefused", token: "fresh", why: "status", failures: 1 });
    pool.release(pool.granted({ token: true }));
    pool.wait(9999);
    pool.release(pool.granted({ token: true }));
    pool.wait(1);
    expect(pool.refused({ token: true })).toMatchObject({ code: "token-unavailable", retryAfterMs: 10_000 });
    expect(pool.token(scope === "pool" ? "pool" : id)?.state).toBe("fresh");
  });

  test("backs off longer with each failure, with jitter, and becomes unavailable after the set number", () => {
    const retry = { baseMs: 1000, maxMs: 3000, jitterShare: 0.5 };
    const pool = new TokenPool({ scope, retry, unavailableAfter: 3 }, noRate);
    pool.add(proxyLines(1));
    const states: string[] = [];
    for (const baseMs of [1000, 2000, 3000, 3000]) {
      expect(pool.refused({ token: true }).code).toBe("token-unavailable");
      pool.failed("timeout");
      const refused = pool.facts.find((event) => event.type === "TokenRefused")!;
      states.push(refused.token);
      const pause = refused.retryAt - pool.at;
      expect(pause).toBeGreaterThanOrEqual(baseMs);
      expect(pause).toBeLessThanOrEqual(baseMs * 1.5);
      const before = pool.requested.length;
      expect(pool.refused({ token: true }).retryAfterMs).toBe(pause);
      pool.wait(pause - 1);
      expect(pool.refused({ token: true })).toMatchObject({ code: "token-unavailable", retryAfterMs: 1 });
      expect(pool.requested).toHaveLength(before);
      pool.wait(1);
    }
    expect(states).toEqual(["missing", "missing", "unavailable", "unavailable"]);
    pool.refused({ token: true });
    pool.minted();
    expect(isRefusal(pool.lease({ token: true }))).toBe(false);
  });

  test("is requested again when its deadline passes without a result, not before", () => {
    const pool = new TokenPool({ scope, deadlineMs: 10_000, retry: { jitterShare: 0 } }, noRate);
    pool.add(proxyLines(1));
    pool.ask({ token: true });
    const [first] = pool.requested;
    pool.wait(9999);
    expect(pool.requested).toHaveLength(1);
    pool.wait(1);
    expect(pool.facts).toMatchObject([]);
    pool.wait(999);
    expect(pool.requested).toHaveLength(1);
    pool.wait(1);
    expect(pool.requested).toHaveLength(2);
    // A result that comes after all is too late. It must not be taken for that of the second refresh.
    pool.minted(undefined, first);
    expect(pool.fetching).toEqual([pool.requested[1]]);
    pool.minted();
    expect(pool.served).toHaveLength(1);
  });

  test("is refreshed in the commit of the outcome that rejects it, and the proxy counts as good", () => {
    const pool = new TokenPool({ scope }, noRate);
    const [id] = pool.add(proxyLines(1));
    const tokenId = pool.begun();
    pool.wait(121_000);
    const lease = pool.granted({ token: true });
    const score = pool.proxy(id!).score;
    pool.report(lease, { status: 401, tokenRejected: true });
    expect(pool.facts.map(({ type }) => type)).toEqual([
      "UseReported",
      "TokenRejected",
      "LeaseClosed",
      "LeaseGranted",
      "TokenRequested",
    ]);
    expect(pool.facts[1]).toMatchObject({ tokenId, action: "refreshing", token: "stale" });
    expect(pool.proxy(id!)).toMatchObject({ score: score + 1, state: "in-use" });
    pool.minted();
    // The other leases, which carry the same token.
    const other = pool.granted({ token: true, uses: 3 });
    pool.report(other, { n: 1, status: 401, tokenRejected: true, tokenId });
    expect(pool.facts.at(-1)).toMatchObject({ tokenId, action: "ignored", count: 1 });
    pool.report(other, { n: 2, status: 401, tokenRejected: true });
    expect(pool.facts.at(-1)).toMatchObject({ action: "kept", count: 1 });
    expect(pool.requested).toHaveLength(2);
  });

  test("makes one refresh and two events of five hundred rejections at once", () => {
    const pool = new TokenPool({ scope }, { ...noRate, concurrency: null });
    pool.add(proxyLines(1));
    const tokenId = pool.begun();
    const leases = Array.from({ length: 5 }, () => pool.granted({ token: true, uses: 100, ttlMs: 600_000 }));
    pool.wait(121_000);
    pool.turn((turn) => {
      for (const { leaseId } of leases)
        for (let n = 1; n <= 100; n++) ingest(turn, { leaseId, n, status: 401, tokenRejected: true }, turn.at);
    });
    expect(pool.types().filter((type) => type === "UseReported")).toHaveLength(500);
    expect(pool.requested).toHaveLength(2);
    const minted = pool.minted();
    expect(minted).not.toBe(tokenId);
    expect(pool.reject(tokenId).action).toBe("ignored");
    expect(pool.requested).toHaveLength(2);
  });

  test("is not fetched in the remainder of the turn in which the pool is closed, nor later", () => {
    const pool = new TokenPool({ scope, minAgeMs: 0 });
    pool.add(proxyLines(1));
    const tokenId = pool.begun();
    pool.turn((turn) => {
      close(turn, { drain: false });
      expect(reject(turn, { tokenId }).action).toBe("refreshing");
    });
    pool.wait(60_000);
    expect(pool.requested).toHaveLength(1);
  });

  test("is dropped by a policy without a source, and waiting requests are answered", () => {
    const pool = new TokenPool({ scope });
    pool.add(proxyLines(1));
    pool.ask({ token: true });
    pool.policy({ token: null });
    pool.wait(0);
    expect(pool.queue).toEqual([]);
    expect(pool.refused({ token: true }).code).toBe("no-token-source");
    pool.wait(60_000);
    expect(pool.requested).toHaveLength(1);
    expect(pool.state.tokens.size).toBe(0);
  });

  describe("no deadlock", () => {
    test("serves the refresh first, then the request, with one proxy that takes one lease", () => {
      const pool = new TokenPool({ scope }, { ...noRate, concurrency: 1 });
      pool.add(proxyLines(1));
      pool.ask({ token: true });
      expect(pool.fetching).toHaveLength(1);
      pool.minted();
      expect(pool.served).toHaveLength(1);
    });

    test("serves the refresh before the queue, then the requests in turn, with one proxy leased by waiting clients", () => {
      const pool = new TokenPool({ scope }, { ...noRate, concurrency: 1 });
      pool.add(proxyLines(1));
      const first = pool.granted();
      pool.ask({ holder: "earlier" });
      pool.ask({ token: true, holder: "token" });
      pool.ask({ holder: "later" });
      expect(pool.requested).toEqual([]);
      pool.release(first);
      expect(pool.fetching).toHaveLength(1);
      expect(pool.served).toEqual([]);
      pool.minted();
      const holders = () => pool.served.map(({ waiter }) => waiter.request.holder);
      expect(holders()).toEqual(["earlier"]);
      const last = () => [...pool.state.leases.values()].at(-1)!;
      pool.release({ leaseId: last().id });
      pool.release({ leaseId: last().id });
      expect(holders()).toEqual(["earlier", "token", "later"]);
    });

    test("refuses with the time of the first leasable proxy while all rest, then refreshes", () => {
      const pool = new TokenPool({ scope }, noRate);
      const ids = pool.add(proxyLines(2));
      for (const [i, id] of ids.entries()) pool.rest(id, 10_000 + i * 1000);
      expect(pool.refused({ token: true })).toMatchObject({
        code: "pool-exhausted",
        retryAfterMs: 10_000,
        limitedBy: { rest: 2 },
      });
      pool.ask({ token: true });
      pool.wait(9999);
      expect(pool.requested).toEqual([]);
      pool.wait(1);
      expect(pool.fetching).toHaveLength(1);
      pool.minted();
      expect(pool.served).toHaveLength(1);
    });

    test("gives the refresh the only use of a window, and the request the next", () => {
      const pool = new TokenPool({ scope }, { rate: { limit: 1, windowMs: 5000 } });
      pool.add(proxyLines(1));
      pool.ask({ token: true });
      pool.minted();
      expect(pool.served).toEqual([]);
      expect(pool.refused({ token: true })).toMatchObject({ code: "pool-exhausted", retryAfterMs: 5101 });
      pool.wait(5101);
      expect(pool.served).toHaveLength(1);
    });

    test("lets no request wait beyond its time, whatever the result of the refresh", () => {
      const pool = new TokenPool({ scope }, noRate);
      pool.add(proxyLines(1));
      pool.ask({ token: true, waitMs: 1000 });
      expect(pool.waiting?.overdue(pool.at + 999)).toBeUndefined();
      expect(pool.waiting?.overdue(pool.at + 1000)).toMatchObject({ deadline: pool.at + 1000 });
      expect(pool.waiting?.wakeAt()).toBe(pool.at + 1000);
    });

    test("holds no request up when a proxy is retired while its token is fetched", () => {
      const pool = new TokenPool({ scope }, noRate);
      const [one] = pool.add(proxyLines(1));
      pool.ask({ token: true });
      pool.retire(one!);
      pool.add(["192.0.2.77:8080"]);
      if (scope === "pool") pool.minted();
      else {
        expect(pool.fetching).toHaveLength(2);
        pool.minted(undefined, pool.fetching[1]);
      }
      expect(pool.served).toHaveLength(1);
    });
  });
});

describe("tokens of proxies", () => {
  test("are given only with the proxy that they were minted for", () => {
    const pool = new TokenPool({}, { ...noRate, concurrency: 1 });
    const ids = pool.add(proxyLines(3));
    pool.ask({ token: true });
    pool.ask({ token: true });
    const [a, b] = pool.fetching;
    expect(new Set([a?.proxyId, b?.proxyId]).size).toBe(2);
    pool.minted(undefined, b);
    expect(pool.served.map(({ proxyId }) => proxyId)).toEqual([b?.proxyId]);
    pool.minted(undefined, a);
    for (const lease of pool.state.leases.values()) {
      const token = lease.token?.tokenId;
      expect(token).toBe(lease.proxy.id === a?.proxyId ? a?.tokenId : b?.tokenId);
    }
    expect(ids).toContain(a?.proxyId);
  });

  test("are refreshed as many times as requests wait, and no more", () => {
    const pool = new TokenPool({}, noRate);
    pool.add(proxyLines(10));
    for (let i = 0; i < 4; i++) pool.ask({ token: true });
    expect(pool.fetching).toHaveLength(4);
    for (let i = 0; i < 20; i++) pool.refused({ token: true });
    expect(pool.fetching).toHaveLength(4);
  });

  test("are fetched for another proxy when one proxy's token is unavailable", () => {
    const pool = new TokenPool({ retry: { baseMs: 60_000 } }, noRate);
    pool.add(proxyLines(2));
    pool.ask({ token: true });
    const [first] = pool.fetching;
    pool.failed();
    pool.wait(0);
    expect(pool.fetching).toHaveLength(1);
    expect(pool.fetching[0]?.proxyId).not.toBe(first?.proxyId);
    pool.minted();
    expect(pool.served).toHaveLength(1);
  });

  test("are fetched for the proxy of a session whose request waits", () => {
    const pool = new TokenPool({}, { ...noRate, concurrency: null });
    pool.add(proxyLines(2));
    const [, second] = pool.add(["192.0.2.50:1", "192.0.2.51:1"]);
    const lease = pool.granted({ session: "s", labels: {}, exclude: [] });
    pool.ask({ session: "s", token: true });
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([lease.proxyId]);
    pool.minted();
    expect(pool.served.map(({ proxyId }) => proxyId)).toEqual([lease.proxyId]);
    expect(second).toBeDefined();
    expect(pool.state.askedFor.size).toBe(0);
  });

  test("are of use only with the labels, and if not excluded", () => {
    const pool = new TokenPool({}, noRate);
    const [plain] = pool.add(proxyLines(1));
    const [de] = pool.add(["192.0.2.60:1"], { labels: { country: "DE" } });
    pool.ask({ token: true, labels: { country: "DE" } });
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([de]);
    pool.ask({ token: true, exclude: [de!] });
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([de, plain]);
  });
});

describe("the pool's token", () => {
  test("is refused to all waiting requests after too many failures, with the retry time", () => {
    const pool = new TokenPool({ ...ofPool, retry: { baseMs: 5000, jitterShare: 0 }, unavailableAfter: 1 }, noRate);
    pool.add(proxyLines(1));
    pool.ask({ token: true });
    pool.ask({ token: true, labels: {} });
    pool.failed();
    pool.wait(0);
    expect(pool.queue).toEqual([]);
    expect(pool.refused({ token: true })).toMatchObject({ code: "token-unavailable", retryAfterMs: 5000 });
  });
});

test("never overlaps refreshes, replays as live, and serves every lease request that can be served", () => {
  const step = fc.record({
    what: fc.constantFrom(
      "ask",
      "ask",
      "plain",
      "mint",
      "mint",
      "fail",
      "reject",
      "wait",
      "release",
      "rest",
      "retire",
      "rejected",
    ),
    n: fc.nat(50),
    ms: fc.integer({ min: 0, max: 20_000 }),
    token: fc.boolean(),
  });
  const scopes = fc.constantFrom("pool", "proxy");
  fc.assert(
    fc.property(
      scopes,
      fc.integer({ min: 1, max: 4 }),
      fc.nat(2),
      fc.array(step, { maxLength: 60 }),
      (scope, size, per, steps) => {
        const pool = new TokenPool(
          { scope, minAgeMs: 5000, refreshAheadMs: 2000, unavailableAfter: 2, deadlineMs: 10_000 },
          { rate: { limit: 4, windowMs: 5000 }, concurrency: per + 1, usage: { limit: 20, restMs: 3000 } },
        );
        const ids = pool.add(proxyLines(size));
        for (const { what, n, ms, token } of steps) {
          const lease = [...pool.state.leases.keys()][n];
          const id = ids[n % ids.length]!;
          const request = pool.fetching[n % Math.max(1, pool.fetching.length)];
          if (what === "ask")
            pool.ask({ token: true, session: n % 5 === 0 ? "s" : undefined, exclude: n % 7 === 0 ? [id] : undefined });
          else if (what === "plain") pool.ask({});
          else if (what === "mint" && request !== undefined) pool.minted(token ? 1000 + ms : undefined, request);
          else if (what === "fail" && request !== undefined) pool.failed("status", request);
          else if (what === "reject") pool.reject(pool.requested[n]?.tokenId ?? "t_nobody", id);
          else if (what === "release" && lease !== undefined) pool.release({ leaseId: lease }, 0);
          else if (what === "rejected" && lease !== undefined)
            pool.report({ leaseId: lease }, { status: 401, tokenRejected: true });
          else if (what === "rest") pool.rest(id, 1 + ms);
          else if (what === "retire" && n % 10 === 0) pool.retire(id);
          else pool.wait(ms);
        }
      },
    ),
    { numRuns: 30 },
  );
});
