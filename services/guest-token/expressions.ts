// Regular expressions out of policies, in a thread of their own: one that backtracks without end would otherwise hold up
// all that shares the process, and in `remuda up` that is the leaders. One at a time, each for a bounded time.
import { Worker } from "node:worker_threads";

type Settle = (found: string | undefined) => void;

export class Expressions {
  readonly #waiting = new Map<number, Settle>();
  #thread: Worker | undefined;
  #asked = 0;

  /** The first group of the first match, or all of it where there is no group. Undefined: nothing, or not in time. */
  firstMatch(text: string, regex: string): Promise<string | undefined> {
    this.#thread ??= this.#start();
    const id = ++this.#asked;
    this.#thread.postMessage({ id, text, regex });
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  /** Ends the thread. Whoever waits is told that nothing was found. */
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
    started.on("error", () => {}); // It ends then.
    started.on("exit", () => {
      this.#thread = undefined;
      for (const settle of this.#waiting.values()) settle(undefined);
      this.#waiting.clear();
    });
    return started;
  }
}
