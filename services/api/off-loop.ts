// Reads long bodies without blocking the process: if everything runs in one process, every lease would wait. A JSON
// document must be parsed in one go, which takes a second for 32 MiB. A thread does that, and hands the items over in
// batches, one per request. A body that is read piece by piece pauses from time to time.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { ListScheme } from "../../protocol/proxy.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import { Refused } from "./refusal.ts";

/** The input of a thread. */
export interface LongBody {
  what: "proxies" | "outcomes";
  bytes: Uint8Array;
  contentType?: string;
  scheme?: ListScheme | undefined;
}

/** A thread's answer to each request. */
export type Batch = { items: unknown[] } | { refusal: Refusal } | { end: true };

/** Starting a thread takes longer than parsing this much. */
const longBytes = 256 * 1024;
/** Each may need ten times its body in memory. */
const threadsMax = 2;
const pauseAfterMs = 5;

let threads = 0;
const waiting: (() => void)[] = [];

export function isLong(bytes: Uint8Array): boolean {
  return bytes.length > longBytes;
}

/** @throws Refused if the body is not valid, before the first item. */
export async function* readOffLoop<T>(body: LongBody): AsyncGenerator<T> {
  if (threads >= threadsMax) await new Promise<void>((resolve) => waiting.push(resolve));
  else threads++;
  const worker = new Worker(new URL("./long-body.ts", import.meta.url), { workerData: body });
  try {
    for (;;) {
      worker.postMessage("next");
      const [batch] = (await once(worker, "message")) as [Batch]; // `long-body.ts` posts this type.
      if ("refusal" in batch) throw new Refused(batch.refusal);
      if ("end" in batch) return;
      yield* batch.items as T[]; // The items of this kind of body.
    }
  } finally {
    await worker.terminate();
    const next = waiting.shift();
    if (next === undefined) threads--;
    else next();
  }
}

/** Lets other work run every few milliseconds. */
export async function* withPauses<T>(items: Iterable<T>): AsyncGenerator<T> {
  let since = performance.now();
  for (const item of items) {
    yield item;
    if (performance.now() - since < pauseAfterMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    since = performance.now();
  }
}
