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

/**
 * A thread that answers questions, several at the same time. It begins with the first question. If it fails, its open
 * questions fail, and the next question begins another one. It is given `{id, question}`, and answers `{id, answer}`.
 */
export class Answering<Question, Answer> {
  readonly #options: Pick<ThreadOptions, "script" | "input" | "megabytesMax">;
  readonly #open = new Map<number, { resolve: (answer: Answer) => void; reject: (error: unknown) => void }>();
  #worker: Worker | undefined;
  #last = 0;

  constructor(options: Pick<ThreadOptions, "script" | "input" | "megabytesMax">) {
    this.#options = options;
  }

  /** @throws the thread's error. */
  ask(question: Question): Promise<Answer> {
    this.#worker ??= this.#begin();
    const id = ++this.#last;
    const answer = new Promise<Answer>((resolve, reject) => this.#open.set(id, { resolve, reject }));
    this.#worker.postMessage({ id, question });
    return answer;
  }

  /** Open questions get no answer. */
  async stop(): Promise<void> {
    this.#open.clear();
    await this.#worker?.terminate();
  }

  #begin(): Worker {
    const { script, input, megabytesMax } = this.#options;
    const worker = new Worker(script, {
      workerData: input,
      resourceLimits: { maxOldGenerationSizeMb: megabytesMax },
    });
    worker.unref();
    worker.on("message", ({ id, answer }: { id: number; answer: Answer }) => {
      this.#open.get(id)?.resolve(answer);
      this.#open.delete(id);
    });
    let failure: unknown = new Error("the thread has ended");
    worker.on("error", (error) => {
      failure = error;
    });
    worker.on("exit", () => {
      this.#worker = undefined;
      for (const { reject } of this.#open.values()) reject(failure);
      this.#open.clear();
    });
    return worker;
  }
}

export function isOutOfMemory(error: unknown): boolean {
  return codeOf(error) === "ERR_WORKER_OUT_OF_MEMORY";
}
