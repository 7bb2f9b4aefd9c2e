// One process of the service, as a supervisor runs it: if it ends, it is started again.
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../runtime/fault.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";

const pauseMs = 500;
const lastLines = 15;

export class Piece {
  /** Each end that was not asked for, with what the process said last. */
  readonly ends: string[] = [];
  /** Of all its processes so far. */
  readonly said: string[] = [];
  readonly #start: () => Promise<RemudaProcess>;
  #running: RemudaProcess | undefined;
  #isWanted = false;
  #isSignalled = false;
  #life: Promise<void> = Promise.resolve();

  /** @param given as for startRemuda, read at each start. */
  constructor(given: () => Parameters<typeof startRemuda>[0]) {
    this.#start = () => startRemuda(given());
  }

  /** Undefined while it does not run, or is not ready. */
  get running(): RemudaProcess | undefined {
    return this.#running;
  }

  start(): void {
    this.#isWanted = true;
    this.#life = this.#keep();
  }

  /** SIGKILL and SIGTERM: it is started again. */
  signal(signal: NodeJS.Signals): void {
    if (signal === "SIGKILL" || signal === "SIGTERM") this.#isSignalled = true;
    this.#running?.child.kill(signal);
  }

  /** Resolves when it has ended, and is not started again. */
  async stop(signal: NodeJS.Signals): Promise<void> {
    this.#isWanted = false;
    this.signal(signal);
    await this.#life;
  }

  async #keep(): Promise<void> {
    while (this.#isWanted) {
      let running: RemudaProcess;
      try {
        running = await this.#start();
      } catch (error) {
        this.said.push(messageOf(error));
        await sleep(pauseMs);
        continue;
      }
      this.#running = running;
      this.#isSignalled = !this.#isWanted;
      if (!this.#isWanted) running.child.kill("SIGKILL");
      const exit = await running.exited;
      this.#running = undefined;
      this.said.push(running.output());
      if (this.#isSignalled) continue;
      const last = running.output().trimEnd().split("\n").slice(-lastLines).join("\n  ");
      this.ends.push(`a process ended by itself (${exit.signal ?? exit.code}); it said last:\n  ${last}`);
    }
  }
}
