// Regular expressions out of policies, in a thread of their own: one that backtracks without end would otherwise hold up
// all that shares the process, and in `remuda up` that is the leaders. One at a time, each for a bounded time.
import { Worker } from "node:worker_threads";

type Settle = (found: string | undefined) => void;

let thread: Worker | undefined;
let asked = 0;
const waiting = new Map<number, Settle>();

/** The first group of the first match, or all of it where the expression has none. Undefined: nothing, or not in time. */
export function firstMatch(text: string, regex: string): Promise<string | undefined> {
  thread ??= start();
  const id = ++asked;
  thread.postMessage({ id, text, regex });
  return new Promise((resolve) => waiting.set(id, resolve));
}

function start(): Worker {
  const started = new Worker(new URL("./expression-thread.ts", import.meta.url), { execArgv: [] });
  started.unref();
  started.on("message", ({ id, found }: { id: number; found: string | undefined }) => {
    waiting.get(id)?.(found);
    waiting.delete(id);
  });
  const end = (): void => {
    if (thread !== started) return;
    thread = undefined;
    for (const settle of waiting.values()) settle(undefined);
    waiting.clear();
  };
  started.on("error", end);
  started.on("exit", end);
  return started;
}
