// A thread that fails while no reader waits for it.
import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { Answering, piecesOf } from "../../runtime/thread.ts";

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

test("answers several questions, and begins again with the next one after it has failed", async () => {
  const script = new URL(
    `data:text/javascript,${encodeURIComponent(`
      import { parentPort } from "node:worker_threads";
      parentPort.on("message", ({ id, question }) => {
        if (question === "fail") throw new Error("planted");
        if (question !== "never") parentPort.postMessage({ id, answer: question.toUpperCase() });
      });`)}`,
  );
  const thread = new Answering<string, string>({ script, input: undefined, megabytesMax: 64 });
  const never = thread.ask("never");
  expect(await Promise.all([thread.ask("a"), thread.ask("b")])).toEqual(["A", "B"]);
  const failed = await Promise.allSettled([never, thread.ask("fail")]);
  expect(failed.map((each) => "reason" in each && String(each.reason))).toEqual(Array(2).fill("Error: planted"));
  expect(await thread.ask("c")).toBe("C");
  await thread.stop();
});
