// Runs regular expressions of policies in a separate thread. One that backtracks without end would otherwise block
// everything in the process. In `remuda up` that includes the leaders. Expressions run one at a time, each for a
// bounded time.
import { Worker } from "node:worker_threads";

type Settle = (found: string | undefined) => void;

export class Expressions {
  readonly #waiting = new Map<number, Settle>();
  #thread: Worker | undefined;
  #asked = 0;

  /**
   * The first group of the first match, or the whole match if there is no group. Undefined if there is no match, or not
   * in time.
   */
  firstMatch(text: string, regex: string): Promise<string | undefined> {
    this.#thread ??= this.#start();
    const id = ++this.#asked;
    this.#thread.postMessage({ id, text, regex });
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  /** Ends the thread. Waiting callers get no match. */
  close(): void {
    void this.#thread?.terminate();
  }

  #start(): Worker {
    const started = new Worker(new URL("./expression-thread.ts", import.meta.url), { execArgv: [] });
    started.unref();
    started.on("message", ({ id, found }: { id: number; found: string | undefined }) => {
      this.#waiting.get(id)?.(found);
      this.#waiting.delete(id);
    });
    started.on("error", () => {}); // The thread ends after an error.
    started.on("exit", () => {
      this.#thread = undefined;
      for (const settle of this.#waiting.values()) settle(undefined);
      this.#waiting.clear();
    });
    return started;
  }
}
