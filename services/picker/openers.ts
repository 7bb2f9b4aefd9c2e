// Requests to open a pool that is not led here yet. They are answered by its leader once it is led here, passed on to
// the picker that leads it, or refused.
import { withWarnings } from "../../protocol/fields.ts";
import type { Refusal } from "../../protocol/refusal.ts";
import type { Requests } from "./requests.ts";
import type { Who } from "./who.ts";

export interface Opener {
  body: unknown;
  respond: (answer: object) => void;
  who: Who;
}

type Decides = Pick<Requests, "open" | "refusalToOpen">;

export class Openers {
  #waiting: (Opener & { isSubmitted?: true; answer?: object })[] = [];
  #serving: { loss: string | undefined } | undefined;

  add(opener: Opener): void {
    this.#waiting.push(opener);
  }

  /** Does one of the requests accept that commits are lost? */
  get wouldForget(): boolean {
    return this.#waiting.some(isForgetting);
  }

  /** Would one of the requests open the pool? */
  wouldOpen(requests: Decides): boolean {
    return this.#waiting.some(({ body }) => requests.refusalToOpen(body) === undefined);
  }

  /** Refuses those that cannot open the pool. */
  check(requests: Decides): void {
    for (const opener of [...this.#waiting]) {
      const refusal = opener.isSubmitted ? undefined : requests.refusalToOpen(opener.body);
      if (refusal === undefined) continue;
      this.#waiting = this.#waiting.filter((each) => each !== opener);
      opener.respond(refusal);
    }
  }

  /** The leader decides them in its next turn: the first turn of a new pool claims and opens it in one commit. */
  submit(requests: Decides): void {
    this.check(requests);
    for (const opener of this.#waiting) {
      if (opener.isSubmitted) continue;
      opener.isSubmitted = true;
      const onAnswer = (answer: object): void => {
        opener.answer = answer;
        this.#respond();
      };
      requests.open(opener.body, onAnswer, opener.who);
    }
  }

  /**
   * From now on: only once the pool's subjects are served, because a caller that gets the answer may send requests at
   * once. A leader that is fenced before it has answered never does. So a request is kept until then, and passed on.
   */
  answer(loss: string | undefined): void {
    this.#serving = { loss };
    this.#respond();
  }

  /** The leader that was to decide them has failed. */
  askAgain(): void {
    for (const { body, respond, who, answer } of this.#take()) {
      if (answer === undefined) this.add({ body, respond, who });
      else respond(answer);
    }
  }

  passOn(ask: (asked: Pick<Opener, "body" | "who">) => Promise<object>): void {
    for (const { body, who, respond } of this.#take()) void ask({ body, who }).then(respond);
  }

  refuse(refusal: Refusal): void {
    for (const { respond } of this.#take()) respond(refusal);
  }

  #respond(): void {
    if (this.#serving === undefined) return;
    const { loss } = this.#serving;
    const answered = this.#waiting.filter(({ answer }) => answer !== undefined);
    this.#waiting = this.#waiting.filter(({ answer }) => answer === undefined);
    for (const opener of answered) {
      const warnings = loss !== undefined && isForgetting(opener) ? [`${loss}. The lost commits are forgotten.`] : [];
      opener.respond(withWarnings(opener.answer ?? {}, warnings));
    }
  }

  #take() {
    this.#serving = undefined;
    return this.#waiting.splice(0);
  }
}

function isForgetting({ body }: Opener): boolean {
  return typeof body === "object" && body !== null && "forget" in body && body.forget === true;
}
