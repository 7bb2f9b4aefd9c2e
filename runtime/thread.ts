// A thread that makes a long result piece by piece. It posts one piece per request, so it is never ahead of its reader.
// Its failure reaches the reader. It never ends the process, even if the reader has already left.
import { once } from "node:events";
import { type Transferable, Worker } from "node:worker_threads";
import { codeOf } from "./fault.ts";

export interface ThreadOptions {
  /** The script. It answers each message with one piece. */
  script: URL;
  /** Its `workerData`. */
  input: unknown;
  /** Parts of the input that are passed on, and not copied. */
  passed?: Transferable[];
  /** Beyond it the thread ends, and `isOutOfMemory` tells this of the error. */
  megabytesMax: number;
  stopping: AbortSignal;
}

/**
 * Without end: the reader knows the last piece, and leaves. Then the thread is ended.
 * @throws the thread's error; an AbortError when it is to stop.
 */
export async function* piecesOf<Piece>(options: ThreadOptions): AsyncGenerator<Piece, void> {
  const { script, input, passed = [], megabytesMax, stopping } = options;
  const worker = new Worker(script, {
    workerData: input,
    transferList: passed,
    resourceLimits: { maxOldGenerationSizeMb: megabytesMax },
  });
  // A thread can fail while no reader waits for it: between two requests, or after the reader has left.
  const failures: unknown[] = [];
  worker.on("error", (error) => failures.push(error));
  try {
    for (;;) {
      if (failures.length > 0) throw failures[0];
      worker.postMessage("next");
      const [piece] = await once(worker, "message", { signal: stopping });
      yield piece;
    }
  } finally {
    await worker.terminate();
  }
}

export function isOutOfMemory(error: unknown): boolean {
  return codeOf(error) === "ERR_WORKER_OUT_OF_MEMORY";
}
