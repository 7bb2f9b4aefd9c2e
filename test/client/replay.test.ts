// Request bodies that a second try sends again. No chunk may be missing, however the tries overlap.
import { expect, test } from "vitest";
import { replayOf } from "../../client/replay.ts";

/** A source whose chunks come when the test says so. */
function slowSource(): { source: AsyncIterable<Uint8Array>; give(text: string): void; end(): void } {
  const waiting: ((result: IteratorResult<Uint8Array>) => void)[] = [];
  const ready: IteratorResult<Uint8Array>[] = [];
  const put = (result: IteratorResult<Uint8Array>): void => {
    const first = waiting.shift();
    if (first === undefined) ready.push(result);
    else first(result);
  };
  const next = (): Promise<IteratorResult<Uint8Array>> => {
    const first = ready.shift();
    return first === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(first);
  };
  return {
    source: { [Symbol.asyncIterator]: () => ({ next }) },
    give: (text) => put({ done: false, value: Buffer.from(text) }),
    end: () => put({ done: true, value: undefined }),
  };
}

const readerOf = (replay: { body: unknown }): AsyncIterator<Uint8Array> =>
  (replay.body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator](); // A body from a source can be iterated.

async function restOf(reader: AsyncIterator<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for (let next = await reader.next(); next.done !== true; next = await reader.next()) chunks.push(next.value);
  return Buffer.concat(chunks).toString();
}

test("gives the next try the chunk for which a failed try still waits", async () => {
  const { source, give, end } = slowSource();
  const replay = replayOf(source as never); // undici's type has no iterables.
  const failed = readerOf(replay);
  give("one ");
  await failed.next();
  const isGiven = failed.next();
  const second = restOf(readerOf(replay));
  give("two ");
  give("three");
  end();
  await isGiven;
  expect(await second).toBe("one two three");
});

test("gives the next try a chunk that came while it was sending the kept ones", async () => {
  const { source, give, end } = slowSource();
  const replay = replayOf(source as never); // As above.
  const failed = readerOf(replay);
  give("one ");
  await failed.next();
  const isGiven = failed.next();
  const second = readerOf(replay);
  const first = await second.next();
  give("x".repeat(64 * 1024));
  await isGiven;
  expect(replay.repeatable).toBe(false);
  give(" end");
  end();
  expect(Buffer.from(first.value as Uint8Array).toString() + (await restOf(second))).toBe(
    `one ${"x".repeat(64 * 1024)} end`,
  );
});

test("fails the next try as well if the source failed", async () => {
  const source = (async function* () {
    yield Buffer.from("one ");
    throw new Error("the source broke");
  })();
  const replay = replayOf(source as never); // As above.
  await expect(restOf(readerOf(replay))).rejects.toThrow("the source broke");
  await expect(restOf(readerOf(replay))).rejects.toThrow("the source broke");
});
