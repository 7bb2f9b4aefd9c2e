// Properties of every sequence of commands: each event is legal in the chart, repeating a command gives no events, and
// folding the ledger in two parts equals folding it at once. (There are no snapshots here: the first part is a state of
// its own, and the second part continues from it.)
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Event } from "../../events/event.ts";
import { advance, evolve } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { accepts } from "../../state-machines/machines/proxy.ts";
import { expectAlike } from "../kit/alike.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";
import { seeded } from "../kit/seed.ts";
import { drawChange, drawPhysics, drawPolicy } from "../sim/setting.ts";

const verb = fc.constantFrom(
  ...(["lease", "lease", "lease", "report", "report", "release", "renew"] as const),
  ...(["retire", "add", "rest", "revive", "policy", "wait"] as const),
);
const commands = fc.array(fc.record({ verb, which: fc.nat(99), chance: fc.integer() }), {
  minLength: 10,
  maxLength: 40,
});
const seen = [{ status: 200 }, { status: 403 }, { status: 429, retryAfterMs: 900 }, { reason: "timeout" }];

interface Noted {
  at: number;
  facts: Event[];
}

/** Applies the commands. Repeats each command whose repetition must give no events. */
function play(
  seed: number,
  given: { verb: string; which: number; chance: number }[],
): { pool: TestPool; noted: Noted[] } {
  const chance = seeded(seed);
  const physics = drawPhysics(chance);
  const pool = new TestPool(drawPolicy(chance, physics));
  const noted: Noted[] = [{ at: pool.at, facts: pool.facts }];
  const turn = pool.turn.bind(pool);
  pool.turn = (decide) => {
    const result = turn(decide);
    noted.push({ at: pool.at, facts: pool.facts });
    return result;
  };
  const lines = proxyLines(4);
  const ids = pool.add(lines);
  const leases: { leaseId: string; uses: number }[] = [];
  for (const { verb, which, chance: draw } of given) {
    const lease = leases[which % Math.max(1, leases.length)];
    const id = ids[which % ids.length]!; // Within the list.
    if (verb === "lease") {
      const requestId = `request-${noted.length}-0123456789`;
      const answer = pool.lease({ uses: 1 + (which % 3), requestId });
      if ("code" in answer) continue;
      leases.push(answer);
      again(pool, () => expect(pool.lease({ uses: 1 + (which % 3), requestId })).toMatchObject(answer));
    } else if (verb === "report" && lease !== undefined) {
      const outcome = { n: 1 + (which % lease.uses), ...seen[which % seen.length] };
      pool.report(lease, outcome);
      again(pool, () => pool.report(lease, outcome));
    } else if (verb === "release" && lease !== undefined) {
      const first = pool.release(lease, lease.uses);
      again(pool, () => expect(pool.release(lease)).toEqual(first));
    } else if (verb === "renew" && lease !== undefined) {
      pool.renew(lease, 700);
      again(pool, () => pool.renew(lease, 700));
    } else if (verb === "retire") {
      pool.retire(id);
      again(pool, () => expect(pool.retire(id)).toBe(false));
    } else if (verb === "add") {
      pool.add(lines);
      again(pool, () => pool.add(lines));
    } else if (verb === "rest") {
      pool.rest(id, 1500);
      again(pool, () => expect(pool.rest(id, 1500)).toBe(false));
    } else if (verb === "revive") {
      pool.revive(id);
      again(pool, () => expect(pool.revive(id)).toBe(false));
    } else if (verb === "policy") {
      const patch = drawChange(seeded(draw), physics);
      pool.policy(patch);
      again(pool, () => pool.policy(patch));
    } else if (verb === "wait") pool.wait(which * 20);
  }
  return { pool, noted };
}

function again(pool: TestPool, command: () => unknown): void {
  command();
  expect(pool.types()).toEqual([]);
}

test("decides only events that are legal in the chart, and none for a repeated command", {
  timeout: 120_000,
}, () => {
  let moves = 0;
  fc.assert(
    fc.property(fc.integer(), commands, (seed, given) => {
      const { pool, noted } = play(seed, given);
      const states = new Map<string, Parameters<typeof accepts>[0]>();
      for (const event of noted.flatMap(({ facts }) => facts)) {
        if (!("state" in event)) continue;
        const from = states.get(event.proxyId) ?? "retired";
        expect(accepts(from, event.type, event.state), `${from} ${event.type}.${event.state}`).toBe(true);
        states.set(event.proxyId, event.state);
        moves++;
      }
      for (const [id, state] of states) expect(pool.proxy(id).state).toBe(state);
    }),
    { numRuns: 50 },
  );
  expect(moves).toBeGreaterThan(500);
});

test("gives the same state live, replayed, and replayed in two parts split anywhere", {
  timeout: 120_000,
}, () => {
  fc.assert(
    fc.property(fc.integer(), commands, fc.nat(), (seed, given, where) => {
      const { pool, noted } = play(seed, given);
      const cut = where % noted.length;
      const whole = new PoolState("test");
      fold(whole, noted);
      const parts = new PoolState("test");
      fold(parts, noted.slice(0, cut));
      // Looking at the state in between, at any instant, changes nothing.
      advance(parts, parts.at);
      fold(parts, noted.slice(cut));
      expectAlike(snapshotOf(parts), snapshotOf(whole));
      const live = snapshotOf(pool.state) as Record<string, unknown>;
      expectAlike({ ...(snapshotOf(whole) as object), commits: live["commits"] }, live);
    }),
    { numRuns: 50 },
  );
});

function fold(state: PoolState, noted: readonly Noted[]): void {
  for (const { at, facts } of noted) {
    advance(state, at);
    for (const fact of facts) evolve(state, JSON.parse(JSON.stringify(fact)));
  }
}
