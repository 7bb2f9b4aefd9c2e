// Relabelling cannot bypass a limit. Whatever exits proxies are said to leave by, and in whatever order, no exit is
// granted more than its limit. The counted uses of a proxy that was alone at its exit go with it.
import { describe, expect, test, vi } from "vitest";
import { isRefusal } from "../../protocol/refusal.ts";
import { tick } from "../../state-machines/decide/timers.ts";
import { restore, snapshotOf } from "../../state-machines/fold/snapshot.ts";
import { roomAt } from "../../state-machines/rules/exit.ts";
import { Slots } from "../../state-machines/structures/slots.ts";
import { proxyLines, TestPool } from "../kit/pool.ts";

const off = { rate: null, concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };
const at = (exit: string) => ({ labels: { exit } });
const rate = { limit: 3, windowMs: 60_000 };
const oneHour = { ttlMs: 3_600_000, ttlMsMax: 3_600_000 };

/** The ways in which a proxy may come to leave by another exit. */
const moves: Record<string, (pool: TestPool, exit: string) => void> = {
  "its label is changed": (pool, exit) => void pool.add(proxyLines(1), at(exit)),
  "it is retired and added again with another label": (pool, exit) => {
    const [id] = pool.add(proxyLines(1));
    pool.retire(id!);
    pool.add(proxyLines(1), at(exit));
  },
};

describe.each(Object.entries(moves))("move by %s", (_how, move) => {
  test("keeps reported uses at an exit when its proxy returns from a shared exit", () => {
    const pool = new TestPool({ ...off, rate });
    pool.add(proxyLines(1), at("a"));
    for (let n = 0; n < 3; n++) pool.report(pool.granted(), { status: 200 });
    const [other] = pool.add(proxyLines(1, 2), at("b"));
    move(pool, "b");
    expect(pool.proxy(other!).usesInWindow).toBe(3);
    move(pool, "a");
    pool.retire(other!);
    expect(pool.refused().limitedBy).toMatchObject({ rate: 1 });
    pool.wait(60_100);
    pool.refused();
    pool.wait(1);
    for (let n = 0; n < 3; n++) pool.granted();
    pool.refused();
  });

  test("counts them for another proxy that is added at the old exit", () => {
    const pool = new TestPool({ ...off, rate });
    pool.add(proxyLines(1), at("a"));
    for (let n = 0; n < 3; n++) pool.report(pool.granted(), { status: 200 });
    move(pool, "b");
    const [next] = pool.add(proxyLines(1, 2), at("a"));
    expect(pool.proxy(next!).usesInWindow).toBe(3);
    expect(pool.refused().limitedBy).toMatchObject({ rate: 2 });
  });

  test("moves them along although a retired proxy is still remembered at the old exit", () => {
    const pool = new TestPool({ ...off, rate });
    const [id, gone] = pool.add(proxyLines(2), at("a"));
    pool.retire(gone!);
    for (let n = 0; n < 3; n++) pool.report(pool.granted(), { status: 200 });
    move(pool, "b");
    expect(pool.proxy(id!)).toMatchObject({ usesInWindow: 3, exit: "b" });
    expect(pool.refused().limitedBy).toMatchObject({ rate: 1 });
    const snapshot = JSON.stringify(snapshotOf(pool.state));
    expect(JSON.stringify(snapshotOf(restore(JSON.parse(snapshot))))).toBe(snapshot);
    pool.add(proxyLines(1, 2), at("a"));
    expect(pool.proxy(gone!)).toMatchObject({ usesInWindow: 3, state: "available" });
    expect(pool.refused().limitedBy).toMatchObject({ rate: 2 });
    pool.wait(60_101);
    for (let n = 0; n < 6; n++) pool.granted();
    pool.refused();
  });

  test("does not grant a freshly retired proxy at the exit where it is remembered", () => {
    const pool = new TestPool(off);
    const [id, gone] = pool.add(proxyLines(2), at("a"));
    pool.granted();
    pool.retire(gone!);
    move(pool, "b");
    for (let n = 0; n < 3; n++) expect(pool.granted().proxyId).toBe(id);
  });

  test("counts nothing twice, however often a proxy moves back and forth", () => {
    const pool = new TestPool({ ...off, rate: { limit: 4, windowMs: 60_000 }, usage: { limit: 9, restMs: 1000 } });
    const [id] = pool.add(proxyLines(1), at("a"));
    pool.report(pool.granted(), { status: 200 });
    for (const exit of ["b", "a", "c", "b", "a"]) {
      move(pool, exit);
      expect(pool.proxy(id!)).toMatchObject({ usesInWindow: 1, usesSinceRest: 1, exit });
    }
    move(pool, "b");
    const lease = pool.granted({ uses: 2 });
    for (const exit of ["a", "c", "a", "b"]) {
      move(pool, exit);
      expect(pool.proxy(id!)).toMatchObject({ usesInWindow: 3, usesSinceRest: 3, openLeases: 1 });
    }
    pool.report(lease, { n: 1, status: 200, final: true });
    expect(pool.proxy(id!)).toMatchObject({ usesInWindow: 2, usesSinceRest: 2, openLeases: 0 });
  });

  test("counts open leases and unreported uses at both exits until their end and after it", () => {
    const pool = new TestPool({ ...off, rate, concurrency: 1, lease: { ttlMs: 10_000, graceMs: 2000 } });
    pool.add(proxyLines(1), at("a"));
    const lease = pool.granted({ uses: 3 });
    const [other] = pool.add(proxyLines(1, 2), at("b"));
    move(pool, "b");
    const [next] = pool.add(proxyLines(1, 3), at("a"));
    expect(pool.refused().limitedBy).toMatchObject({ rate: 3, concurrency: 3 });
    pool.report(lease, { n: 1, status: 200 });
    expect([pool.proxy(other!).usesInWindow, pool.proxy(next!).usesInWindow]).toEqual([3, 3]);
    // Released: the two unreported uses may have been made until then.
    expect(pool.refused().retryAfterMs).toBe(60_101);
    pool.wait(10_000);
    expect(pool.refused().limitedBy).toMatchObject({ rate: 3, concurrency: 0 });
    expect(pool.refused().retryAfterMs).toBe(50_101);
    pool.report(lease, { n: 2, status: 200 });
    expect([pool.proxy(other!).usesInWindow, pool.proxy(next!).usesInWindow]).toEqual([3, 3]);
    pool.wait(50_101);
    pool.granted();
    pool.granted();
    pool.refused();
  });

  test("keeps a usage quota at both exits, each of which ends it separately", () => {
    const pool = new TestPool({ ...off, usage: { limit: 3, restMs: 10_000 } });
    pool.add(proxyLines(1), at("a"));
    pool.release(pool.granted());
    const [other] = pool.add(proxyLines(1, 2), at("b"));
    move(pool, "b");
    const [next] = pool.add(proxyLines(1, 3), at("a"));
    expect([pool.proxy(other!).usesSinceRest, pool.proxy(next!).usesSinceRest]).toEqual([1, 1]);
    pool.release(pool.granted({ uses: 2, exclude: [next!] }));
    expect(pool.proxy(other!)).toMatchObject({ state: "exhausted", usesSinceRest: 0 });
    expect(pool.proxy(next!)).toMatchObject({ state: "available", usesSinceRest: 1 });
    pool.release(pool.granted({ uses: 2 }));
    expect(pool.proxy(next!)).toMatchObject({ state: "exhausted", usesSinceRest: 0 });
  });

  test("begins the rest of both exits when a lease from before the move uses up the quota", () => {
    const pool = new TestPool({ ...off, usage: { limit: 1, restMs: 10_000 } });
    pool.add(proxyLines(1), at("a"));
    const lease = pool.granted();
    const [other] = pool.add(proxyLines(1, 2), at("b"));
    move(pool, "b");
    const [next] = pool.add(proxyLines(1, 3), at("a"));
    expect(pool.refused().limitedBy).toMatchObject({ usage: 3 });
    pool.release(lease);
    expect([pool.proxy(other!).state, pool.proxy(next!).state]).toEqual(["exhausted", "exhausted"]);
    pool.wait(10_000);
    pool.granted();
    pool.granted();
    pool.refused();
  });

  test("continues the rest of an exit that has no proxies", () => {
    const pool = new TestPool({ ...off, usage: { limit: 1, restMs: 10_000 } });
    pool.add(proxyLines(1), at("a"));
    pool.release(pool.granted());
    move(pool, "b");
    const [next] = pool.add(proxyLines(1, 3), at("a"));
    expect(pool.proxy(next!)).toMatchObject({ state: "exhausted", until: pool.at + 10_000 });
  });

  test("forgets the uses that have run out, and then the exit without proxies", () => {
    const pool = new TestPool({ ...off, rate, lease: oneHour });
    pool.add(proxyLines(1), at("a"));
    const lease = pool.granted();
    move(pool, "b");
    move(pool, "c");
    expect([...pool.state.exits.keys()].sort()).toEqual(["a", "b", "c"]);
    pool.wait(3_600_000);
    expect(pool.state.exits.size).toBe(3);
    pool.wait(600_000);
    expect(pool.state.exits.size).toBe(3);
    pool.wait(1);
    expect([...pool.state.exits.keys()]).toEqual(["c"]);
    expect(pool.state.former.size).toBe(0);
    expect(pool.report(lease, { status: 200 })).toMatchObject({ ignored: "unknown-lease" });
  });

  test("restores an equal state from a snapshot, then and after all later events", () => {
    const pool = new TestPool({ ...off, rate: { limit: 6, windowMs: 60_000 }, usage: { limit: 9, restMs: 5000 } });
    const same = (): void => {
      const snapshot = JSON.stringify(snapshotOf(pool.state));
      expect(JSON.parse(JSON.stringify(snapshotOf(restore(JSON.parse(snapshot)))))).toEqual(JSON.parse(snapshot));
    };
    pool.add(proxyLines(1), at("a"));
    const lease = pool.granted({ uses: 3 });
    for (const exit of ["b", "a", "c", "a"]) {
      move(pool, exit);
      same();
      pool.wait(10);
    }
    pool.report(lease, { n: 1, status: 200 });
    pool.release(lease, 2);
    same();
    pool.add(proxyLines(1, 2), at("b"));
    move(pool, "b");
    pool.wait(120_000);
    same();
    pool.report(lease, { n: 2, status: 200 });
    same();
    pool.wait(3_600_000);
    same();
  });
});

test("keeps a usage quota from another exit while the rule is off, like any quota", () => {
  const usage = { limit: 10, restMs: 3_600_000 };
  for (const exit of ["a", "b"]) {
    const pool = new TestPool({ ...off, usage });
    const [id] = pool.add(proxyLines(1), at("a"));
    pool.release(pool.granted({ uses: 9 }));
    pool.add(proxyLines(1), at(exit));
    pool.policy({ usage: null });
    pool.wait(700_000);
    pool.granted();
    pool.policy({ usage });
    expect(pool.proxy(id!).usesSinceRest).toBe(10);
    pool.refused();
  }
});

test("keeps only one number of an exit's past in the end as its proxy moves on, and counts it", () => {
  const pool = new TestPool({ ...off, rate, usage: { limit: 20, restMs: 900_000 } });
  const [id] = pool.add(proxyLines(1), at("exit-0"));
  for (let n = 1; n <= 12; n++) {
    pool.release(pool.granted());
    pool.add(proxyLines(1), at(`exit-${n}`));
    pool.wait(30_000);
  }
  expect(pool.state.former.size).toBe(12);
  expect(pool.proxy(id!).usesSinceRest).toBe(12);
  pool.wait(900_000);
  expect([pool.state.former.size, pool.state.exits.size, pool.state.fading.size]).toEqual([0, 1, 0]);
  expect(pool.proxy(id!).usesSinceRest).toBe(12);
  // The exit takes it along, like everything that it counts.
  const [other] = pool.add(proxyLines(1, 2), at("b"));
  pool.add(proxyLines(1), at("b"));
  expect(pool.proxy(other!).usesSinceRest).toBe(12);
});

test("keeps uses that two exits count as one thing while both are used, however long ago they were made", () => {
  const pool = new TestPool({ ...off, usage: { limit: 20, restMs: 900_000 } });
  const [id] = pool.add(proxyLines(1), at("a"));
  pool.release(pool.granted({ uses: 5 }));
  pool.add(proxyLines(1), at("b"));
  const [other] = pool.add(proxyLines(1, 2), at("a"));
  pool.wait(2_000_000);
  expect([pool.proxy(id!).usesSinceRest, pool.proxy(other!).usesSinceRest]).toEqual([5, 5]);
  pool.add(proxyLines(1), at("a"));
  expect(pool.proxy(id!).usesSinceRest).toBe(5);
});

test("does not count uses again that an exit has rested for, however late they return from another exit", () => {
  const pool = new TestPool({ ...off, usage: { limit: 20, restMs: 900_000 } });
  const [id] = pool.add(proxyLines(1), at("a"));
  pool.release(pool.granted({ uses: 5 }));
  pool.add(proxyLines(1), at("b"));
  const [other] = pool.add(proxyLines(1, 2), at("a"));
  pool.release(pool.granted({ proxyId: other!, uses: 15 }));
  expect(pool.proxy(other!)).toMatchObject({ state: "exhausted", usesSinceRest: 0 });
  pool.wait(2_000_000);
  expect(pool.proxy(id!).usesSinceRest).toBe(5);
  pool.add(proxyLines(1), at("a"));
  expect(pool.proxy(id!).usesSinceRest).toBe(0);
  // No exit counts it any more, so it is forgotten.
  pool.wait(2_000_000);
  expect(pool.state.former.size).toBe(0);
});

test("moves a proxy's own limits along; after its return a wider window applies from one new window later", () => {
  const pool = new TestPool({ ...off, rate: { limit: 9, windowMs: 10_000 } });
  const limits = { rate: { limit: 1, windowMs: 3_600_000 } };
  const [id] = pool.add(proxyLines(1), { ...at("a"), limits });
  const [other] = pool.add(proxyLines(1, 2), at("a"));
  pool.report(pool.granted({ proxyId: id! }), { status: 200 });
  expect(pool.refused({ proxyId: other! }).limitedBy).toMatchObject({ rate: 1 });
  pool.add(proxyLines(1), at("b"));
  pool.wait(10_101);
  pool.report(pool.granted({ proxyId: other! }), { status: 200 });
  pool.add(proxyLines(1), at("a"));
  pool.refused();
  pool.wait(3_600_100);
  pool.refused();
  pool.wait(1);
  pool.granted();
  pool.refused();
});

test("leaves counted uses at the exit when one of two proxies moves", () => {
  const pool = new TestPool({ ...off, rate });
  const ids = pool.add(proxyLines(2), at("a"));
  for (let n = 0; n < 3; n++) pool.granted();
  pool.add(proxyLines(1), at("b"));
  expect(ids.map((id) => pool.proxy(id).usesInWindow)).toEqual([0, 3]);
  pool.add(proxyLines(1, 2), at("b"));
  expect(ids.map((id) => pool.proxy(id).usesInWindow)).toEqual([3, 3]);
  pool.add(proxyLines(1, 2), at("a"));
  expect(ids.map((id) => pool.proxy(id).usesInWindow)).toEqual([3, 3]);
});

test("finds when an exit has room by one look at its slots, however many have to run out", () => {
  const pool = new TestPool({ ...off, rate: { limit: 200, windowMs: 60_000 }, lease: { usesMax: 100 } });
  const [id] = pool.add(proxyLines(1), at("a"));
  pool.release(pool.granted({ uses: 100 }));
  pool.wait(1000);
  const lease = pool.granted({ uses: 100 });
  for (let n = 1; n <= 60; n++) pool.report(lease, { n, status: 200 });
  pool.add(proxyLines(1), at("b"));
  const looks = [vi.spyOn(Slots.prototype, "toArray"), vi.spyOn(Slots.prototype, "first")];
  const from = [1, 60, 61, 160, 161].map((minUses) => {
    looks.map((look) => look.mockClear());
    const ms = roomAt(pool.state, pool.state.proxies.get(id!)!.account, minUses) - pool.at;
    expect(looks.reduce((sum, look) => sum + look.mock.calls.length, 0)).toBeLessThanOrEqual(2);
    return ms;
  });
  for (const look of looks) look.mockRestore();
  expect(from).toEqual([60_101, 60_101, 61_101, 61_101, 152_101]);
});

describe("an exit with more proxies than can begin their rest in one commit", () => {
  const usage = { limit: 100, restMs: 60_000 };

  /**
   * All its uses are made, and its rest has begun for some of its proxies. Another proxy is alone elsewhere, with a
   * lease.
   */
  function spreading(): { pool: TestPool; alone: { leaseId: string } } {
    const pool = new TestPool({ ...off, usage, lease: oneHour });
    const lines = Array.from({ length: 1300 }, (_, i) => `198.18.${Math.floor(i / 250)}.${i % 250}:8080`);
    pool.add(lines, at("big"));
    const [id] = pool.add(proxyLines(1), at("alone"));
    const alone = pool.granted({ proxyId: id!, uses: 90 });
    pool.release(pool.granted({ uses: 100, exclude: [id!] }));
    expect(pool.state.spreading.size).toBe(1);
    return { pool, alone };
  }

  test("keeps counting uses that come to it while its rest is being spread", () => {
    const { pool, alone } = spreading();
    const [id] = pool.add(proxyLines(1), at("big"));
    expect(pool.proxy(id!).usesSinceRest).toBe(90);
    pool.wait(1);
    expect(pool.state.spreading.size).toBe(0);
    expect(pool.proxy(id!).usesSinceRest).toBe(90);
    pool.wait(60_000);
    pool.release(alone, 0);
    let uses = 0;
    for (let lease = pool.lease({ uses: 10 }); !isRefusal(lease); lease = pool.lease({ uses: 10 })) {
      pool.release(lease);
      uses += 10;
    }
    expect(uses).toBe(100);
  });

  test("begins its rest once, and all other proxies join it", () => {
    const { pool } = spreading();
    const facts = [...pool.facts];
    while (pool.state.spreading.size > 0) {
      pool.turn(tick);
      facts.push(...pool.facts);
    }
    const rests = facts.filter((event) => event.type === "RestBegan");
    expect(rests.length).toBe(1300);
    expect(rests.filter(({ exitUntil }) => exitUntil !== undefined).length).toBe(1);
    expect(new Set(rests.map(({ until, reasons }) => `${until} ${reasons.join()}`))).toEqual(
      new Set([`${pool.at + 60_000} usage`]),
    );
  });
});

test("ends uses with the rest when they come to a resting exit and ended in the instant in which the rest began", () => {
  const pool = new TestPool({ ...off, usage: { limit: 100, restMs: 60_000 } });
  const [id] = pool.add(proxyLines(1), at("alone"));
  const [other] = pool.add(proxyLines(1, 2), at("b"));
  const alone = pool.granted({ proxyId: id!, uses: 90 });
  pool.release(pool.granted({ proxyId: other!, uses: 100 }));
  pool.release(alone);
  pool.add(proxyLines(1), at("b"));
  expect(pool.proxy(other!)).toMatchObject({ state: "exhausted", usesSinceRest: 90 });
  pool.wait(60_000);
  expect(pool.granted({ uses: 20, minUses: 20 })).toMatchObject({ uses: 20 });
  expect(pool.proxy(other!).usesSinceRest).toBe(20);
});

test("treats all spellings of an address as one exit", () => {
  const pool = new TestPool({ ...off, rate: { limit: 1, windowMs: 10_000 } });
  pool.add(["[2001:db8::1]:80"]);
  pool.add(proxyLines(1), { labels: { exit: " 2001:DB8:0::1 " } });
  pool.granted();
  expect(pool.refused().limitedBy).toMatchObject({ rate: 2 });
});

test("moves slots and leases along when the exit of a lone proxy is renamed", () => {
  const pool = new TestPool({ ...off, rate: { limit: 2, windowMs: 10_000 }, concurrency: 2 });
  const [id] = pool.add(proxyLines(1));
  const lease = pool.granted();
  pool.granted();
  pool.add(proxyLines(1), { labels: { exit: "203.0.113.9" } });
  expect(pool.proxy(id!).exit).toBe("203.0.113.9");
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1, concurrency: 1 });
  pool.report(lease, { status: 200 });
  expect(pool.refused().limitedBy).toMatchObject({ rate: 1, concurrency: 0 });
});

test("a refusal says how many of the matching proxies share an exit, even after moves and retirements", () => {
  const pool = new TestPool({ ...off, rate: { limit: 1, windowMs: 60_000 } });
  pool.add(proxyLines(2), at("a"));
  const [third] = pool.add(proxyLines(1, 3), at("b"));
  const said = (): string | undefined => / (\d+ of the \d+) that match share an exit/.exec(pool.refused().message)?.[1];
  for (let n = 0; n < 2; n++) pool.report(pool.granted(), { status: 200 });
  expect(said()).toBe("2 of the 3");
  pool.add(proxyLines(1, 3), at("a"));
  expect(said()).toBe("3 of the 3");
  pool.retire(third!);
  expect(said()).toBe("2 of the 2");
  pool.retire(pool.add(proxyLines(1))[0]!);
  expect(said()).toBeUndefined();
});
