// Compares the choices of the indexes with a scan of all proxies, after any sequence of commands and changes of
// strategy.
import fc from "fast-check";
import { expect, test } from "vitest";
import { everyStrategy } from "../../bench/strategies.ts";
import { isRefusal } from "../../protocol/refusal.ts";
import type { Proxy } from "../../state-machines/fold/state.ts";
import { leasableAt } from "../../state-machines/rules/exit.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const rate = { limit: 3, windowMs: 1000 };
const marginMs = 10;
const intervalMs = 700;
const policy = {
  rate,
  marginMs,
  concurrency: 2,
  usage: { limit: 7, restMs: 600 },
  failures: null,
  streak: null,
  backoff: { kind: "fixed", restMs: 250 },
  lease: { ttlMs: 900, graceMs: 50 },
};
const strategies = everyStrategy({ intervalMs, halfLifeMs: 1500 });
type Kind = (typeof strategies)[number]["kind"];

/** Three proxies share one exit, two share another, three are alone. */
const entries = proxyLines(8).map((line, i) => ({
  line,
  labels: {
    country: i % 2 === 0 ? "DE" : "FR",
    ...(i < 3 ? { exit: "198.51.100.1" } : i < 5 ? { exit: "198.51.100.2" } : {}),
  },
}));

const proxy = fc.nat({ max: entries.length - 1 });
const command = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("lease" as const),
      country: fc.constantFrom(undefined, undefined, "DE"),
      exclude: fc.uniqueArray(proxy, { maxLength: 3 }),
      uses: fc.integer({ min: 1, max: 3 }),
      minUses: fc.constantFrom(1, 1, 2),
      target: fc.constantFrom(undefined, "a.example", "b.example"),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("report" as const),
      nth: fc.nat({ max: 9 }),
      status: fc.constantFrom(200, 200, 403),
      latencyMs: fc.nat({ max: 90_000 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("release" as const), nth: fc.nat({ max: 9 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 1200 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("retire" as const, "add", "rest", "revive"), proxy }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("policy" as const), strategy: fc.constantFrom(...strategies) }) },
);
type Command = typeof command extends fc.Arbitrary<infer C> ? C : never;

/** Runs the commands and compares every grant with a scan of all proxies. Returns the grants. */
function follow(strategy: (typeof strategies)[number], commands: readonly Command[], chance: string): string[] {
  const pool = new TestPool({ ...policy, strategy });
  pool.chance = chance;
  const ids = entries.flatMap(({ line, labels }) => pool.add([line], { labels }));
  const turns = new Turns(pool.state.openedAt);
  const granted: string[] = [];
  let open: { leaseId: string; uses: number; next: number }[] = [];
  let kind: Kind = strategy.kind;
  for (const each of commands) {
    switch (each.do) {
      case "lease": {
        const { country, uses, minUses, target } = each;
        const exclude = each.exclude.map((i) => ids[i]!);
        const request = {
          uses,
          minUses: Math.min(uses, minUses),
          exclude,
          ...(country === undefined ? {} : { labels: { country } }),
          ...(target === undefined ? {} : { target }),
        };
        const eligible = [...pool.state.proxies.values()].filter(
          (one) =>
            (one.state === "available" || one.state === "in-use") &&
            (country === undefined || one.labels["country"] === country) &&
            !exclude.includes(one.id) &&
            leasableAt(pool.state, one, request.minUses) <= pool.at,
        );
        const order = orderOf(kind, pool, turns);
        const [first] = order === undefined ? [] : eligible.toSorted(order);
        const lease = pool.lease(request);
        if (isRefusal(lease)) {
          expect(eligible.map(({ id }) => id)).toEqual([]);
          break;
        }
        expect(eligible.map(({ id }) => id)).toContain(lease.proxyId);
        if (first !== undefined) expect(lease.proxyId).toBe(first.id);
        turns.used(kind, lease.proxyId, pool.at, pool.state.proxies.get(lease.proxyId)!.usedOrder);
        open.push({ leaseId: lease.leaseId, uses: lease.uses, next: 1 });
        granted.push(lease.proxyId);
        break;
      }
      case "report": {
        const lease = open[each.nth % Math.max(1, open.length)];
        if (lease === undefined) break;
        pool.report(lease, {
          n: lease.next++,
          status: each.status,
          latencyMs: each.latencyMs,
          target: "https://a.example/x",
        });
        if (lease.next > lease.uses) open = open.filter((one) => one !== lease);
        break;
      }
      case "release": {
        const lease = open[each.nth % Math.max(1, open.length)];
        if (lease !== undefined) pool.release(lease);
        open = open.filter((one) => one !== lease);
        break;
      }
      case "wait":
        pool.wait(each.ms);
        break;
      case "retire":
        pool.retire(ids[each.proxy]!);
        break;
      case "add":
        pool.add([entries[each.proxy]!.line], { labels: entries[each.proxy]!.labels });
        break;
      case "rest":
        pool.rest(ids[each.proxy]!, 300);
        break;
      case "revive":
        pool.revive(ids[each.proxy]!);
        break;
      case "policy":
        pool.policy({ strategy: each.strategy });
        kind = each.strategy.kind;
        break;
    }
  }
  return granted;
}

/** Which proxies were used in which interval, kept apart from the state. */
class Turns {
  readonly openedAt: number;
  readonly #of = new Map<string, { interval: number; order: number }>();

  constructor(openedAt: number) {
    this.openedAt = openedAt;
  }

  interval(at: number): number {
    return Math.floor((at - this.openedAt) / intervalMs);
  }

  used(kind: Kind, id: string, at: number, order: number): void {
    const known = this.#of.get(id);
    const interval = this.interval(at);
    if (kind !== "time-based" || known?.interval !== interval) this.#of.set(id, { interval, order });
  }

  of(id: string): { interval: number; order: number } | undefined {
    return this.#of.get(id);
  }
}

type Order = (a: Proxy, b: Proxy) => number;

/** The order of the strategy as the rules describe it. Undefined: the strategy draws at random. */
function orderOf(kind: Kind, pool: TestPool, turns: Turns): Order | undefined {
  const { at } = pool.state;
  const inWindow = ({ account }: Proxy): number =>
    account.openUses + account.slots.toArray().filter((base) => at <= base + rate.windowMs + marginMs).length;
  const by =
    (...keys: ((proxy: Proxy) => number)[]): Order =>
    (a, b) =>
      keys.map((key) => key(a) - key(b)).find((difference) => difference !== 0) ?? 0;
  const neverUsedFirst = (proxy: Proxy): number => (proxy.lastUsedAt === 0 ? 0 : 1);
  const lru = [neverUsedFirst, (proxy: Proxy) => (proxy.lastUsedAt === 0 ? proxy.addedOrder : proxy.usedOrder)];
  switch (kind) {
    case "best":
      return by(neverUsedFirst, (proxy) => -proxy.score, ...lru);
    case "lifo":
      return by((proxy) => -proxy.stackOrder);
    case "round-robin":
      return by(...lru);
    case "least-used":
      return by(inWindow, ...lru);
    case "least-connections":
      return by(
        ({ account }) => account.leases.length,
        ({ openLeases }) => openLeases,
        ...lru,
      );
    case "drain":
      return by(
        (proxy) => (proxy.account.spent !== null && inWindow(proxy) > 0 ? 1 : 0),
        ({ addedOrder }) => addedOrder,
      );
    case "time-based":
      return by(
        ({ id }) => (turns.of(id)?.interval === turns.interval(at) ? 0 : 1),
        neverUsedFirst,
        ({ id, addedOrder }) => turns.of(id)?.order ?? addedOrder,
      );
    case "random":
    case "bandit":
      return undefined;
  }
}

const chance = fc.tuple(fc.nat({ max: 0xffff_ffff }), fc.nat({ max: 0xffff_ffff })).map((halves) =>
  halves
    .flatMap((half) => [half, half ^ 0x55])
    .map((part) => (part >>> 0).toString(16).padStart(8, "0"))
    .join(""),
);

test.each(strategies)(
  "%j chooses like a scan of all proxies, and repeats the choice with the same chance",
  (strategy) => {
    fc.assert(
      fc.property(fc.array(command, { minLength: 15, maxLength: 50 }), chance, (commands, drawn) => {
        const granted = follow(strategy, commands, drawn);
        const draws = strategy.kind === "random" || strategy.kind === "bandit";
        if (draws) expect(follow(strategy, commands, drawn)).toEqual(granted);
      }),
      { numRuns: 20 },
    );
  },
);
