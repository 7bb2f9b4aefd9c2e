import { describe, expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { grant, release } from "../../state-machines/decide/lease.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const pick = (strategy: object, more: object = {}) => new TestPool({ ...free, strategy, ...more });

/** Leases and reports a success at once; the id of the proxy. */
function use(pool: TestPool, request: object = {}): string {
  const lease = pool.granted({ ...request });
  pool.report(lease, { status: 200 });
  return lease.proxyId;
}

const uses = (pool: TestPool, count: number, request: object = {}): string[] =>
  Array.from({ length: count }, () => use(pool, request));

/** What the last grant recorded of its choice. */
function recorded(pool: TestPool): unknown {
  const granted = pool.facts.find((event) => event.type === "LeaseGranted");
  return granted?.type === "LeaseGranted" ? { strategy: granted.strategy, ranked: granted.ranked } : undefined;
}

describe("least-used", () => {
  const rate = { rate: { limit: 10, windowMs: 1000 }, marginMs: 0 };

  test("takes the fewest uses in the window, and of equals the least recently used, never used ones first", () => {
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

  test("follows the window as it slides, with nothing else happening", () => {
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

  test("prefers one whose uses have run out to one with few, though nobody has touched it since", () => {
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

  test("counts by exit, and of one exit takes the least recently used proxy", () => {
    const pool = pick({ kind: "least-used" }, rate);
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    const [c] = pool.add(proxyLines(1, 9));
    expect(uses(pool, 4)).toEqual([a, c, b, c]);
  });

  test("with no rate there is no window: it takes the least recently used, and the policy warns of it", () => {
    const pool = pick({ kind: "least-used" });
    const ids = pool.add(proxyLines(2));
    expect(uses(pool, 3)).toEqual([ids[0], ids[1], ids[0]]);
    expect(pool.policy({ usage: null })).toMatchObject({ warnings: [expect.stringContaining("least-used")] });
  });
});

describe("least-connections", () => {
  test("takes the fewest open leases, and of equals the least recently used", () => {
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

  test("a lease that has run out is open no more", () => {
    const pool = pick({ kind: "least-connections" }, { lease: { ttlMs: 1000 } });
    const [a, b] = pool.add(proxyLines(2));
    pool.granted({ ttlMs: 100 });
    pool.granted();
    pool.wait(100);
    expect([pool.granted().proxyId, pool.granted().proxyId, pool.granted().proxyId]).toEqual([a, b, a]);
  });

  test("of one exit the proxy with fewer of its own comes first, though it was used later", () => {
    const pool = pick({ kind: "least-connections" });
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    const [first, second] = [pool.granted(), pool.granted()];
    expect([first.proxyId, second.proxyId]).toEqual([a, b]);
    pool.release(second);
    expect(pool.granted().proxyId).toBe(b);
  });

  test("what counts is the exit; of one exit, the proxy's own", () => {
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

  test("one proxy per interval, then the next in order, from the first border on", () => {
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
    // Intervals in which nobody asks are nobody's turn.
    pool.wait(5000);
    expect(use(pool)).toBe(b);
  });

  test("while it is spent the next in order steps in, and gives way as soon as it can be leased again", () => {
    const pool = pick(kind, { concurrency: 1 });
    const [a, b, c] = pool.add(proxyLines(3));
    const first = pool.granted();
    const second = pool.granted();
    expect([first.proxyId, second.proxyId]).toEqual([a, b]);
    pool.release(second);
    pool.release(first);
    expect(uses(pool, 2)).toEqual([a, a]);
    // Who stepped in has had a turn: the next interval is of the one after it.
    pool.wait(1000);
    expect(use(pool)).toBe(c);
  });

  test("who is added waits for a turn, who is retired is passed over, and who is added again keeps its place", () => {
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

  test("requests with other labels share the turn where they can", () => {
    const pool = pick(kind);
    const [french] = pool.add(proxyLines(1), { labels: { country: "FR" } });
    const [german] = pool.add(proxyLines(1, 2), { labels: { country: "DE" } });
    expect(use(pool, { labels: { country: "DE" } })).toBe(german);
    expect(use(pool)).toBe(german);
    pool.wait(1000);
    expect([use(pool), use(pool, { labels: { country: "DE" } })]).toEqual([french, german]);
  });

  test("proxies of one exit take turns too", () => {
    const pool = pick(kind);
    const [a, b] = pool.add(proxyLines(2), { labels: { exit: "198.51.100.1" } });
    expect(uses(pool, 2)).toEqual([a, a]);
    // Another request, so that the index is in order before the border, and only time moves it.
    pool.refused({ labels: { country: "none" } });
    pool.wait(1000);
    expect(uses(pool, 2)).toEqual([b, b]);
    pool.refused({ labels: { country: "none" } });
    pool.wait(1000);
    expect(use(pool)).toBe(a);
  });

  test("intervals are counted from the opening of the pool", () => {
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

  test("of several windows only the one that was filled has to be empty again", () => {
    const pool = pick({ kind: "drain" }, { rate: [rate, { limit: 100, windowMs: 3_600_000 }], marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    expect(uses(pool, 4)).toEqual([a, a, a, b]);
    pool.wait(10_000);
    expect(use(pool)).toBe(b);
    pool.wait(1);
    expect(uses(pool, 4)).toEqual([a, a, a, b]);
  });

  test("where the wider one is filled, that one has to be", () => {
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

  test("where two are filled by the same use, the wider one has to be", () => {
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

  test("what a block gives back is made of the same proxy: exactly n of it, then the next", () => {
    const pool = pick({ kind: "drain" }, { rate, marginMs: 0 });
    const [a, b] = pool.add(proxyLines(2));
    pool.release(pool.granted({ uses: 3 }), 1);
    expect(uses(pool, 3)).toEqual([a, a, b]);
  });

  test("what is given back of a proxy whose window was filled before does not open that window", () => {
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

  test("a higher limit opens a window that was filled by the lower one, a lower one does not", () => {
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

  test("is in the order of adding where all have been filled, and takes each as soon as it has room", () => {
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
    // The second is empty again, and the first is not: of that one too much has been made too lately.
    expect(uses(pool, 2)).toEqual([b, b]);
  });
});

describe("random", () => {
  /** How often each was drawn, in one turn: every draw belongs to the place of its event. */
  function counted(pool: TestPool, draws: number, request: object = {}): Map<string, number> {
    const counts = new Map<string, number>();
    const parsed = leaseRequestSchema.parse(request);
    pool.turn((turn) => {
      for (let i = 0; i < draws; i++) {
        const leaseId = `l_drawn_${String(i).padStart(20, "0")}`;
        const granted = grant(turn, pool.candidates, parsed, leaseId);
        if (!("lease" in granted)) throw new Error(JSON.stringify(granted));
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

  test("each that can be leased is as likely as any other, also where some share an exit", () => {
    const pool = pick({ kind: "random" });
    pool.add(proxyLines(5), { labels: { exit: "198.51.100.1" } });
    pool.add(proxyLines(5, 20));
    // With 9 degrees of freedom a fair lot exceeds 27.9 once in a thousand; equal shares by exit would give far more.
    expect(chiSquare(counted(pool, 5000), 10)).toBeLessThan(27.9);
  });

  test("none that is excluded, resting, retired or labelled otherwise is drawn, and the others are still equal", () => {
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

  test("the lot and how many there were are recorded, with the chance that gives the lot again", () => {
    const pool = pick({ kind: "random" });
    pool.add(proxyLines(4));
    pool.granted();
    expect(recorded(pool)).toMatchObject({ strategy: "random", ranked: { lot: expect.any(Number), among: 4 } });
    const again = pick({ kind: "random" });
    again.add(proxyLines(4));
    again.granted();
    expect(recorded(again)).toEqual(recorded(pool));
  });

  test("nothing is drawn where the strategy does not draw", () => {
    const pool = pick({ kind: "best" });
    pool.add(proxyLines(2));
    const chance = pool.turn((turn) => turn.chance);
    pool.granted();
    expect(chance).toBeUndefined();
  });
});

describe("another strategy", () => {
  test("holds from the next grant on, and finds what it needs in what has been", () => {
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

test("drain goes on when its rate is switched off in the middle of a window", () => {
  const pool = new TestPool({ ...free, strategy: { kind: "drain" }, rate: { limit: 1, windowMs: 60_000 } });
  pool.add(proxyLines(1));
  pool.release(pool.granted());
  pool.policy({ rate: null });
  pool.granted();
});
