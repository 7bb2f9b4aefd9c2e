// A source's follower without a pool on NATS.
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { sourceSchema } from "../../protocol/source.ts";
import type { Bus } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Follower, type FollowerPorts } from "../../services/sources/follower.ts";
import { PoolAway, type PoolPort } from "../../services/sources/pool.ts";
import { Refill } from "../../services/sources/refill.ts";
import { Room } from "../../services/sources/room.ts";
import { Seen } from "../../services/sources/seen.ts";
import { Sources } from "../../services/sources/sources.ts";
import { HandClock } from "../kit/hand-clock.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { eventually } from "../kit/poll.ts";

/** A follower of a list in a file, with one proxy. The file is not being written. */
async function followerOver(
  pools: Pick<PoolPort, "openedAt">,
  ports: Partial<Pick<FollowerPorts, "clock" | "share" | "onDefect">> = {},
): Promise<Follower> {
  const folder = mkdtempSync(join(tmpdir(), "follower-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "list.txt");
  writeFileSync(path, "10.0.0.1:80\n");
  utimesSync(path, 1, 1);
  const added = { added: 1, already: 0, updated: 0, rejected: [], rejectedCount: 0, ids: ["p_1"] };
  const used: Partial<PoolPort> = { ...pools, add: async () => added };
  const pause = async () => {};
  const follower = new Follower(sourceSchema.parse({ name: "list", from: { kind: "file", path } }), {
    pools: used as PoolPort, // A look at this list uses no more of it.
    ...{ pause, clock: systemClock, outbound: loopbackAllowed, share: new Room().share("p") },
    seen: await Seen.open(folder, "list", pause),
    namedElsewhere: () => false,
    onTrouble: () => {},
    onDefect: () => {},
    ...ports,
  });
  onTestFinished(() => follower.stop());
  return follower;
}

test("reads the whole list for a caller that wants it, though another caller looks at the same moment", async () => {
  let readings = 0;
  // Asked for each list that is read, and not for an unchanged one.
  const follower = await followerOver({ openedAt: async () => ++readings && 1 });
  await follower.lookNow();
  expect(readings).toBe(1);
  await Promise.all([follower.lookNow(), follower.lookNow({ whole: true })]);
  expect(readings).toBe(2);
});

test("is started again after a bug, with growing pauses, and says so until a look succeeds", async () => {
  const clock = new HandClock();
  let planted = 2;
  const bugs: unknown[] = [];
  const pools = {
    async openedAt() {
      if (planted-- > 0) throw new TypeError("planted");
      return 1;
    },
  };
  const follower = await followerOver(pools, { clock, onDefect: (part, bug) => bugs.push(part, bug) });
  await follower.lookNow();
  expect(bugs).toMatchObject(["source", { message: "planted" }]);
  clock.move(100);
  expect(follower.view().trouble?.why).toContain("a bug");
  await eventually(() => expect(bugs).toHaveLength(4));
  clock.move(199);
  expect(follower.isLooking).toBe(false);
  clock.move(1);
  await eventually(() => expect(follower.view()).toMatchObject({ last: { added: 1 } }));
  expect(follower.view().trouble).toBeUndefined();
});

test("keeps the room of a list until the pool has got it, and leaves the room when it is followed no more", async () => {
  let isAway = true;
  const pools = {
    async openedAt() {
      if (isAway) throw new PoolAway("planted");
      return 1;
    },
  };
  const room = new Room(2 * 12); // The list and nothing more.
  const fits = (): boolean => {
    const other = room.share("p");
    try {
      other.take(1);
      other.free();
      return true;
    } catch {
      return false;
    }
  };
  const follower = await followerOver(pools, { clock: new HandClock(), share: room.share("p") });
  await follower.lookNow();
  expect([follower.view().trouble?.why, fits()]).toEqual(["planted", false]);
  await follower.lookNow(); // It is read again, in the same room.
  expect(fits()).toBe(false);
  isAway = false;
  await follower.lookNow();
  expect([follower.view().last?.added, fits()]).toEqual([1, true]);
  isAway = true;
  await follower.lookNow({ whole: true });
  expect(fits()).toBe(false);
  await follower.stop();
  expect(fits()).toBe(true);
});

test("a bug in the check of one pool's leasableMin does not keep the other pools from being refilled", async () => {
  const bugs: string[] = [];
  const looked: string[] = [];
  const refill = new Refill({
    pools: {
      async leasable(pool: string) {
        if (pool === "bad") throw new TypeError("planted");
        return 0;
      },
    },
    ...{ clock: new HandClock(), outbound: loopbackAllowed, onTrouble: () => {} },
    onDefect: (pool) => bugs.push(pool),
  });
  const followerOf = (pool: string) => {
    const from = { kind: "file", path: "list.txt" };
    const source = sourceSchema.parse({ name: "list", pool, from, refill: { leasableMin: 1 } });
    return { source, isLooking: false, isPutOff: false, lookNow: async () => void looked.push(pool) };
  };
  await refill.look(["bad", "good"].map(followerOf));
  expect([bugs, looked]).toEqual([["bad"], ["good"]]);
});

test("answers no request after it was stopped in the middle of its start, and leaves its place", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sources-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const subscribed: string[] = [];
  const nc = { subscribe: (subject: string) => subscribed.push(subject), flush: async () => {} };
  const front = { nc } as unknown as Bus; // A service without sources uses no more of it.
  const pools = {} as PoolPort; // Likewise.
  const begun = (): Sources =>
    new Sources({
      ...{ front, pools, clock: new HandClock(), log: pino({ level: "silent" }) },
      ...{ outbound: loopbackAllowed, file: join(folder, "sources.json"), folder },
    });
  const sources = begun();
  const starting = sources.start();
  await sources.stop();
  await starting;
  expect(subscribed).toEqual([]);
  await begun().start(); // The place is free.
  expect(subscribed).not.toEqual([]);
});
