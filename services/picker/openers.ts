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
  #waiting: (Opener & { answered?: Promise<object>; answer?: object })[] = [];

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

  /** The leader decides them in its next turn: the first turn of a new pool claims and opens it in one commit. */
  submit(requests: Decides): void {
    this.#waiting = this.#waiting.flatMap((opener) => {
      if (opener.answered !== undefined) return [opener];
      const refusal = requests.refusalToOpen(opener.body);
      if (refusal !== undefined) opener.respond(refusal);
      else {
        const { promise, resolve } = Promise.withResolvers<object>();
        opener.answered = promise;
        requests.open(
          opener.body,
          (answer) => {
            opener.answer = answer;
            resolve(answer);
          },
          opener.who,
        );
      }
      return refusal === undefined ? [opener] : [];
    });
  }

  /** Only once the pool's subjects are served, because a caller that gets the answer may send requests at once. */
  answer(loss: string | undefined): void {
    for (const opener of this.#take()) {
      const warnings = loss !== undefined && isForgetting(opener) ? [`${loss}. What is lost is forgotten.`] : [];
      void opener.answered?.then((answer) => opener.respond(withWarnings(answer, warnings)));
    }
  }

  /** The leader that was to decide them has failed. */
  askAgain(): void {
    for (const { answered, answer, ...opener } of this.#take()) {
      if (answer === undefined) this.add(opener);
      else opener.respond(answer);
    }
  }

  passOn(ask: (asked: Pick<Opener, "body" | "who">) => Promise<object>): void {
    for (const { body, who, respond } of this.#take()) void ask({ body, who }).then(respond);
  }

  refuse(refusal: Refusal): void {
    for (const { respond } of this.#take()) respond(refusal);
  }

  #take() {
    return this.#waiting.splice(0);
  }
}

function isForgetting({ body }: Opener): boolean {
  return typeof body === "object" && body !== null && "forget" in body && body.forget === true;
}
