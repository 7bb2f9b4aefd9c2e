// Requests that wait for their turn at the engine: first come, first decided. A request larger than a commit is decided
// in slices, over several turns, and finished once begun. One that cannot be decided yet is put aside and keeps its
// place: each turn begins with those, in their order.
import type { Answer, Command, Request } from "../command.ts";
import type { Turn } from "../decide/turn.ts";
import { Load, type Weighed } from "./load.ts";

/** `to` is the driver's. It comes back with the answer. */
export interface Asked<To> extends Weighed {
  readonly to: To;
}

/** "waits": answered later. "later": those behind it wait, too. "aside": those behind it go on. */
export type Decided = Answer | "waits" | "later" | "aside";

/** How requests are decided and answered in one turn. */
export interface Desk<To> {
  /** This request is next. Calls to `decide` and `moved` are about it. */
  begin(asked: Asked<To>): void;
  decide(request: Exclude<Request, { type: "each" }>, to: To): Decided;
  hasRoom(): boolean;
  /** Decides one part of a request that has several. */
  decidePart(command: Command): Answer | "later";
  answer(to: To, answer: Answer): void;
  /** An event was decided, so earlier requests may be served. */
  moved(): void;
}

/** Decided requests at the head are dropped when there are this many. */
const decidedMax = 1000;

export class RequestQueue<To> {
  #asked: Asked<To>[] = [];
  #next = 0;
  /** Decided before all others. */
  #aside: Asked<To>[] = [];
  /** Of all that wait here. */
  readonly load = new Load();
  /** Requests with decided parts, and the answers so far. */
  readonly #begun = new Map<Asked<To>, Answer[]>();

  get size(): number {
    return this.#aside.length + this.#asked.length - this.#next;
  }

  push(asked: Asked<To>): void {
    this.#asked.push(asked);
    this.load.add(asked);
  }

  run(turn: Turn, desk: Desk<To>): void {
    if (this.#aside.length > 0) this.#asked = this.#takeAll();
    for (; this.#next < this.#asked.length; this.#next++) {
      const asked = this.#asked[this.#next]!; // Below the length.
      desk.begin(asked);
      const before = turn.events.length;
      const { to, request } = asked;
      const decided = request.type === "each" ? this.#goOn(asked, request.commands, desk) : desk.decide(request, to);
      const hasMoved = turn.events.length > before;
      if (decided === "aside") {
        this.#aside.push(asked);
        continue;
      }
      if (decided === "later") {
        if (hasMoved && !this.#begun.has(asked)) this.#begun.set(asked, []);
        if (!hasMoved || !desk.hasRoom()) break;
        // The events so far may let earlier requests be served. Then it goes on.
        desk.moved();
        this.#next--;
        continue;
      }
      this.#begun.delete(asked);
      this.load.remove(asked);
      if (decided !== "waits") desk.answer(to, decided);
      if (hasMoved) desk.moved();
    }
    if (this.#next > decidedMax || this.#next === this.#asked.length) {
      this.#asked = this.#asked.slice(this.#next);
      this.#next = 0;
    }
  }

  /** Takes the requests of which no part is decided. The others go on when they can. */
  takeUnbegun(): To[] {
    const all = this.#takeAll();
    this.#asked = all.filter((asked) => this.#begun.has(asked));
    const unbegun = all.filter((asked) => !this.#begun.has(asked));
    for (const asked of unbegun) this.load.remove(asked);
    return unbegun.map(({ to }) => to);
  }

  takeAll(): To[] {
    this.#begun.clear();
    const all = this.#takeAll();
    for (const asked of all) this.load.remove(asked);
    return all.map(({ to }) => to);
  }

  #goOn(asked: Asked<To>, commands: readonly Command[], desk: Desk<To>): Answer | "later" {
    const each = this.#begun.get(asked) ?? [];
    while (each.length < commands.length) {
      const answer = desk.decidePart(commands[each.length]!); // Below the length.
      if (answer === "later") {
        this.#begun.set(asked, each);
        return answer;
      }
      each.push(answer);
    }
    return { each };
  }

  #takeAll(): Asked<To>[] {
    const all = [...this.#aside, ...this.#asked.slice(this.#next)];
    this.#aside = [];
    this.#asked = [];
    this.#next = 0;
    return all;
  }
}
