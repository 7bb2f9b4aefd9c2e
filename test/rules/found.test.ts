// Cases that a review or a fuzzer found, each kept for ever.
import { expect, test } from "vitest";
import { leaseRequestSchema } from "../../protocol/lease.ts";
import { close } from "../../state-machines/decide/pool.ts";
import { retire } from "../../state-machines/decide/proxy.ts";
import { tick, wakeAt } from "../../state-machines/decide/timers.ts";
import { Waiting } from "../../state-machines/queue/waiting.ts";
import { herd, TestPool } from "../kit/pool.ts";

const free = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const gate = { labels: { exit: "gate" } };

test("a failure of a lease from before its proxy was added again into its exit's rest begins no second one", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 }, backoff: { kind: "fixed", restMs: 1000 } });
  const [id] = pool.add(herd(2), gate);
  const lease = pool.granted();
  pool.retire(id!);
  pool.release(lease);
  pool.add(herd(1), gate);
  expect(pool.proxy(id!)).toMatchObject({ state: "exhausted", epoch: 1 });
  pool.report(lease, { status: 403 });
  expect(pool.types()).toEqual(["UseReported"]);
});

test("drain goes on when its rate is switched off in the middle of a window", () => {
  const pool = new TestPool({ ...free, strategy: { kind: "drain" }, rate: { limit: 1, windowMs: 60_000 } });
  pool.add(herd(1));
  pool.release(pool.granted());
  pool.policy({ rate: null });
  pool.granted();
});

test("a usage rest over many proxies, most of them retired, is spread and done", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 } });
  const ids = pool.add(
    Array.from({ length: 1200 }, (_, i) => `198.51.100.7:${1000 + i}`),
    gate,
  );
  pool.turn(() => undefined);
  pool.turn((turn) => {
    for (const id of ids.slice(0, 450)) retire(turn, pool.state.proxies.get(id)!, undefined);
  });
  pool.release(pool.granted());
  for (let turns = 0; turns < 5 && !pool.turn((turn) => tick(turn)); turns++);
  expect(wakeAt(pool.state)).toBe(pool.at + 60_000);
  expect(ids.slice(450).every((id) => pool.proxy(id).state === "exhausted")).toBe(true);
});

test("a proxy's own limits outlive retirement, and adding it again without a word of them", () => {
  const pool = new TestPool({ ...free, rate: { limit: 100, windowMs: 60_000 } });
  const [id] = pool.add(herd(1), { limits: { rate: { limit: 5, windowMs: 3_600_000 } } });
  const leases = [1, 2, 3, 4, 5].map(() => pool.granted());
  for (const lease of leases.slice(1)) pool.report(lease, { status: 200 });
  pool.wait(80_000);
  pool.retire(id!);
  pool.report(leases[0]!, { status: 200 });
  pool.add(herd(1));
  expect(pool.lease()).toMatchObject({ code: "pool-exhausted", limitedBy: { rate: 1 } });
  expect(pool.proxy(id!).usesInWindow).toBe(5);
});

test("a proxy with looser limits of its own does not loosen its sibling's", () => {
  const pool = new TestPool({ ...free, rate: { limit: 3, windowMs: 10_000 }, concurrency: 2 });
  pool.add(herd(1), { ...gate, limits: { rate: null, concurrency: null } });
  pool.add(herd(1, 2), gate);
  pool.granted();
  pool.granted();
  expect(pool.refused().limitedBy).toMatchObject({ concurrency: 2 });
});

test("an exit is one exit however its address is written", () => {
  const pool = new TestPool({ ...free, rate: { limit: 1, windowMs: 10_000 } });
  pool.add(["[2001:db8::1]:80"]);
  pool.add(herd(1), { labels: { exit: " 2001:DB8:0::1 " } });
  pool.granted();
  expect(pool.refused().limitedBy).toMatchObject({ rate: 2 });
});

test("a proxy that was alone at its exit takes its slots and leases along when the exit is named otherwise", () => {
  const pool = new TestPool({ ...free, rate: { limit: 2, windowMs: 10_000 }, concurrency: 2 });
  const [id] = pool.add(herd(1));
  const lease = pool.granted();
  pool.granted();
  pool.add(herd(1), { labels: { exit: "203.0.113.9" } });
  expect(pool.proxy(id!).exit).toBe("203.0.113.9");
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1, concurrency: 1 });
  pool.report(lease, { status: 200 });
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1, concurrency: 0 });
});

test("what was granted while the grant counted holds a slot until its report once reports count", () => {
  const pool = new TestPool({
    ...free,
    rate: { limit: 2, windowMs: 1000 },
    countFrom: "grant",
    lease: { ttlMs: 600_000 },
  });
  pool.add(herd(1));
  pool.granted({ uses: 2 });
  pool.policy({ countFrom: "report" });
  pool.wait(5000);
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1 });
});

test("waking a proxy from a rest of its own does not end its exit's", () => {
  const pool = new TestPool({ ...free, usage: { limit: 1, restMs: 60_000 } });
  const [late] = pool.add(herd(1));
  pool.rest(late!, 50_000);
  const [other] = pool.add(herd(1, 2), gate);
  pool.release(pool.granted());
  expect(pool.proxy(other!).state).toBe("exhausted");
  pool.add(herd(1), gate);
  pool.revive(late!);
  expect(pool.lease()).toMatchObject({ code: "pool-exhausted" });
});

test("a requestId stays with the newer lease when the older one is closed late", () => {
  const pool = new TestPool({ ...free, lease: { ttlMs: 1000 } });
  pool.add(herd(1));
  const wish = { requestId: "0123456789abcdef" };
  const old = pool.granted(wish);
  pool.at += 1000; // Ended, and no tick has come yet.
  const newer = pool.granted(wish);
  expect(newer.leaseId).not.toBe(old.leaseId);
  pool.turn((turn) => tick(turn));
  expect(pool.granted(wish).leaseId).toBe(newer.leaseId);
});

test("the same request gives its open lease also when a new policy would no longer grant it", () => {
  const pool = new TestPool(free);
  pool.add(herd(1));
  const wish = { requestId: "0123456789abcdef", uses: 10 };
  const lease = pool.granted(wish);
  pool.policy({ lease: { usesMax: 5 } });
  expect(pool.granted(wish).leaseId).toBe(lease.leaseId);
});

test("a waiting wish for which a usage rest is due waits on", () => {
  const pool = new TestPool({ ...free, usage: { limit: 10, restMs: 1000 } });
  pool.add(herd(1));
  const lease = pool.granted({ uses: 8 });
  const waiting = new Waiting(pool.state);
  const wish = leaseRequestSchema.parse({ uses: 5, minUses: 5, waitMs: 60_000 });
  waiting.add(pool.candidates, pool.candidates.indexesFor(wish)!, {
    wish,
    leaseId: "l_waiting0000000000000000",
    deadline: pool.at + 60_000,
  });
  pool.release(lease);
  const served: boolean[] = [];
  const serve = () =>
    pool.turn((turn) =>
      waiting.serve(
        turn,
        pool.candidates,
        () => true,
        (_waiter, granted) => served.push("lease" in granted),
      ),
    );
  serve();
  expect(served).toEqual([]);
  pool.wait(1000);
  serve();
  expect(served).toEqual([true]);
});

test("when everything free is excluded, the rest of what is not counts", () => {
  const pool = new TestPool({ ...free, limitBy: "exit" });
  const [open, resting] = pool.add(herd(2), gate);
  pool.rest(resting!, 5000);
  expect(pool.refused({ exclude: [open] }).retryAfterMs).toBe(5000);
});

test("what a rule has ceased to hold back is not counted any more, though another still does", () => {
  const pool = new TestPool({ ...free, rate: { limit: 1, windowMs: 1000 } });
  const [id] = pool.add(herd(1));
  pool.report(pool.granted(), { status: 200 });
  pool.rest(id!, 60_000);
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1, rest: 1 });
  pool.wait(5000);
  expect(pool.refused()).toMatchObject({ retryAfterMs: 55_000, limitedBy: { rate: 0, rest: 1 } });
});

test("uses numbered far beyond those granted are not counted at all", () => {
  const pool = new TestPool(free);
  pool.add(herd(1));
  expect(pool.report(pool.granted(), { n: 50_000, status: 200 })).toMatchObject({ ignored: "n-too-large" });
});

test("nothing is granted in the turn in which the pool was closed, once it is", () => {
  const pool = new TestPool(free);
  pool.add(herd(1));
  pool.turn((turn) => close(turn, { drain: false }));
  expect(pool.refused()).toMatchObject({ code: "unknown-pool" });
  expect(pool.types()).toEqual([]);
});

test("of two usage rules with the same limit at one exit the longer rest holds, in whatever order they came", () => {
  for (const rests of [
    [1000, 2000],
    [2000, 1000],
  ]) {
    const pool = new TestPool(free);
    for (const [i, restMs] of rests.entries())
      pool.add(herd(1, i + 1), { ...gate, limits: { usage: { limit: 1, restMs } } });
    pool.release(pool.granted());
    expect(pool.refused().retryAfterMs).toBe(2000);
  }
});
