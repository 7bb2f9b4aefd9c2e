// The single-writer loop. A turn decides all pending input, and its events make one commit. Answers go out, and the
// next turn begins, only when that commit is stored. So exactly one commit is in flight, and new input waits for the
// next turn. The one `await` where state may change is the append (and, in a turn without events, the proof that we
// still lead).
import { createHash, randomBytes } from "node:crypto";
import { type Cursor, encodeCommit } from "../events/commit.ts";
import type { Clock } from "./clock.ts";
import { Fault } from "./fault.ts";
import { type Ledger, lookAgainMs, wentBackwards } from "./ledger.ts";

/** The most events in a commit. The decision that reaches the bound is still included whole. */
export const commitEventsMax = 1000;
export const commitBytesMax = 256 * 1024;

/** A leader with an acknowledgement within this time answers reads and refusals without another proof. */
const proofMs = 1000;
/** If a commit takes longer, the service reports that it is unavailable. */
export const stallMs = 2000;

/** The result of a turn, to be stored. */
export interface Draft {
  term: number;
  cursor: Cursor;
  chance: string | undefined;
  /** Each one is JSON. Empty: nothing to store. */
  events: readonly string[];
  /** Answers wait for this turn. They must come from a leader that has proved that it still leads. */
  answers: boolean;
  /** More input is ready at once. */
  more: boolean;
}

export interface Owner {
  /** Decides all input up to `at`. `number` is the commit's, if the turn makes one. */
  turn(at: number, number: number): Draft;
  /** The turn's commit was acknowledged `ms` after it was sent. `stored` follows. */
  committed(ms: number): void;
  /** The turn's events are stored, or there were none and we still lead: answer. */
  stored(seq: number): void;
  /** Another leader has taken over, or the ledger was closed: stop answering. */
  fenced(): void;
  /**
   * A turn threw: a bug, or an impossible state. Nothing of it is stored.
   * @param now.leads it is proven that no other leader has taken over so far.
   */
  broke(cause: unknown, now: { leads: boolean }): void;
  /** True: the commit in flight has no result for too long. False: it has a result again. */
  stalled(yes: boolean): void;
  /** When time alone requires a turn. Infinity: never. */
  wakeAt(): number;
}

interface LoopStart {
  /** Of the last folded commit: its place in the stream, its number, the hash of its bytes. */
  seq: number;
  commits: number;
  hash: string;
  time: () => number;
}

interface LoopPorts {
  ledger: Ledger;
  clock: Clock;
  owner: Owner;
  start: LoopStart;
  /** When this process last noticed that it had not run for a while (pulse.ts), monotonic. Absent: never. */
  gapOn?: (() => number) | undefined;
}

export class Loop {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #owner: Owner;
  readonly #time: () => number;
  readonly #gapOn: () => number;
  #seq: number;
  #commits: number;
  #hash: string;
  #provenOn = Number.NEGATIVE_INFINITY;
  /** Since when a turn waits for its proof or its commit. */
  #waitingOn: number | undefined;
  #lastAt = 0;
  #state: "idle" | "soon" | "busy" | "stopped" = "idle";
  #wanted = false;
  /** Called when no further turn will be taken. */
  #onFinished: (() => void) | undefined;
  #isHurried = false;
  #cancelTimer: (() => void) | undefined;

  constructor(given: LoopPorts) {
    this.#gapOn = given.gapOn ?? (() => Number.NEGATIVE_INFINITY);
    this.#ledger = given.ledger;
    this.#clock = given.clock;
    this.#owner = given.owner;
    const { start } = given;
    this.#time = start.time;
    this.#seq = start.seq;
    this.#commits = start.commits;
    this.#hash = start.hash;
  }

  get seq(): number {
    return this.#seq;
  }

  /** Of the last commit's bytes. */
  get hash(): string {
    return this.#hash;
  }

  /** The last commit that is stored. */
  get last(): { seq: number; n: number; hash: string } {
    return { seq: this.#seq, n: this.#commits, hash: this.#hash };
  }

  /** The pool's time. It never goes back behind the time of an earlier turn. */
  now(): number {
    this.#lastAt = Math.max(this.#lastAt, this.#time());
    return this.#lastAt;
  }

  /** Whether the leader was acknowledged recently. */
  get proven(): boolean {
    return this.isSure && this.#clock.monotonic() - this.#provenOn < proofMs;
  }

  /**
   * False: another leader may have taken over while this process did not run. Nothing may be answered without a proof.
   */
  get isSure(): boolean {
    return this.#provenOn >= this.#gapOn();
  }

  /** For how long a proof that it leads has been missing; 0 if no proof is missing. */
  get silentMs(): number {
    const on = this.#clock.monotonic();
    return Math.max(on - (this.#waitingOn ?? on), this.isSure ? 0 : on - this.#gapOn());
  }

  /** There is new input. */
  wake(): void {
    if (this.#state === "idle") {
      this.#state = "soon";
      this.#clock.soon(() => void this.#run());
    } else this.#wanted = true;
  }

  stop(): void {
    this.#state = "stopped";
    this.#cancelTimer?.();
    this.#onFinished?.();
  }

  /**
   * Stops when nothing is left to decide, or a little after the given time. Resolves then: the events of the last turn
   * are stored, and its answers given.
   */
  async finish(withinMs: number): Promise<void> {
    if (this.#state === "idle" || this.#state === "stopped") return this.stop();
    const cancel = this.#clock.after(withinMs, () => {
      this.#isHurried = true;
    });
    await new Promise<void>((resolve) => {
      this.#onFinished = resolve;
    });
    cancel();
  }

  async #run(): Promise<void> {
    try {
      await this.#turns();
    } catch (cause) {
      const leads = this.proven || (await this.#isHead());
      if (this.#isStopped()) return;
      this.stop();
      this.#owner.broke(cause, { leads });
    }
  }

  async #turns(): Promise<void> {
    if (this.#isStopped()) return;
    this.#state = "busy";
    this.#cancelTimer?.();
    do {
      this.#wanted = false;
      const draft = this.#owner.turn(this.now(), this.#commits + 1);
      const stillLeads = await this.#settle(draft);
      if (this.#isStopped()) return;
      if (!stillLeads) {
        this.stop();
        this.#owner.fenced();
        return;
      }
      this.#owner.stored(this.#seq);
      if (draft.more) this.#wanted = true;
      if (this.#onFinished !== undefined && (this.#isHurried || !this.#wanted)) return this.stop();
      // This turn awaited nothing. Without a pause, turn would follow turn, and the process would do nothing else.
      if (this.#wanted && draft.events.length === 0) await new Promise<void>((resolve) => this.#clock.soon(resolve));
    } while (this.#wanted && !this.#isStopped());
    if (this.#isStopped()) return;
    this.#state = "idle";
    this.#setTimer();
  }

  async #settle(draft: Draft): Promise<boolean> {
    if (draft.events.length === 0 && (!draft.answers || this.proven)) return true;
    this.#waitingOn = this.#clock.monotonic();
    const cancelStall = this.#clock.after(stallMs, () => this.#owner.stalled(true));
    try {
      const stillLeads = draft.events.length > 0 ? await this.#commit(draft) : await this.#prove();
      if (!stillLeads || !draft.answers || this.isSure) return stillLeads;
      return await this.#prove();
    } catch (error) {
      if (error instanceof Fault && error.code === "step-down") return false;
      throw error; // The ledger is damaged, or it is a bug. A bug is not a change of leader, which would retry it.
    } finally {
      this.#waitingOn = undefined;
      cancelStall();
      this.#owner.stalled(false);
    }
  }

  async #commit(draft: Draft): Promise<boolean> {
    const head = { n: this.#commits + 1, prev: this.#hash, term: draft.term, at: this.#lastAt, cursor: draft.cursor };
    const text = encodeCommit(draft.chance === undefined ? head : { ...head, chance: draft.chance }, draft.events);
    const bytes = Buffer.from(text);
    const sentOn = this.#clock.monotonic();
    const appended = await this.#ledger.append({ id: newId(), bytes, afterSeq: this.#seq });
    if (appended === "fenced") return false;
    this.#seq = appended.seq;
    this.#commits = head.n;
    this.#hash = hashOf(bytes);
    this.#provenOn = sentOn;
    this.#owner.committed(this.#clock.monotonic() - sentOn);
    return true;
  }

  async #prove(): Promise<boolean> {
    const since = this.#clock.monotonic();
    for (;;) {
      const askedOn = this.#clock.monotonic();
      const head = await this.#headWhenThere();
      if (head === undefined || head.seq > this.#seq) return false;
      if (head.seq === this.#seq) {
        this.#provenOn = askedOn;
        if (this.isSure) return true;
      } else {
        if (askedOn - since >= lookAgainMs) throw wentBackwards(this.#seq, head.seq);
        await this.#pause();
      }
    }
  }

  /** One look. Also false if there is no answer, or if the answer would prove nothing. */
  async #isHead(): Promise<boolean> {
    if (this.#ledger.isReplicated === true) return false;
    const head = await this.#ledger.head().catch(() => undefined);
    return head?.seq === this.#seq;
  }

  async #headWhenThere(): Promise<{ seq: number } | undefined> {
    for (;;) {
      try {
        return await this.#ledger.head();
      } catch {
        if (this.#isStopped()) return undefined;
        await this.#pause();
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise<void>((resolve) => void this.#clock.after(100, resolve));
  }

  #setTimer(): void {
    const wakeAt = this.#owner.wakeAt();
    if (wakeAt === Number.POSITIVE_INFINITY) return;
    // If the last turn left due work undone, the next turn may do so too. The loop must not spin then.
    const inMs = wakeAt <= this.#lastAt ? 1 : Math.max(0, wakeAt - this.#time());
    this.#cancelTimer = this.#clock.after(inMs, () => this.wake());
  }

  #isStopped(): boolean {
    return this.#state === "stopped";
  }
}

/** It is stored with each commit, so it is short. It only tells this commit from the one that another writer stored. */
function newId(): string {
  return randomBytes(9).toString("base64url");
}

/** base64url SHA-256. Each commit names its predecessor by this hash. */
export function hashOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64url");
}
