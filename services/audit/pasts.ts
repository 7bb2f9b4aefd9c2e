// States of the past, or what is made of them, for questions. One is folded at a time, because a fold takes a whole core
// and the memory of a state. A long fold goes on after its caller was told to retry, and saves checkpoints, so the next
// answer is fast.
import { overloaded, type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Past } from "./history.ts";
import type { Moment } from "./moment.ts";

/** A caller waits this long for a fold. Then it is told to retry, and the fold goes on. */
const patienceMs = 8000;
export const retryAfterMs = 2000;
/** The most moments that are being folded or wait for it, of all users and of one. */
const foldsMax = { all: 16, user: 4 };
/** The most pages that are being filled or wait for it. */
const pagesMax = { all: 100, user: 25 };
export interface PastPorts<Kept, Asked> {
  /** The pool's state at a moment, or what is made of it. */
  fold(pool: string, moment: Asked): Promise<Kept>;
  /** Whether the answer that is kept is still right. @param ageMs how long it has been kept. */
  isCurrent(kept: Kept, asked: { pool: string; moment: Asked; ageMs: number }): boolean | Promise<boolean>;
  /** How many of the last answers are kept. */
  keptMax: number;
  /** All folds of the process. */
  turns: Turns;
}

/** One piece of work after the other. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  next<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {}); // Reported to the caller.
    return done;
  }
}

export class Pasts<Kept = Past, Asked extends Moment = Moment> {
  readonly #ports: PastPorts<Kept, Asked>;
  readonly #folds = new Map<string, { user: string; past: Promise<Kept> }>();
  readonly #kept = new Map<string, { value: Kept; since: number }>();
  /** The user of each page that is being filled or waits for it. */
  readonly #pages: string[] = [];
  readonly #pageTurns = new Turns();

  constructor(ports: PastPorts<Kept, Asked>) {
    this.#ports = ports;
  }

  /** @throws the errors of the fold. */
  async at(pool: string, moment: Asked, user: string): Promise<Kept | Refusal> {
    const key = `${pool} ${JSON.stringify(moment)}`;
    const kept = this.#kept.get(key);
    const ageMs = performance.now() - (kept?.since ?? 0);
    if (kept !== undefined && (await this.#ports.isCurrent(kept.value, { pool, moment, ageMs }))) return kept.value;
    const known = this.#folds.get(key)?.past;
    if (known !== undefined) return inTime(known);
    const users = [...this.#folds.values()].map((fold) => fold.user);
    return (
      tooMany(users, user, { max: foldsMax, what: "moments are being folded" }) ?? this.#begin(key, pool, moment, user)
    );
  }

  /** One page after the other: many slices at the same time would be one long one. */
  async inTurn<Page>(fill: () => Promise<Page>, user: string): Promise<Page | Refusal> {
    const refusal = tooMany(this.#pages, user, { max: pagesMax, what: "pages are being filled" });
    if (refusal !== undefined) return refusal;
    this.#pages.push(user);
    return this.#pageTurns.next(fill).finally(() => this.#pages.splice(this.#pages.indexOf(user), 1));
  }

  #begin(key: string, pool: string, moment: Asked, user: string): Promise<Kept | Refusal> {
    const past = this.#ports.turns.next(() => this.#ports.fold(pool, moment));
    this.#folds.set(key, { user, past });
    past
      .then((folded) => this.#keep(key, folded))
      .catch(() => {}) // Reported to the caller.
      .finally(() => this.#folds.delete(key));
    return inTime(past);
  }

  #keep(key: string, value: Kept): void {
    this.#kept.delete(key);
    this.#kept.set(key, { value, since: performance.now() });
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= this.#ports.keptMax) return;
      this.#kept.delete(oldest);
    }
  }
}

async function inTime<Kept>(fold: Promise<Kept>): Promise<Kept | Refusal> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Refusal>((resolve) => {
    const message = "The ledger is being folded up to that moment. Retry in a few seconds.";
    timer = setTimeout(() => resolve(refuse("unavailable", message, { retryAfterMs })), patienceMs);
  });
  try {
    return await Promise.race([fold, late]);
  } finally {
    clearTimeout(timer);
  }
}

function tooMany(
  users: readonly string[],
  user: string,
  { max, what }: { max: { all: number; user: number }; what: string },
): Refusal | undefined {
  if (users.length >= max.all) return overloaded(`${max.all} ${what} already. Retry later.`, retryAfterMs);
  if (users.filter((each) => each === user).length < max.user) return undefined;
  return overloaded(`${max.user} ${what} for this user already. Retry later.`, retryAfterMs);
}
