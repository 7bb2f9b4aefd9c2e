// A follower of a pool, without a broker: the test says what it hears. And which pickers follow a pool.
import { expect, onTestFinished, test, vi } from "vitest";
import { ledgerLevel } from "../../events/level.ts";
import { Fault } from "../../runtime/fault.ts";
import { Crew, followersOf } from "../../services/picker/crew.ts";
import { Follower } from "../../services/picker/follower.ts";
import type { Successor } from "../../services/picker/hand-over.ts";

function follow() {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const said: string[] = [];
  const asked: ((led: boolean) => void)[] = [];
  const gone = { tell: (): void => {} };
  const following = Promise.withResolvers<void>();
  const gate = { subscribe: async () => void said.push("subscribe"), drop: () => {}, clear: () => said.push("clear") };
  const prepared = {
    gate,
    follow: () => following.promise,
    term: 3,
    readOn: async (_term?: number) => said.push("readOn") > 0,
    finish: async () => {
      said.push("finish");
      return { pool: "shop" };
    },
    end: () => said.push("end"),
  };
  const wanted = { is: true };
  const follower = new Follower();
  const stopping = new AbortController();
  const served = follower.follow({
    prepare: async () => prepared as never,
    isWanted: () => wanted.is,
    isLed: () => new Promise<boolean>((resolve) => asked.push(resolve)),
    onGone(callback) {
      gone.tell = callback;
      return () => said.push("off");
    },
    signal: stopping.signal,
  });
  const settle = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);
  return { said, asked, prepared, gone, following, follower, wanted, served, stopping, settle };
}

test("reads what is new, and claims at once, when the pool has no leader any more", async () => {
  const { said, asked, served, settle } = follow();
  await settle();
  asked[0]?.(true);
  await settle(1000);
  expect(asked).toHaveLength(2);
  expect(said).toEqual([]);
  asked[1]?.(false);
  expect(await served).toEqual({ pool: "shop", handed: [] });
  expect(said).toEqual(["readOn", "finish", "subscribe", "off"]);
});

test("goes on following if another follower has claimed the pool since it was asked", async () => {
  const { said, asked, prepared, served, settle } = follow();
  await settle();
  let read: unknown;
  prepared.readOn = async (term) => {
    read = term;
    return false;
  };
  asked[0]?.(false);
  await settle(1000);
  expect([said, read]).toEqual([[], 3]);
  prepared.readOn = async () => true;
  asked[1]?.(false);
  expect(await served).toEqual({ pool: "shop", handed: [] });
});

test("asks again at once when the leader's process is gone, though the last question has no answer", async () => {
  const { asked, gone, served, settle } = follow();
  await settle();
  gone.tell();
  await settle();
  expect(asked).toHaveLength(2);
  gone.tell(); // Again and again, until it is asked.
  await settle();
  expect(asked).toHaveLength(2);
  asked[1]?.(true); // It is there again.
  await settle();
  gone.tell();
  await settle();
  asked[2]?.(false);
  expect(await served).toMatchObject({ pool: "shop" });
});

test("succeeds a leader that leaves, and goes on following if another picker is chosen", async () => {
  const { said, asked, follower, served, settle } = follow();
  await settle();
  const waiting = [{ verb: "cancel", body: {} }];
  const successor = (isChosen: boolean): Successor =>
    ({
      async succeed() {
        said.push("succeed");
        return { isChosen, estate: isChosen ? { noted: [], waiting } : undefined };
      },
    }) as unknown as Successor;
  follower.leaving(successor(false));
  await settle();
  expect(said).toEqual(["succeed"]);
  asked.at(-1)?.(true);
  await settle();
  follower.leaving(successor(true));
  expect(await served).toEqual({ pool: "shop", handed: waiting });
  expect(said).toEqual(["succeed", "succeed", "readOn", "finish", "off"]);
});

test("keeps the state while the pool may have no leader, though it is not wanted any more", async () => {
  const { asked, gone, wanted, served, settle } = follow();
  await settle();
  wanted.is = false;
  gone.tell();
  await settle();
  asked[1]?.(false);
  expect(await served).toEqual({ pool: "shop", handed: [] });
});

test("ends if it is not wanted any more, or if it cannot follow", async () => {
  const first = follow();
  await first.settle();
  first.wanted.is = false;
  first.asked[0]?.(true);
  expect(await first.served).toBeUndefined();
  expect(first.said).toEqual(["off", "end"]);
  const second = follow();
  await second.settle();
  second.following.reject(new Error("the ledger is damaged"));
  await expect(second.served).rejects.toThrow("damaged");
  expect(second.said).toEqual(["off", "end"]);
});

test("ends, to be folded anew, if a commit does not follow those that it has read", async () => {
  const { said, following, served, settle } = follow();
  await settle();
  following.reject(new Fault("stop-damaged", "The ledger of pool shop is damaged."));
  expect(await served).toBeUndefined();
  expect(said).toEqual(["off", "end"]);
});

test("ends silently when it is stopped", async () => {
  const { said, asked, served, stopping, settle } = follow();
  await settle();
  asked[0]?.(true);
  await settle();
  stopping.abort();
  expect(await served).toBeUndefined();
  expect(said).toEqual(["off", "end"]);
});

test("knows a level of ledgers only if all running pickers have announced it", () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const said: { level?: number }[] = [];
  let hear = (_presence: object): void => {};
  const nc = {
    isClosed: () => false,
    publish: (_subject: string, text: string) => void said.push(JSON.parse(text)),
    subscribe(_subject: string, { callback }: { callback: (error: null, message: object) => void }) {
      hear = (presence) => callback(null, { json: () => presence });
      return { unsubscribe() {} };
    },
  };
  let now = 0;
  const crew = new Crew({ id: "me", bus: { nc, up: true } as never, clock: { monotonic: () => now } });
  onTestFinished(() => crew.stop());
  expect(said).toMatchObject([{ level: ledgerLevel }]);
  expect(crew.knows(ledgerLevel)).toBe(true);
  hear({ picker: "new", level: ledgerLevel });
  hear({ picker: "old" }); // A version that announces none.
  expect([crew.knows(1), crew.knows(2)]).toEqual([true, false]);
  hear({ picker: "old", hasLeft: true });
  expect(crew.knows(2)).toBe(true);
  hear({ picker: "old" });
  now += 10_000; // Nothing was heard of it since.
  expect(crew.knows(2)).toBe(true);
});

test("two pickers beside the leader follow a pool; they are spread evenly, and few change when a picker goes", () => {
  const pickers = Array.from({ length: 6 }, (_, i) => `picker-${i}`);
  const pools = Array.from({ length: 600 }, (_, i) => `pool-${i}`);
  const leader = "picker-0";
  const counts = new Map<string, number>();
  let moved = 0;
  for (const pool of pools) {
    const followers = followersOf(pool, { leader, pickers });
    expect(new Set(followers).size).toBe(2);
    expect(followers).not.toContain(leader);
    expect(followersOf(pool, { leader, pickers: pickers.toReversed() })).toEqual(followers);
    for (const id of followers) counts.set(id, (counts.get(id) ?? 0) + 1);
    const [last = "", ...others] = pickers.toReversed();
    const after = followersOf(pool, { leader, pickers: others });
    moved += followers.filter((id) => id !== last && !after.includes(id)).length;
  }
  for (const count of counts.values()) expect(Math.abs(count - 240)).toBeLessThan(60);
  expect(moved).toBe(0);
  expect(followersOf("lone", { leader, pickers: [leader] })).toEqual([]);
});
