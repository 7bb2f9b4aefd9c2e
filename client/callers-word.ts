// The caller's own word on an answer. Only the caller knows that a page with status 200 is a captcha. The outcome of
// the last request of a fetch waits for that word, at most until the lease's end.
import type { Response } from "undici";
import type { Outcome } from "../protocol/wire.ts";
import type { Use } from "./block.ts";
import { RemudaFault } from "./fault.ts";

const classes = [
  "success",
  "unreachable",
  "timeout",
  "proxy-auth",
  "proxy-error",
  "blocked",
  "throttled",
  "target-error",
  "client-abort",
] as const;
export type AnswerClass = (typeof classes)[number];

/** Undefined: the policy classifies the answer. Read the body only from a clone. */
export type Classify = (response: Response) => AnswerClass | undefined | Promise<AnswerClass | undefined>;

type Send = (use: Use, outcome: Outcome) => void;

export class CallersWord {
  readonly #classify: Classify | undefined;
  readonly #send: Send;
  #current: Use | undefined;
  #waiting: { outcome: Outcome; off: () => void } | undefined;
  #word: AnswerClass | undefined;
  #isSaid: boolean;

  constructor(classify: Classify | undefined, send: Send) {
    this.#classify = classify;
    this.#send = send;
    this.#isSaid = classify === undefined;
  }

  /** A request begins, so the answer before it was not the last one. */
  began(use: Use): void {
    this.#settle();
    this.#current = use;
  }

  ended(use: Use, outcome: Outcome): void {
    if (use !== this.#current || outcome.status === undefined) return this.#send(use, outcome);
    if (this.#isSaid) return this.#send(use, withWord(outcome, this.#word));
    this.#waiting = { outcome, off: use.block.onCut(() => this.#settle()) };
    if (use.block.ended) this.#settle();
  }

  /** @throws the error of the caller's function; RemudaFault "wrong-options". The answer then counts by its status. */
  async about(response: Response): Promise<void> {
    try {
      const word = await this.#classify?.(response);
      if (word !== undefined && !classes.includes(word))
        throw new RemudaFault("wrong-options", `outcome: must return one of ${classes.join(", ")}, or undefined.`);
      this.#word = word;
    } catch (error) {
      response.body?.cancel().catch(() => {}); // It may be locked by a clone.
      throw error;
    } finally {
      this.none();
    }
  }

  /** There is no answer to classify, or no need to. */
  none(): void {
    this.#isSaid = true;
    this.#settle();
  }

  #settle(): void {
    const waiting = this.#waiting;
    if (waiting === undefined || this.#current === undefined) return;
    this.#waiting = undefined;
    waiting.off();
    this.#send(this.#current, withWord(waiting.outcome, this.#word));
  }
}

function withWord(outcome: Outcome, word: AnswerClass | undefined): Outcome {
  if (word === undefined) return outcome;
  const { reason: _reason, error: _error, result: _result, ...seen } = outcome;
  return { ...seen, ...(word === "success" ? { result: "success" } : { reason: word }) };
}
