// Reads long bodies without blocking the process: if everything runs in one process, every lease would wait. A JSON
// document must be parsed in one go, which takes a second for 32 MiB. A thread does that, and hands the items over in
// batches, one per request. A body that is read piece by piece pauses from time to time.
import type { ListScheme } from "../../protocol/proxy.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import { isOutOfMemory, piecesOf } from "../../runtime/thread.ts";
import { Refused } from "./refusal.ts";
import { stopped } from "./slices.ts";

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
const threadMegabytesMax = 1024;
const pauseAfterMs = 5;

let threads = 0;
const waiting: (() => void)[] = [];

export function isLong(bytes: Uint8Array): boolean {
  return bytes.length > longBytes;
}

/**
 * The body's bytes are passed on to the thread, and are empty afterwards.
 * @throws Refused if the body is not valid, before the first item; or if it is to stop.
 */
export async function* readOffLoop<T>(body: LongBody, stopping: AbortSignal): AsyncGenerator<T> {
  await place(stopping);
  const { buffer, byteLength } = body.bytes;
  const batches = piecesOf<Batch>({
    script: new URL("./long-body.ts", import.meta.url),
    input: body,
    // A buffer that others share is copied.
    passed: buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [],
    megabytesMax: threadMegabytesMax,
    stopping,
  });
  try {
    for await (const batch of batches) {
      if ("refusal" in batch) throw new Refused(batch.refusal);
      if ("end" in batch) return;
      yield* batch.items as T[]; // The items of this kind of body.
    }
  } catch (error) {
    if (stopping.aborted) throw new Refused(stopped);
    if (!isOutOfMemory(error)) throw error;
    throw new Refused(
      refuse("too-large", "This JSON needs too much memory to be read. Send it in parts, or as lines."),
    );
  } finally {
    const next = waiting.shift();
    if (next === undefined) threads--;
    else next();
  }
}

/** Resolves when there is room for a thread. @throws Refused if it is to stop first. */
async function place(stopping: AbortSignal): Promise<void> {
  if (stopping.aborted) throw new Refused(stopped);
  if (threads < threadsMax) return void threads++;
  await new Promise<void>((resolve, reject) => {
    const begin = (): void => {
      stopping.removeEventListener("abort", leave);
      resolve();
    };
    const leave = (): void => {
      waiting.splice(waiting.indexOf(begin), 1);
      reject(new Refused(stopped));
    };
    waiting.push(begin);
    stopping.addEventListener("abort", leave, { once: true });
  });
}

/** Lets other work run every few milliseconds. @throws Refused if it is to stop. */
export async function* withPauses<T>(items: Iterable<T>, stopping: AbortSignal): AsyncGenerator<T> {
  let since = performance.now();
  for (const item of items) {
    yield item;
    if (performance.now() - since < pauseAfterMs) continue;
    await turn();
    if (stopping.aborted) throw new Refused(stopped);
    since = performance.now();
  }
}

const paused: (() => void)[] = [];

/** Jobs that pause go on one at a time, with other work in between, however many they are. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    paused.push(resolve);
    if (paused.length === 1) setImmediate(goOn);
  });
}

function goOn(): void {
  paused.shift()?.();
  if (paused.length > 0) setImmediate(goOn);
}
