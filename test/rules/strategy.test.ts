import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { grant, release } from "../../state-machines/decide/lease.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const pick = (strategy: object, more: object = {}) => new TestPool({ ...free, strategy, ...more });

/** Leases a proxy and reports a success at once. Returns the id of the proxy. */
function use(pool: TestPool, request: object = {}): string {
  const lease = pool.granted({ ...request });
  pool.report(lease, { status: 200 });
  return lease.proxyId;
}

const uses = (pool: TestPool, count: number, request: object = {}): string[] =>
  Array.from({ length: count }, () => use(pool, request));

/** The recorded reason of the last grant's choice. */
function recorded(pool: TestPool): unknown {
  const granted = pool.facts.find((event) => event.type === "LeaseGranted");
  return granted?.type === "LeaseGranted" ? { strategy: granted.strategy, ranked: granted.ranked } : undefined;
}

describe("least-used", () => {
  const rate = { rate: { limit: 10, windowMs: 1000 }, marginMs: 0 };

  test("takes the fewest uses in the window, then the least recently used, never used ones first", () => {
    const pool = pick({ kind: "least-used" }, rate);
    const [a, b, c] = pool.add(proxyLines(3));
    pool.report(pool.granted({ uses: 2, exclude: [b, c] }), { n: 2, status: 200, final: true });
    expect([pool.granted().proxyId, recorded(pool)]).toEqual([
      b,
      { strategy: "least-used", ranked: { usesInWindow: 0, lastUsedAt: 0 } },
    ]);
    expect(uses(pool, 3)).toEqual([c, b, c]);
    expect(use(pool)).toBe(a);
  });

  test("follows the window as it slides without any event", () => {
    const pool = pick({ kind: "least-used" }, rate);
    const [a, b] = pool.add(proxyLines(2));
    expect(uses(pool, 3, { exclude: [b] })).toEqual([a, a, a]);
    pool.wait(500);
    expect(uses(pool, 2)).toEqual([b, b]);
    // The three of the first run out one window after their reports; the two of the second are still counted.
    pool.wait(500);
    expect(pool.granted().proxyId).toBe(b);
    pool.wait(1);
    expect(uses(pool, 3)).toEqual([a, a, a]);
  });

  test("prefers a proxy whose uses have run out to one with few, though no event has touched it since", () => {
    const pool = pick({ kind: "least-used" }, rate);
    const [a, b] = pool.add(proxyLines(2));
    uses(pool, 3, { exclude: [b] });
    pool.wait(500);
    expect(use(pool, { exclude: [a] })).toBe(b);
    pool.refused({ labels: { country: "none" } });
    pool.wait(501);
    expect([pool.proxy(a!).usesInWindow, pool.proxy(b!).usesInWindow]).toEqual([0, 1]);
    expect(use(pool)).toBe(a);
  });

  test("counts by exit, and takes the least recently used proxy of an exit", () => {
    const pool = pick({ kind: "least-used" }, rate);
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    const [c] = pool.add(proxyLines(1, 9));
    expect(uses(pool, 4)).toEqual([a, c, b, c]);
  });

  test("takes the least recently used, with a policy warning, if there is no rate and so no window", () => {
    const pool = pick({ kind: "least-used" });
    const ids = pool.add(proxyLines(2));
    expect(uses(pool, 3)).toEqual([ids[0], ids[1], ids[0]]);
    expect(pool.policy({ usage: null })).toMatchObject({ warnings: [expect.stringContaining("least-used")] });
  });
});

describe("least-connections", () => {
  test("takes the fewest open leases, then the least recently used", () => {
    const pool = pick({ kind: "least-connections" });
    const [a, b, c] = pool.add(proxyLines(3));
    const leases = [1, 2, 3, 4].map(() => pool.granted());
    expect(leases.map(({ proxyId }) => proxyId)).toEqual([a, b, c, a]);
    expect(recorded(pool)).toEqual({
      strategy: "least-connections",
      ranked: { openLeases: 1, openLeasesOwn: 1, lastUsedAt: pool.at },
    });
    pool.release(leases[2]!);
    expect(pool.granted().proxyId).toBe(c);
    expect([pool.granted().proxyId, pool.granted().proxyId]).toEqual([b, c]);
  });

  test("no longer counts an expired lease as open", () => {
    const pool = pick({ kind: "least-connections" }, { lease: { ttlMs: 1000 } });
    const [a, b] = pool.add(proxyLines(2));
    pool.granted({ ttlMs: 100 });
    pool.granted();
    pool.wait(100);
    expect([pool.granted().proxyId, pool.granted().proxyId, pool.granted().proxyId]).toEqual([a, b, a]);
  });

  test("prefers the proxy of an exit with fewer leases of its own, though it was used later", () => {
    const pool = pick({ kind: "least-connections" });
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    const [first, second] = [pool.granted(), pool.granted()];
    expect([first.proxyId, second.proxyId]).toEqual([a, b]);
    pool.release(second);
    expect(pool.granted().proxyId).toBe(b);
  });

  test("compares exits first, and proxies only within an exit", () => {
    const pool = pick({ kind: "least-connections" });
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    const [c] = pool.add(proxyLines(1, 9));
    const taken = [1, 2, 3, 4, 5].map(() => pool.granted().proxyId);
    // The exit of a and b has one open lease when c has none, and then each exit has as many as the other.
    expect(taken).toEqual([a, c, b, c, a]);
  });
});

describe("time-based", () => {
  const kind = { kind: "time-based", intervalMs: 1000 };

  test("takes one proxy per interval, then the next in order, from the first border on", () => {
    const pool = pick(kind);
    const [a, b, c] = pool.add(proxyLines(3));
    expect(uses(pool, 3)).toEqual([a, a, a]);
    pool.wait(999);
    expect(use(pool)).toBe(a);
    pool.wait(1);
    expect(uses(pool, 2)).toEqual([b, b]);
    const lease = pool.granted();
    expect(lease.proxyId).toBe(b);
    expect(recorded(pool)).toEqual({
      strategy: "time-based",
      ranked: { intervalAt: pool.at, lastUsedAt: pool.at },
    });
    pool.wait(1000);
    expect(use(pool)).toBe(c);
    pool.wait(1000);
    expect(use(pool)).toBe(a);
    // Intervals without requests use no proxy's turn.
    pool.wait(5000);
    expect(use(pool)).toBe(b);
  });

  test("lets the next in order step in for a proxy without room, until it can be leased again", () => {
    const pool = pick(kind, { concurrency: 1 });
    const [a, b, c] = pool.add(proxyLines(3));
    const first = pool.granted();
    const second = pool.granted();
    expect([first.proxyId, second.proxyId]).toEqual([a, b]);
    pool.release(second);
    pool.release(first);
    expect(uses(pool, 2)).toEqual([a, a]);
    // The proxy that stepped in has had a turn. The next interval belongs to the one after it.
    pool.wait(1000);
    expect(use(pool)).toBe(c);
  });

  test("makes an added proxy wait for a turn, passes retired ones over, and keeps the place of re-added ones", () => {
    const pool = pick(kind);
    const [a, b] = pool.add(proxyLines(2));
    expect(use(pool)).toBe(a);
    const [c] = pool.add(proxyLines(1, 3));
    expect(use(pool)).toBe(a);
    pool.retire(a!);
    expect(uses(pool, 2)).toEqual([b, b]);
    pool.add(proxyLines(1));
    // Both have been used in this interval, a first.
    expect(use(pool)).toBe(a);
    pool.wait(1000);
    expect(use(pool)).toBe(c);
    pool.wait(1000);
    expect(use(pool)).toBe(a);
  });

  test("shares the turn between requests with other labels where possible", () => {
    const pool = pick(kind);
    const [french] = pool.add(proxyLines(1), { labels: { country: "FR" } });
    const [german] = pool.add(proxyLines(1, 2), { labels: { country: "DE" } });
    expect(use(pool, { labels: { country: "DE" } })).toBe(german);
    expect(use(pool)).toBe(german);
    pool.wait(1000);
    expect([use(pool), use(pool, { labels: { country: "DE" } })]).toEqual([french, german]);
  });

  test("gives proxies of one exit turns too", () => {
    const pool = pick(kind);
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    expect(uses(pool, 2)).toEqual([a, a]);
    // Another request sorts the index before the border, so that only time passes afterwards.
    pool.refused({ labels: { country: "none" } });
    pool.wait(1000);
    expect(uses(pool, 2)).toEqual([b, b]);
    pool.refused({ labels: { country: "none" } });
    pool.wait(1000);
    expect(use(pool)).toBe(a);
  });

  test("counts intervals from the opening of the pool", () => {
    const pool = pick(kind);
    const [a, b] = pool.add(proxyLines(2));
    pool.wait(990);
    expect(use(pool)).toBe(a);
    pool.wait(10);
    expect(use(pool)).toBe(b);
  });
});

describe("drain", () => {
  const rate = { limit: 3, windowMs: 10_000 };

  test("requires only the filled one of several windows to be empty again", () => {
    const pool = pick({ kind: "drain" }, { rate: [rate, { limit: 100, windowMs: 3_600_000 }], marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    expect(uses(pool, 4)).toEqual([a, a, a, b]);
    pool.wait(10_000);
    expect(use(pool)).toBe(b);
    pool.wait(1);
    expect(uses(pool, 4)).toEqual([a, a, a, b]);
  });

  test("requires the wider window to be empty if that one was filled", () => {
    const pool = pick({ kind: "drain" }, { rate: [rate, { limit: 4, windowMs: 60_000 }], marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    expect(uses(pool, 3)).toEqual([a, a, a]);
    pool.wait(10_001);
    expect(uses(pool, 2)).toEqual([a, b]);
    pool.wait(10_001);
    expect(use(pool)).toBe(b); // The narrow one of the first is empty; the wide one is not.
    pool.wait(60_001 - 10_001);
    expect(use(pool)).toBe(a);
  });

  test("requires the wider window to be empty if one use fills both", () => {
    const rates = [
      { limit: 2, windowMs: 1000 },
      { limit: 4, windowMs: 60_000 },
    ];
    const pool = pick({ kind: "drain" }, { rate: rates, marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    expect(uses(pool, 2)).toEqual([a, a]);
    pool.wait(1001);
    expect(uses(pool, 3)).toEqual([a, a, b]);
    pool.wait(59_000);
    // Two of the first's four have run out, and two have not.
    expect(use(pool)).toBe(b);
    pool.wait(1001);
    expect(use(pool)).toBe(a);
  });

  test("makes up returned uses with the same proxy: exactly n of it, then the next", () => {
    const pool = pick({ kind: "drain" }, { rate, marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    pool.release(pool.granted({ uses: 3 }), 1);
    expect(uses(pool, 3)).toEqual([a, a, b]);
  });

  test("does not reopen a filled window by returned uses", () => {
    const pool = pick({ kind: "drain" }, { rate: { limit: 4, windowMs: 10_000 }, marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    uses(pool, 2);
    pool.wait(5000);
    expect(uses(pool, 2)).toEqual([a, a]);
    pool.wait(5001);
    const other = pool.granted({ exclude: [b] });
    expect(other.proxyId).toBe(a);
    pool.release(other, 0);
    expect(use(pool)).toBe(b);
  });

  test("reopens a window filled by the lower limit under a higher one, but not under a lower one", () => {
    const pool = pick({ kind: "drain" }, { rate, marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    expect(uses(pool, 3)).toEqual([a, a, a]);
    pool.policy({ rate: { limit: 5 } });
    expect(uses(pool, 3)).toEqual([a, a, b]);
    const other = pick({ kind: "drain" }, { rate, marginMs: 0 });
    other.add(proxyLines(2));
    uses(other, 2);
    other.wait(5000);
    expect(use(other)).toBe(a);
    other.policy({ rate: { limit: 2 } });
    other.wait(5001);
    expect(other.proxy(a!).usesInWindow).toBe(1);
    expect(use(other)).toBe(b);
  });

  test("follows the order of adding if all are filled, and takes each proxy as soon as it has room", () => {
    const pool = pick({ kind: "drain" }, { rate: { limit: 2, windowMs: 1000 }, marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    const filled = [use(pool)];
    pool.wait(400);
    filled.push(...uses(pool, 3));
    expect(filled).toEqual([a, a, b, b]);
    pool.refused();
    pool.wait(601);
    expect(use(pool)).toBe(a);
    pool.wait(400);
    // The second is empty again. The first is not: too many of its uses were made too recently.
    expect(uses(pool, 2)).toEqual([b, b]);
  });
});

describe("random", () => {
  /** How often each proxy was drawn, in one turn. Each draw belongs to the place of its event. */
  function counted(pool: TestPool, draws: number, request: object = {}): Map<string, number> {
    const counts = new Map<string, number>();
    const parsed = leaseRequestSchema.parse(request);
    pool.turn((turn) => {
      for (let i = 0; i < draws; i++) {
        const leaseId = `l_drawn_${String(i).padStart(20, "0")}`;
        const granted = grant(turn, { request: parsed, leaseId });
        if (granted === "later" || !("lease" in granted)) throw new Error(JSON.stringify(granted));
        release(turn, { leaseId });
        const { id } = granted.lease.proxy;
        counts.set(id, (counts.get(id) ?? 0) + 1);
      }
    });
    return counts;
  }

  /** Pearson's statistic against equal shares. */
  function chiSquare(counts: Map<string, number>, kinds: number): number {
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const seen = [...counts.values()].reduce((sum, count) => sum + (count - total / kinds) ** 2, 0);
    return (seen + (kinds - counts.size) * (total / kinds) ** 2) / (total / kinds);
  }

  test("draws each leasable proxy with equal chance, even if some share an exit", () => {
    const pool = pick({ kind: "random" });
    pool.add(proxyLines(5), { labels: { exit: "198.51.100.1" } });
    pool.add(proxyLines(5, 20));
    // With 9 degrees of freedom, a fair draw exceeds 27.9 once in a thousand. Equal shares by exit would give far more.
    expect(chiSquare(counted(pool, 5000), 10)).toBeLessThan(27.9);
  });

  test("draws no excluded, resting, retired or mislabelled proxy, and the others with equal chance", () => {
    const pool = pick({ kind: "random" });
    const [a, b, c, d] = pool.add(proxyLines(6), { labels: { exit: "198.51.100.1", country: "DE" } });
    const others = pool.add(proxyLines(6, 20), { labels: { country: "DE" } });
    const [french] = pool.add(proxyLines(1, 40), { labels: { country: "FR" } });
    pool.rest(c!, 3_600_000);
    pool.retire(others[1]!);
    const counts = counted(pool, 5000, { labels: { country: "DE" }, exclude: [a, others[0], french] });
    for (const id of [a, c, others[0], others[1], french]) expect(counts.has(id!)).toBe(false);
    expect([counts.has(b!), counts.has(d!)]).toEqual([true, true]);
    expect(chiSquare(counts, 8)).toBeLessThan(24.4);
    expect(pool.refused({ exclude: [a, b, c, d, ...others, french], labels: { country: "FR" } }).code).toBe(
      "pool-exhausted",
    );
  });

  test("records the lot, the number of lots, and the chance that gives the lot again", () => {
    const pool = pick({ kind: "random" });
    pool.add(proxyLines(4));
    pool.granted();
    expect(recorded(pool)).toMatchObject({ strategy: "random", ranked: { lot: expect.any(Number), among: 4 } });
    const again = pick({ kind: "random" });
    again.add(proxyLines(4));
    again.granted();
    expect(recorded(again)).toEqual(recorded(pool));
  });

  test("draws nothing under a strategy that does not draw", () => {
    const pool = pick({ kind: "best" });
    pool.add(proxyLines(2));
    const chance = pool.turn((turn) => turn.chance);
    pool.granted();
    expect(chance).toBeUndefined();
  });
});

describe("another strategy", () => {
  test("applies from the next grant on, and uses the recorded past", () => {
    const pool = pick({ kind: "best" });
    const [a, b, c] = pool.add(proxyLines(3));
    expect([use(pool), pool.granted().proxyId]).toEqual([a, b]);
    pool.policy({ strategy: { kind: "least-connections" } });
    expect(pool.granted().proxyId).toBe(c);
    pool.policy({ strategy: { kind: "lifo" } });
    expect(pool.granted().proxyId).toBe(a); // The one returned last.
    pool.policy({ strategy: { kind: "round-robin" } });
    expect([pool.granted().proxyId, pool.granted().proxyId]).toEqual([b, c]);
  });
});

test("continues drain when the rate is switched off in the middle of a window", () => {
  const pool = new TestPool({ ...free, strategy: { kind: "drain" }, rate: { limit: 1, windowMs: 60_000 } });
  pool.add(proxyLines(1));
  pool.release(pool.granted());
  pool.policy({ rate: null });
  pool.granted();
});
