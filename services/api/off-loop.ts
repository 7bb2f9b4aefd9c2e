// Long bodies, read without holding up the process: where everything runs in one, every lease waits for what is done here.
// A JSON document must be parsed in one go, which takes a second for 32 MiB: that is done by a thread, which hands over
// what it read in batches, each when it is asked for. What is read piece by piece pauses now and then.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { ListScheme } from "../../protocol/proxy.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import { Refused } from "./refusal.ts";

/** What a thread is told. */
export interface LongBody {
  what: "proxies" | "outcomes";
  bytes: Uint8Array;
  contentType?: string;
  scheme?: ListScheme | undefined;
}

/** What a thread answers each time that it is asked. */
export type Batch = { items: unknown[] } | { refusal: Refusal } | { end: true };

/** To start a thread takes longer than to parse so much. */
const longBytes = 256 * 1024;
/** Each may need ten times its body in memory. */
const threadsMax = 2;
const pauseAfterMs = 5;

let threads = 0;
const waiting: (() => void)[] = [];

export function isLong(bytes: Uint8Array): boolean {
  return bytes.length > longBytes;
}

/** @throws Refused where it is not what it should be, before the first item. */
export async function* readOffLoop<T>(body: LongBody): AsyncGenerator<T> {
  if (threads >= threadsMax) await new Promise<void>((resolve) => waiting.push(resolve));
  else threads++;
  const worker = new Worker(new URL("./long-body.ts", import.meta.url), { workerData: body });
  try {
    for (;;) {
      worker.postMessage("next");
      const [batch] = (await once(worker, "message")) as [Batch]; // As `long-body.ts` posts it.
      if ("refusal" in batch) throw new Refused(batch.refusal);
      if ("end" in batch) return;
      yield* batch.items as T[]; // Of this kind of body.
    }
  } finally {
    await worker.terminate();
    const next = waiting.shift();
    if (next === undefined) threads--;
    else next();
  }
}

/** Lets others have their turn every few milliseconds. */
export async function* withPauses<T>(items: Iterable<T>): AsyncGenerator<T> {
  let since = performance.now();
  for (const item of items) {
    yield item;
    if (performance.now() - since < pauseAfterMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    since = performance.now();
  }
}
