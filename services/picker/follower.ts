// A follower of a pool: a picker that holds its state while another one leads it. It reads each commit as it is stored,
// and keeps the indexes of the pool's proxies. So it takes over with one claim, and reads no history then.
import { isForGood } from "../../runtime/fault.ts";
import { inherit, type Successor } from "./hand-over.ts";
import type { Prepared, Served } from "./serving.ts";

interface Given {
  prepare: () => Promise<Prepared>;
  /** Whether this picker should still follow the pool. */
  isWanted: () => boolean;
  /** Whether the pool is led. Asked now and then, and at once when its leader is gone. */
  isLed: () => Promise<boolean>;
  /** Calls back when the process of the pool's leader is gone, until the returned function is called. */
  onGone: (callback: () => void) => () => void;
  signal: AbortSignal;
}

/** How often to ask for the leader of a pool whose process lives: it may have lost the pool, or its ledger. */
const askMs = 400;

/**
 * Nothing is asked again before the claim. Undefined: another follower has claimed the pool since it was asked.
 * @param term when it was asked.
 */
async function takenOver(prepared: Prepared, term: number): Promise<Served | undefined> {
  if ((await prepared.readOn(term)) === false) return undefined;
  const served = await prepared.finish();
  // If the last leader still decided one of these requests, the ledger would not let this picker claim it.
  void prepared.gate.subscribe();
  return { ...served, handed: [] };
}

export class Follower {
  #successor: Successor | undefined;
  /** Ends the present pause. */
  #wake = (): void => {};

  /** The pool's leader looks for a successor. */
  leaving(successor: Successor): void {
    this.#successor = successor;
    this.#wake();
  }

  /**
   * Resolves with the pool, ready to be claimed, when it has no leader any more, or its leader has handed it over.
   * Undefined: it is not wanted any more, or must be folded anew. @throws as `preparePool` does.
   */
  async follow({ prepare, isWanted, isLed, onGone, signal }: Given): Promise<Served | undefined> {
    const prepared = await prepare();
    const ending = new AbortController();
    const over = AbortSignal.any([signal, ending.signal]);
    let failure: { cause: unknown } | undefined;
    let isGone = false;
    prepared.follow(over).catch((cause: unknown) => {
      failure = { cause };
      this.#wake();
    });
    const off = onGone(() => {
      if (isGone) return; // It is being asked whether the pool is led.
      isGone = true;
      this.#wake();
    });
    let served: Served | undefined;
    try {
      while (!signal.aborted && served === undefined) {
        if (failure !== undefined) throw failure.cause;
        const successor = this.#successor;
        this.#successor = undefined;
        if (successor !== undefined) served = await inherit(prepared, { successor, signal });
        else {
          const { term } = prepared;
          // A question to a process that is dying gets no answer.
          const led = await (isGone ? isLed() : this.#orWoken(isLed()));
          if (led === false) served = await takenOver(prepared, term);
          if (led === true || (led === false && served === undefined)) {
            // Not while the pool may have no leader: this picker is the one that holds its state.
            if (!isWanted()) return undefined;
            isGone = false;
            await this.#orWoken(pause(askMs, over));
          }
        }
      }
      return served;
    } catch (error) {
      // Another picker may have deleted the pool, or archived more than was read here. The next fold tells.
      if (isForGood(error)) return undefined;
      throw error;
    } finally {
      off();
      ending.abort();
      if (served === undefined) prepared.end();
    }
  }

  /** Undefined: it was woken first, or a leader looks for its successor. */
  async #orWoken<T>(work: Promise<T>): Promise<T | undefined> {
    if (this.#successor !== undefined) return undefined;
    const woken = new Promise<undefined>((resolve) => {
      this.#wake = () => resolve(undefined);
    });
    work.catch(() => {}); // It may be woken before.
    return Promise.race([work, woken]).finally(() => {
      this.#wake = () => {};
    });
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  let end = (): void => {};
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    end = resolve;
    timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", end);
  });
  clearTimeout(timer);
  signal.removeEventListener("abort", end);
}
