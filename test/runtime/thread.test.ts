// A thread that fails while no reader waits for it.
import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { piecesOf } from "../../runtime/thread.ts";

/** It answers each request, and then does this. */
const threadThat = (then: string) =>
  piecesOf<string>({
    script: new URL(
      `data:text/javascript,${encodeURIComponent(`
        import { parentPort, workerData } from "node:worker_threads";
        parentPort.on("message", () => {
          parentPort.postMessage(workerData);
          setImmediate(() => { ${then} });
        });`)}`,
    ),
    input: "piece",
    megabytesMax: 64,
    stopping: new AbortController().signal,
  });

test("gives one piece per request", async () => {
  const pieces = threadThat("");
  expect([await pieces.next(), await pieces.next()]).toEqual(Array(2).fill({ value: "piece", done: false }));
  await pieces.return();
});

test("a failure between two requests is the next request's, and does not end the process", async () => {
  const pieces = threadThat('throw new Error("planted")');
  await pieces.next();
  await pause(300);
  await expect(pieces.next()).rejects.toThrow("planted");
});

test("a failure after the reader has left does not end the process", async () => {
  const pieces = threadThat('throw new Error("planted")');
  await pieces.next();
  await pause(300);
  await pieces.return();
});
