// States of the past, or what is made of them, for questions. One is folded at a time, because a fold takes a whole core. A long fold goes on
// after its caller was told to retry, and saves checkpoints, so the next answer is fast.
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
/** The states of the last answers are kept for the next pages of a list. */
const keptMax = 2;
/** Clocks may differ by this much. */
export const futureMs = 60_000;

export interface PastPorts<Kept, Asked> {
  /** The pool's state at a moment, or what is made of it. */
  fold(pool: string, moment: Asked): Promise<Kept>;
  /** Of the pool's ledger. */
  lastSequence(pool: string): Promise<number | undefined>;
}

export class Pasts<Kept extends { mark: { sequence: number } } = Past, Asked extends Moment = Moment> {
  readonly #ports: PastPorts<Kept, Asked>;
  readonly #folds = new Map<string, { user: string; past: Promise<Kept> }>();
  readonly #kept = new Map<string, Kept>();
  #last: Promise<unknown> = Promise.resolve();
  /** The user of each page that is being filled or waits for it. */
  readonly #pages: string[] = [];
  #lastPage: Promise<unknown> = Promise.resolve();

  constructor(ports: PastPorts<Kept, Asked>) {
    this.#ports = ports;
  }

  /** @throws the errors of the fold. */
  async at(pool: string, moment: Asked, user: string): Promise<Kept | Refusal> {
    const key = `${pool} ${JSON.stringify(moment)}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined && (await this.#isPast(pool, kept, moment))) return kept;
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
    const page = this.#lastPage.then(fill).finally(() => this.#pages.splice(this.#pages.indexOf(user), 1));
    this.#lastPage = page.catch(() => {}); // Reported to the caller.
    return page;
  }

  #begin(key: string, pool: string, moment: Asked, user: string): Promise<Kept | Refusal> {
    const past = this.#last.then(() => this.#ports.fold(pool, moment));
    this.#last = past.catch(() => {});
    this.#folds.set(key, { user, past });
    past
      .then((folded) => this.#keep(key, folded))
      .catch(() => {}) // Reported to the caller.
      .finally(() => this.#folds.delete(key));
    return inTime(past);
  }

  /** False if a commit since then may belong before the moment. */
  async #isPast(pool: string, past: Kept, moment: Asked): Promise<boolean> {
    if ("sequence" in moment) return past.mark.sequence === moment.sequence;
    return (await this.#ports.lastSequence(pool)) === past.mark.sequence || moment.at < Date.now() - futureMs;
  }

  #keep(key: string, past: Kept): void {
    this.#kept.set(key, past);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= keptMax) return;
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
