// How much of lists may be in memory at once.
import { getEventListeners } from "node:events";
import { setImmediate as immediately } from "node:timers/promises";
import { expect, test } from "vitest";
import { Room } from "../../services/sources/room.ts";
import { Pieces } from "../../transport/pieces.ts";

const never = new AbortController().signal;

test("gives one pool half of the room for lists, whatever its sources, and the others half of the remainder", () => {
  const room = new Room(1000);
  const [one, more] = [room.share("a"), room.share("a")];
  one.take(300);
  more.take(200);
  expect(() => one.take(1)).toThrow(/too much is being read/);
  const other = room.share("b");
  other.take(250);
  expect(() => other.take(1)).toThrow(/too much is being read/);
  room.share("c").take(125);
  one.free();
  expect(() => more.take(60)).not.toThrow();
  one.free();
  more.free();
  other.free();
  expect(() => room.share("d").take(437)).not.toThrow();
});

test("lets each pool parse one document at a time, two pools at once, and no pool that has stopped", async () => {
  const room = new Room();
  const begun: string[] = [];
  const ends: (() => void)[] = [];
  const parse = async (pool: string, stopping = never): Promise<void> => {
    const document = async function* (): AsyncGenerator<string> {
      begun.push(pool);
      await new Promise<void>((resolve) => ends.push(resolve));
      yield "";
    };
    for await (const _ of room.share(pool).parsing(document, stopping));
  };
  const stopping = new AbortController();
  const all = [parse("a"), parse("a"), parse("b"), parse("c")];
  const stopped = parse("d", stopping.signal);
  await immediately();
  expect(begun).toEqual(["a", "b"]);
  stopping.abort();
  await expect(stopped).rejects.toMatchObject({ code: "retry-later" });
  for (let ended = 0; ended < 4; ended++) {
    ends[ended]?.();
    await immediately();
  }
  await Promise.all(all);
  expect(begun.toSorted()).toEqual(["a", "a", "b", "c"]);
});

test("a document that waits for many turns keeps one listener", async () => {
  const room = new Room();
  const stopping = new AbortController();
  const document = async function* (): AsyncGenerator<string> {
    await immediately();
    yield "";
  };
  const read = async (pool: string, signal = never): Promise<void> => {
    for await (const _ of room.share(pool).parsing(document, signal));
  };
  const others = Array.from({ length: 8 }, () => read("a"));
  await read("a", stopping.signal);
  await Promise.all(others);
  expect(getEventListeners(stopping.signal, "abort")).toHaveLength(0);
});

test("joins small pieces of a body, because each is an object of a hundred bytes and more", () => {
  const pieces = new Pieces();
  for (let i = 0; i < 10_500; i++) pieces.add(Buffer.from(String(i % 10)));
  for (let i = 0; i < 1000; i++) pieces.add(Buffer.alloc(20_000, "x"));
  expect(pieces.bytes).toBe(10_500 + 20_000_000);
  expect(pieces.all().length).toBeLessThan(2000);
  const text = Buffer.concat(pieces.all()).toString();
  expect(text).toBe("0123456789".repeat(1050) + "x".repeat(20_000_000));
});
