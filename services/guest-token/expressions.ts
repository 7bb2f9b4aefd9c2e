// Runs regular expressions of policies in a separate thread. One that backtracks without end would otherwise block
// everything in the process. In `remuda up` that includes the leaders. Expressions run one at a time, each for a
// bounded time. The pools take turns, because one pool may have hundreds that take their whole time.
import { Worker } from "node:worker_threads";

interface Asked {
  text: string;
  regex: string;
  settle: (found: string | undefined) => void;
}

export class Expressions {
  /** By pool. The first pool is the next in turn. */
  readonly #queues = new Map<string, Asked[]>();
  #running: Asked | undefined;
  #thread: Worker | undefined;

  /** The expressions of one pool. */
  of(pool: string): Pick<Expressions, "firstMatch"> {
    return { firstMatch: (text, regex) => this.#firstMatch(pool, { text, regex }) };
  }

  /**
   * The first group of the first match, or the whole match if there is no group. Undefined if there is no match, or not
   * in time.
   */
  firstMatch(text: string, regex: string): Promise<string | undefined> {
    return this.#firstMatch("", { text, regex });
  }

  /** Ends the thread. Waiting callers get no match. */
  close(): void {
    void this.#thread?.terminate();
  }

  #firstMatch(pool: string, asked: Omit<Asked, "settle">): Promise<string | undefined> {
    return new Promise((settle) => {
      const queue = this.#queues.get(pool) ?? [];
      queue.push({ ...asked, settle });
      this.#queues.set(pool, queue);
      this.#next();
    });
  }

  #next(): void {
    const [pool, queue] = this.#queues.entries().next().value ?? [];
    if (this.#running !== undefined || pool === undefined || queue === undefined) return;
    this.#running = queue.shift();
    this.#queues.delete(pool);
    if (queue.length > 0) this.#queues.set(pool, queue); // Behind the others.
    if (this.#running === undefined) return;
    const { text, regex } = this.#running;
    this.#thread ??= this.#start();
    this.#thread.postMessage({ text, regex });
  }

  #start(): Worker {
    const started = new Worker(new URL("./expression-thread.ts", import.meta.url), { execArgv: [] });
    started.unref();
    started.on("message", ({ found }: { found: string | undefined }) => {
      const ended = this.#running;
      this.#running = undefined;
      ended?.settle(found);
      this.#next();
    });
    started.on("error", () => {}); // The thread ends after an error.
    started.on("exit", () => {
      this.#thread = undefined;
      const ended = [this.#running, ...[...this.#queues.values()].flat()];
      this.#running = undefined;
      this.#queues.clear();
      for (const each of ended) each?.settle(undefined);
    });
    return started;
  }
}
