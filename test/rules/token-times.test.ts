// When a request without a token is told to retry, and the effect of a rejection while refreshes fail.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { reject } from "../../state-machines/decide/token.ts";
import { leasableAt } from "../../state-machines/rules/exit.ts";
import { proxyLines } from "../kit/pool.ts";
import { TokenPool } from "../kit/token-pool.ts";

const noRate = { rate: null } as const;
const retry = { baseMs: 1000, maxMs: 60_000, jitterShare: 0 };

describe("several proxies' tokens back off at once", () => {
  test("gives the first token that can be had, not the first whose pause ends", () => {
    const pool = new TokenPool({ retry }, noRate);
    const [a] = pool.add(proxyLines(2));
    pool.refused({ token: true });
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([a]);
    pool.failed();
    pool.rest(a!, 60_000);
    pool.wait(500);
    pool.refused({ token: true });
    pool.failed();
    expect(pool.refused({ token: true })).toMatchObject({ code: "token-unavailable", retryAfterMs: 1000 });
    pool.wait(999);
    expect(pool.requested).toHaveLength(2);
    pool.refused({ token: true });
    expect(pool.requested).toHaveLength(2);
    pool.wait(1);
    pool.refused({ token: true });
    expect(pool.requested).toHaveLength(3);
  });

  test("does not count proxies that the request excludes", () => {
    const pool = new TokenPool({ retry }, noRate);
    const [a] = pool.add(proxyLines(2));
    pool.refused({ token: true });
    pool.failed();
    pool.wait(700);
    pool.refused({ token: true });
    pool.failed();
    expect(pool.refused({ token: true })).toMatchObject({ retryAfterMs: 300 });
    expect(pool.refused({ token: true, exclude: [a] })).toMatchObject({
      code: "token-unavailable",
      retryAfterMs: 1000,
    });
  });

  test("fetches another proxy's token for a request that excludes the proxy whose token is being fetched", () => {
    const pool = new TokenPool({}, noRate);
    const [a, b] = pool.add(proxyLines(2));
    pool.refused({ token: true });
    pool.wait(100);
    expect(pool.refused({ token: true, exclude: [a] })).toMatchObject({ retryAfterMs: 15_000 });
    expect(pool.fetching.map(({ proxyId }) => proxyId)).toEqual([a, b]);
    pool.refused({ token: true, exclude: [a] });
    pool.refused({ token: true });
    expect(pool.fetching).toHaveLength(2);
  });

  test("gives the first instant at which any of them could be leased, whatever happened before", () => {
    const step = fc.record({
      what: fc.constantFrom("ask", "ask", "ask", "fail", "fail", "mint", "wait", "rest", "lease"),
      n: fc.nat(20),
      ms: fc.integer({ min: 1, max: 6000 }),
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 40 }), (size, steps) => {
        const pool = new TokenPool(
          { retry: { ...retry, maxMs: 8000, jitterShare: 0.5 }, deadlineMs: 10_000 },
          { rate: { limit: 3, windowMs: 4000 }, concurrency: 2 },
        );
        const ids = pool.add(proxyLines(size));
        for (const { what, n, ms } of steps) {
          const request = pool.fetching[n % Math.max(1, pool.fetching.length)];
          const id = ids[n % ids.length]!;
          const exclude = n % 3 === 0 ? [id] : [];
          if (what === "ask") {
            const answer = pool.lease({ token: true, exclude });
            if (!("code" in answer) || answer.retryAfterMs === 60_000) continue;
            expect(answer.retryAfterMs, answer.code).toBe(earliest(pool, exclude) - pool.at);
          } else if (what === "fail" && request !== undefined) pool.failed("status", request);
          else if (what === "mint" && request !== undefined) pool.minted(n % 2 === 0 ? ms : undefined, request);
          else if (what === "rest") pool.rest(id, ms);
          else if (what === "lease") pool.lease({ ttlMs: 1000 + ms });
          else pool.wait(ms);
        }
      }),
      { numRuns: 60 },
    );
  });

  /** A scan of all proxies. While a token is fetched for such requests, no other is. */
  function earliest(pool: TokenPool, exclude: readonly string[]): number {
    const { state } = pool;
    const proxies = [...state.proxies.values()].filter(({ id }) => !exclude.includes(id));
    const isGood = (id: string): boolean => {
      const token = state.tokens.get(id);
      if (token === undefined || token.tokenId === "" || token.rejected) return false;
      return token.expiresAt === 0 || token.expiresAt > pool.at;
    };
    const refreshOf = (id: string) => (isGood(id) ? null : (state.tokens.get(id)?.refresh ?? null));
    const isFetching = proxies.some(({ id }) => refreshOf(id) !== null);
    const times = proxies.map((proxy) => {
      const token = state.tokens.get(proxy.id);
      if (refreshOf(proxy.id) !== null) return token!.deadlineAt;
      if (isFetching && !isGood(proxy.id)) return Infinity;
      return Math.max(isGood(proxy.id) ? 0 : (token?.retryAt ?? 0), leasableAt(state, proxy, 1));
    });
    return Math.max(pool.at + 1, Math.min(...times));
  }
});

describe.each(["pool", "proxy"] as const)("a late rejection of an unavailable token of the %s", (scope) => {
  test("fetches it once after its pause if it was rejected before, whether or not a request waits", () => {
    const pool = new TokenPool({ scope, minAgeMs: 0, retry, unavailableAfter: 1 }, noRate);
    const [id] = pool.add(proxyLines(1));
    const tokenId = pool.begun();
    pool.reject(tokenId);
    pool.failed();
    pool.wait(60_000);
    expect(pool.requested).toHaveLength(2); // No request waits for it.
    expect(pool.reject(tokenId)).toEqual({ action: "refreshing", tokenId });
    expect(pool.requested).toHaveLength(3);
    pool.failed();
    const key = scope === "pool" ? undefined : id;
    expect(pool.token(key)?.state).toBe("unavailable");
    // Within the pause: at its end.
    for (let i = 0; i < 5; i++) expect(pool.reject(tokenId).action).toBe("refreshing");
    pool.wait(1999);
    expect(pool.requested).toHaveLength(3);
    pool.wait(1);
    expect(pool.requested).toHaveLength(4);
    pool.failed();
    pool.wait(600_000);
    expect(pool.requested).toHaveLength(4);
  });

  test("fetches one that has only run out in the same way", () => {
    const pool = new TokenPool({ scope, retry, unavailableAfter: 1 }, noRate);
    pool.add(proxyLines(1));
    const tokenId = pool.begun(200_000);
    pool.wait(200_000);
    pool.refused({ token: true });
    pool.failed();
    expect(pool.reject(tokenId).action).toBe("refreshing");
    pool.wait(999);
    expect(pool.requested).toHaveLength(2);
    pool.wait(1);
    expect(pool.requested).toHaveLength(3);
    expect(pool.reject(tokenId).action).toBe("refreshing");
    pool.failed();
    pool.wait(600_000);
    expect(pool.requested).toHaveLength(3);
  });

  test("is an event of its own if it changes something, and is only counted otherwise", () => {
    const pool = new TokenPool({ scope, minAgeMs: 0, retry, unavailableAfter: 1 }, noRate);
    pool.add(proxyLines(1));
    const tokenId = pool.begun();
    pool.reject(tokenId);
    pool.failed();
    pool.turn((turn) => reject(turn, { tokenId }));
    expect(pool.facts).toMatchObject([{ type: "TokenRejected", tokenId, token: "stale", action: "refreshing" }]);
    expect(pool.facts[0]).not.toHaveProperty("count");
    pool.turn((turn) => reject(turn, { tokenId }));
    expect(pool.facts).toMatchObject([{ type: "TokenRejected", tokenId, count: 1, action: "refreshing" }]);
  });
});
