// Requests to open a pool that is not led here yet. They are answered by its leader once it is led here, passed on to
// the picker that leads it, or refused.
import type { Refusal } from "../../protocol/refusal.ts";
import type { Requests } from "./requests.ts";

export interface Opener {
  body: unknown;
  respond: (answer: object) => void;
}

type Decides = Pick<Requests, "open" | "refusalToOpen">;

export class Openers {
  #waiting: (Opener & { answered?: Promise<object> })[] = [];

  add(opener: Opener): void {
    this.#waiting.push(opener);
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
      else opener.answered = new Promise((resolve) => requests.open(opener.body, resolve));
      return refusal === undefined ? [opener] : [];
    });
  }

  /** Only once the pool's subjects are served, because a caller that gets the answer may send requests at once. */
  answer(): void {
    for (const { answered, respond } of this.#take()) void answered?.then(respond);
  }

  passOn(ask: (body: unknown) => Promise<object>): void {
    for (const { body, respond } of this.#take()) void ask(body).then(respond);
  }

  refuse(refusal: Refusal): void {
    for (const { respond } of this.#take()) respond(refusal);
  }

  #take() {
    return this.#waiting.splice(0);
  }
}
