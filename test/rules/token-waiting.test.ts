// Requests that wait for a token while something else changes: their session's proxy, the pool's token, the policy.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isRefusal } from "../../protocol/refusal.ts";
import { ingest } from "../../state-machines/decide/report.ts";
import { refreshOf, refuseRefresh } from "../../state-machines/decide/token.ts";
import { proxyLines } from "../kit/pool.ts";
import { TokenPool } from "../kit/token-pool.ts";

const noRate = { rate: null } as const;
const retry = { baseMs: 1000, maxMs: 60_000, jitterShare: 0 };

describe("a lease request whose session is bound to a proxy that is leased", () => {
  /** Both wait for the token of the first proxy. It cannot be fetched while that proxy is leased. */
  const waiting = () => {
    const pool = new TokenPool({}, { ...noRate, concurrency: 1 });
    const [bound] = pool.add(proxyLines(1));
    pool.granted({ session: "s", ttlMs: 50_000 });
    const [other] = pool.add(["192.0.2.50:1"]);
    for (let i = 0; i < 2; i++) pool.ask({ session: "s", token: true });
    expect(pool.requested).toEqual([]);
    return { pool, bound: bound!, other: other! };
  };

  test.each<[string, (pool: TokenPool, bound: string) => void]>([
    ["is retired", (pool, bound) => pool.retire(bound)],
    ["rests for longer than the session is patient", (pool, bound) => pool.rest(bound, 40_000)],
  ])("has another proxy's token fetched when its own proxy %s", (_title, leave) => {
    const { pool, bound, other } = waiting();
    leave(pool, bound);
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([other]);
    pool.minted();
    expect(pool.served.map(({ proxyId }) => proxyId)).toEqual([other]);
  });

  test("has no token fetched through other proxies once it is bound again", () => {
    const pool = new TokenPool({ retry: { ...retry, baseMs: 60_000 } }, noRate);
    const [first] = pool.add(proxyLines(1));
    pool.ask({ session: "s", token: true });
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([first]);
    pool.failed();
    expect(pool.granted({ session: "s" }).proxyId).toBe(first);
    pool.add(["192.0.2.50:1"]);
    expect(pool.fetching).toEqual([]);
    pool.wait(59_999);
    expect(pool.fetching).toEqual([]);
    pool.wait(1);
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([first]);
  });
});

describe("the pool's token is unavailable", () => {
  const backoff = { kind: "fixed", restMs: 30_000, jitterMs: 0 } as const;

  test("gives the later of two times: the next fetch, and a proxy for it", () => {
    const pool = new TokenPool({ scope: "pool", retry, unavailableAfter: 1 }, { ...noRate, backoff });
    pool.add(proxyLines(1));
    pool.ask({ token: true });
    const [request] = pool.fetching;
    pool.turn((turn) => {
      ingest(turn, { leaseId: request!.leaseId, n: 1, error: "ECONNREFUSED" }, turn.at);
      refuseRefresh(turn, refreshOf(turn.state, request!.tokenId)!, { why: "unreachable" });
    });
    const asked = pool.refused({ token: true });
    expect(asked).toMatchObject({ code: "pool-exhausted", retryAfterMs: 30_000 });
    expect(pool.served.map(({ refusal }) => refusal)).toEqual([asked]);
    pool.wait(29_999);
    pool.refused({ token: true });
    expect(pool.requested).toHaveLength(1);
    pool.wait(1);
    pool.refused({ token: true });
    expect(pool.requested).toHaveLength(2);
  });
});

describe("a proxy with too few uses left in its usage quota after the policy was tightened", () => {
  const usage = { limit: 10, restMs: 5000 };

  test("is found at the end of its rest by a request that needs its token, and is not due for ever", () => {
    const pool = new TokenPool({}, { ...noRate, usage });
    pool.add(proxyLines(1));
    for (let i = 0; i < 7; i++) pool.report(pool.granted({ session: "s" }), { status: 200 });
    pool.policy({ usage: { ...usage, limit: 5 } });
    const request = { session: "s", token: true };
    const told = pool.refused(request);
    expect(told).toMatchObject({ code: "pool-exhausted", retryAfterMs: 5000, limitedBy: { rest: 1 } });
    pool.wait(5000);
    expect(pool.refused(request)).toMatchObject({ code: "token-unavailable" });
    expect(pool.fetching).toHaveLength(1);
    pool.minted();
    expect(isRefusal(pool.lease(request))).toBe(false);
  });
});

test("gives the time of the one proxy that a request names, not of any other", () => {
  const pool = new TokenPool({}, noRate);
  const [a] = pool.add(proxyLines(2));
  pool.rest(a!, 30_000);
  expect(pool.refused({ proxyId: a, token: true })).toMatchObject({
    code: "pool-exhausted",
    retryAfterMs: 30_000,
    limitedBy: { rest: 1 },
  });
  expect(pool.requested).toEqual([]);
  pool.wait(30_000);
  pool.refused({ proxyId: a, token: true });
  expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([a]);
});

test("ignores a rejection of the pool's former token once each proxy has its own, though its refresh goes on", () => {
  const pool = new TokenPool({ scope: "pool", minAgeMs: 0, refreshAheadMs: 10_000 }, noRate);
  pool.add(proxyLines(1));
  const tokenId = pool.begun(60_000);
  pool.wait(50_000);
  expect(pool.fetching).toHaveLength(1);
  pool.policy({ token: { scope: "proxy" } });
  expect(pool.reject(tokenId)).toEqual({ action: "ignored", tokenId });
  pool.minted();
  expect(pool.state.tokens.size).toBe(0);
});

test("lets no request wait for a token while a suitable one could be fetched and is not", () => {
  const step = fc.record({
    what: fc.constantFrom(
      ...["ask", "ask", "ask", "ask", "now", "plain", "mint", "mint", "fail", "reject", "rejected", "wait", "wait"],
      ...["release", "rest", "revive", "retire", "add", "scope", "usage"],
    ),
    n: fc.nat(50),
    m: fc.nat(50),
    ms: fc.integer({ min: 0, max: 12_000 }),
  });
  fc.assert(
    fc.property(
      fc.constantFrom("pool", "proxy"),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 3 }),
      fc.array(step, { maxLength: 60 }),
      (firstScope, size, concurrency, steps) => {
        let scope = firstScope;
        const usage = { limit: 12, restMs: 3000 };
        const pool = new TokenPool(
          { scope, minAgeMs: 3000, refreshAheadMs: 2000, unavailableAfter: 2, deadlineMs: 10_000 },
          { rate: { limit: 4, windowMs: 5000 }, concurrency, usage, session: { ttlMs: 8000, patienceMs: 2000 } },
        );
        const lines = proxyLines(size);
        const ids = pool.add(lines);
        for (const { what, n, m, ms } of steps) {
          const lease = [...pool.state.leases.keys()][n];
          const id = ids[n % ids.length]!;
          const refresh = pool.fetching[n % Math.max(1, pool.fetching.length)];
          const session = n % 3 === 0 ? undefined : `s${m % 2}`;
          const labels = m % 8 === 0 ? { country: "DE" } : undefined;
          const request = {
            token: true,
            session,
            labels,
            exclude: m % 5 === 0 ? [id] : [],
            uses: 3,
            minUses: 1 + (m % 3),
          };
          if (what === "ask") pool.ask(request);
          else if (what === "now") pool.lease(request);
          else if (what === "plain") pool.ask({ session });
          else if (what === "mint" && refresh !== undefined) pool.minted(m % 2 === 0 ? 1000 + ms : undefined, refresh);
          else if (what === "fail" && refresh !== undefined) pool.failed("status", refresh);
          else if (what === "reject") pool.reject(pool.requested[n]?.tokenId ?? "t_nobody", id);
          else if (what === "release" && lease !== undefined) pool.release({ leaseId: lease }, 0);
          else if (what === "rejected" && lease !== undefined)
            pool.report({ leaseId: lease }, { n: 1, status: 401, tokenRejected: true });
          else if (what === "rest") pool.rest(id, 1 + ms);
          else if (what === "revive") pool.revive(id);
          else if (what === "retire" && m % 3 === 0) pool.retire(id);
          else if (what === "add") pool.add([lines[n % size]!], m % 2 === 0 ? { labels: { country: "DE" } } : {});
          else if (what === "scope" && m % 4 === 0) {
            scope = scope === "pool" ? "proxy" : "pool";
            pool.policy({ token: { scope } });
          } else if (what === "usage" && m % 4 === 0) pool.policy({ usage: { limit: 6 + (n % 10), restMs: 3000 } });
          else pool.wait(ms);
        }
      },
    ),
    { numRuns: 100 },
  );
});
