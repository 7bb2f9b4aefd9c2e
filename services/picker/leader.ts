// The leader of one pool: folds its ledger, claims it, and from then on decides, turn by turn, what is asked of it. It
// knows neither NATS nor HTTP: requests come in as jobs, outcomes from a feed, commits go to a ledger.
//
// Order within a turn: outcomes first (they may free or rest a proxy), then what time brings about, then waiting wishes,
// then new requests. After a claim every outcome stored before it is taken up before anything expires, ends or is granted.
import { randomBytes } from "node:crypto";
import type { Cursor } from "../../events/commit.ts";
import { decodeCommit } from "../../events/commit.ts";
import type { Event } from "../../events/event.ts";
import { headStatement } from "../../events/head.ts";
import { outcomeSchema, outcomesMax } from "../../events/outcome.ts";
import { type Refusal, refuse } from "../../events/refusal.ts";
import { readAs } from "../../events/request.ts";
import { type Clock, termTime } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { commitBytesMax, commitEventsMax, type Draft, hashOf, Loop, type Owner } from "../../runtime/loop.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import { Choice } from "../../state-machines/choice.ts";
import { advance, endCommit, foldCommit } from "../../state-machines/evolve.ts";
import { headDueAt, recordHead } from "../../state-machines/head.ts";
import { claim, closeWhenDrained, isIdle } from "../../state-machines/pool.ts";
import { takeUp } from "../../state-machines/report.ts";
import { PoolState } from "../../state-machines/state.ts";
import { tick, wakeAt } from "../../state-machines/tick.ts";
import { Turn } from "../../state-machines/turn.ts";
import { Waiting } from "../../state-machines/waiting.ts";
import { Counts } from "./counts.ts";
import type { Job } from "./job.ts";
import { PoolMetrics } from "./metrics.ts";
import type { Tokens } from "./tokens.ts";

/** One message of the outcomes stream. */
export interface OutcomeMessage {
  seq: number;
  storedAt: number;
  bytes: Uint8Array;
}

/** Where outcomes come from: a stream, followed from a place on. */
export interface OutcomeFeed {
  /** Delivers every message after `from`, in order; the next one when the promise has been kept. */
  follow(from: Cursor, deliver: (message: OutcomeMessage) => Promise<void>): void;
  /** The last message stored so far. */
  last(): Promise<{ seq: number; storedAt: number } | undefined>;
  stop(): void;
}

export interface LeaderPorts {
  pool: string;
  /** This process, as the ledger names it. */
  id: string;
  ledger: Ledger;
  feed: OutcomeFeed;
  clock: Clock;
  key: Pick<InstallationKey, "fingerprint">;
  /** Signs the ledger's head once an hour. Absent: nobody does. */
  signer?: Pick<SigningKey, "id" | "sign">;
  /** Told when it leads no more: fenced, closed, or (with a Fault) stopped by what it found. */
  onEnd: (why: "fenced" | "closed" | Fault) => void;
  /** Random bits for a turn's draws and for ids. The simulator brings its own. */
  random?: (bytes: number) => Buffer;
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

export const jobsMax = 20_000;
const outcomesQueuedMax = 2000;
/** How full the ledger may be before leases are refused: reports, ends and claims need what is left. */
export const fillMax = 0.9;
const fillEveryMs = 5000;
const catchUpLookMs = 1000;
/** Of one turn: outcomes looked at, whether or not they come to events. */
const outcomesPerTurn = 2000;
const outcomeBytesMax = 16 * 1024 ** 2;
const retryAfterMs = 1000;

export class Leader implements Owner {
  readonly state: PoolState;
  readonly choice: Choice;
  readonly waiting: Waiting;
  readonly counts = new Counts();
  readonly metrics = new PoolMetrics();
  readonly #ports: LeaderPorts;
  readonly #loop: Loop;
  readonly #random: (bytes: number) => Buffer;
  #phase: "claiming" | "catching-up" | "leading" | "ended" = "claiming";
  #jobs: Job[] = [];
  #nextJob = 0;
  /** The job of which some slices are decided. */
  #begun: Job | undefined;
  #outcomes: OutcomeMessage[] = [];
  #outcomeRoom: (() => void)[] = [];
  #taken = 0;
  /** The last outcome that was stored when the ledger had been claimed. */
  #upTo: { seq: number; storedAt: number } | undefined;
  #answers: (() => void)[] = [];
  #drafted = 0;
  #answeredAt = 0;
  #settledTicks = false;
  #stalled = false;
  #closedNow = false;
  #outcomeBytes = 0;
  #cancelLook: (() => void) | undefined;
  #full = false;
  #recovered = false;
  #onLeading: (leads: boolean) => void = () => {};

  private constructor(ports: LeaderPorts, folded: { state: PoolState; seq: number; hash: string; time: () => number }) {
    this.#ports = ports;
    this.#random = ports.random ?? randomBytes;
    this.state = folded.state;
    this.choice = new Choice(this.state);
    this.waiting = new Waiting(this.state);
    const { seq, hash, time } = folded;
    const start = { seq, hash, commits: this.state.commits, time };
    this.#loop = new Loop({ ledger: ports.ledger, clock: ports.clock, owner: this, start });
  }

  /**
   * Folds the ledger, ready to claim it.
   * @throws Fault "stop-damaged" where the ledger is not whole, "fix-setup" where it belongs to another key.
   */
  static async fold(ports: LeaderPorts): Promise<Leader> {
    const state = new PoolState(ports.pool);
    let lagMs = 0;
    let seq = 0;
    let hash = "";
    for await (const stored of ports.ledger.read(0)) {
      try {
        const commit = decodeCommit(Buffer.from(stored.bytes).toString());
        if (commit.prev !== hash) throw new Error("it does not follow the one before it: the hash chain is broken");
        foldCommit(state, commit);
        lagMs = stored.storedAt - commit.at;
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        const where = `The ledger of pool ${ports.pool} is damaged at sequence ${stored.seq}`;
        throw new Fault("stop-damaged", `${where}: ${why}. The pool is not served; keep the stream as it is.`, {
          cause,
        });
      }
      seq = stored.seq;
      hash = hashOf(stored.bytes);
    }
    if (state.keyFingerprint !== "" && state.keyFingerprint !== ports.key.fingerprint) throw foreignKey(ports.pool);
    const brokerAt = await ports.ledger.now();
    const on = ports.clock.monotonic();
    const time = termTime(ports.clock, { at: goOn(state, { brokerAt, lagMs }), on });
    return new Leader(ports, { state, seq, hash, time });
  }

  /** Claims the ledger. True once every outcome stored before has been taken up, and it serves; false if it never will. */
  async lead(): Promise<boolean> {
    if (this.#isEnded()) return false;
    const leading = new Promise<boolean>((resolve) => {
      this.#onLeading = resolve;
    });
    await this.#look();
    await this.#prepareChoice();
    if (this.#isEnded()) return false;
    this.#loop.wake();
    return leading;
  }

  get leads(): boolean {
    return this.#phase === "leading";
  }

  get sequence(): number {
    return this.#loop.seq;
  }

  /** The pool's time, as an arriving request is stamped with it. */
  now(): number {
    return this.#loop.now();
  }

  submit(job: Job): void {
    const refusal = this.#turnAway(job);
    if (refusal !== undefined) return this.#sendAway(job, refusal);
    this.#jobs.push(job);
    this.#loop.wake();
  }

  /** Something is to be told once this turn is stored. */
  afterwards(answer: () => void): void {
    this.#answers.push(answer);
  }

  /** Has everything happened that time has made due? Only then may a wish be refused. */
  get ticksAreSettled(): boolean {
    return this.#settledTicks;
  }

  /** While it answers: when the turn that it answers was stored, in the pool's time. */
  get answeredAt(): number {
    return this.#answeredAt;
  }

  /** When the outcome was stored that is to be taken up next, of those that have come; undefined: none has. */
  get nextOutcomeAt(): number | undefined {
    return this.#outcomes[0]?.storedAt;
  }

  /** Falls silent: no answer, no further commit. */
  stop(): void {
    if (this.#phase === "ended") return;
    this.#phase = "ended";
    this.#loop.stop();
    this.#cancelLook?.();
    this.#ports.feed.stop();
    this.#onLeading(false);
    for (const release of this.#outcomeRoom.splice(0)) release();
  }

  turn(at: number, number: number): Draft {
    const encoded: string[] = [];
    let bytes = 0;
    let closedNow = false;
    const turn = new Turn(this.state, {
      at,
      chance: this.#random(16).toString("hex"),
      newId: () => this.#random(16).toString("base64url"),
      onEvent(event: Event) {
        if (event.type === "PoolClosed" && event.draining === undefined) closedNow = true;
        const json = JSON.stringify(event);
        encoded.push(json);
        bytes += Buffer.byteLength(json);
      },
    });
    const room = (): boolean => encoded.length < commitEventsMax && bytes < commitBytesMax;
    if (this.#phase === "claiming") claim(turn, this.#ports.id);
    const cursor = this.#takeOutcomes(turn, room);
    if (this.#phase === "leading" || this.#isNew()) this.#serve(turn, room);
    if (this.#phase === "leading") this.#signHead(turn);
    this.counts.record(turn, { proven: this.#loop.proven });
    this.#drafted = encoded.length;
    if (encoded.length > 0) endCommit(this.state, { n: number, cursor });
    this.#closedNow = closedNow && !this.state.opened;
    const building = this.choice.build();
    const more = building || this.#outcomes.length > 0 || (this.#phase === "leading" && this.#hasWork());
    return {
      term: this.state.term,
      cursor,
      chance: turn.chance,
      events: encoded,
      answers: this.#answers.length > 0,
      more,
    };
  }

  committed(ms: number): void {
    this.metrics.commitMs.observe(ms);
    this.metrics.eventsPerCommit.observe(this.#drafted);
    this.metrics.answersPerCommit.observe(this.#answers.length);
  }

  stored(): void {
    this.#answeredAt = this.now();
    if (this.#phase === "claiming") {
      this.onClaimed();
      void this.#catchUp();
    }
    this.#checkCaughtUp();
    const answers = this.#answers;
    this.#answers = [];
    for (const answer of answers) answer();
    if (this.#closedNow) this.#end("closed");
  }

  fenced(): void {
    this.#end("fenced");
  }

  stalled(yes: boolean): void {
    this.#stalled = yes;
    if (!yes) return;
    // One that has been decided in part goes on when it can: it must not be told that nothing has changed.
    const first = this.#jobs[this.#nextJob];
    const waiting = this.#jobs.splice(this.#nextJob + (first !== undefined && first === this.#begun ? 1 : 0));
    for (const job of waiting)
      this.#sendAway(job, unavailable("The broker does not acknowledge commits at the moment."));
  }

  wakeAt(): number {
    if (this.#phase !== "leading") return Infinity;
    const headAt = this.#ports.signer === undefined ? Infinity : headDueAt(this.state);
    const tokensAt = this.tokens?.wakeAt() ?? Infinity;
    return Math.min(headAt, wakeAt(this.state), this.waiting.wakeAt(this.choice), tokensAt, this.counts.dueAt);
  }

  #serve(turn: Turn, room: () => boolean): void {
    if (!this.#recovered && this.#phase === "leading") {
      this.#recovered = true;
      this.tokens?.recover(turn);
    }
    this.#settledTicks = tick(turn);
    this.#serveWaiting(turn, room);
    for (; this.#nextJob < this.#jobs.length; this.#nextJob++) {
      const job = this.#jobs[this.#nextJob]!; // Below the length.
      const before = turn.events.length;
      const began = this.#begun;
      this.#begun = undefined;
      if (!job.run(turn, room)) {
        const moved = turn.events.length > before;
        if (moved || began === job) this.#begun = job;
        if (!moved || !room()) break;
        // What it has begun may let those be served who came before it; then it goes on.
        this.#serveWaiting(turn, room);
        this.#nextJob--;
        continue;
      }
      this.#answers.push(() => job.respond(job.answer()));
      if (turn.events.length > before) this.#serveWaiting(turn, room);
    }
    if (this.#nextJob > 1000 || this.#nextJob === this.#jobs.length) {
      this.#jobs = this.#jobs.slice(this.#nextJob);
      this.#nextJob = 0;
    }
    closeWhenDrained(turn);
  }

  /** Of the last commit: its bytes are stored, those of this one are not known yet. */
  #signHead(turn: Turn): void {
    const { signer, pool } = this.#ports;
    if (signer === undefined || headDueAt(this.state) > turn.at) return;
    const { commits: n } = this.state;
    const { hash } = this.#loop;
    recordHead(turn, { n, hash, keyId: signer.id, signature: signer.sign(headStatement({ pool, n, hash })) });
  }

  #serveWaiting(turn: Turn, room: () => boolean): void {
    this.tokens?.regroup();
    for (;;) {
      this.waiting.serve(turn, this.choice, room, (waiter, granted) => this.onWaiterSettled(waiter, granted));
      this.tokens?.serve(turn);
      const waiter = this.#settledTicks ? this.waiting.overdue(turn.at) : undefined;
      if (waiter === undefined || !room()) return;
      const before = turn.events.length;
      this.onWaiterOverdue(turn, waiter);
      // Each look answers it or decides something: the turn's room ends this. Another one that does neither never would.
      if (turn.events.length === before && this.waiting.overdue(turn.at) === waiter)
        throw new Error("a wish has waited long enough, and is neither granted nor refused");
    }
  }

  /** Set by the requests that put wishes into the queue. */
  onWaiterSettled: Parameters<Waiting["serve"]>[3] = () => {};
  onClosed: () => void = () => {};
  /** Who waits for tokens, and their values. */
  tokens: Pick<Tokens, "prepare" | "recover" | "regroup" | "serve" | "wakeAt"> | undefined;
  onClaimed: () => void = () => {};
  /** It has its answer, or something has been decided that concerns others first. */
  onWaiterOverdue: (turn: Turn, waiter: NonNullable<ReturnType<Waiting["overdue"]>>) => void = () => {};

  #takeOutcomes(turn: Turn, room: () => boolean): Cursor {
    let cursor = this.state.cursor;
    let next = 0;
    let looked = 0;
    const more = (): boolean => room() && looked < outcomesPerTurn;
    for (; next < this.#outcomes.length; next++) {
      const message = this.#outcomes[next]!; // Below the length.
      const outcomes = outcomesIn(message.bytes);
      for (; this.#taken < outcomes.length && more(); this.#taken++, looked++) {
        this.#takeOutcome(turn, outcomes[this.#taken], message);
      }
      if (this.#taken < outcomes.length) {
        if (this.#taken > 0) cursor = { seq: cursor.seq, at: cursor.at, taken: this.#taken };
        break;
      }
      this.#taken = 0;
      this.#outcomeBytes -= message.bytes.length;
      cursor = { seq: message.seq, at: message.storedAt };
    }
    this.#outcomes.splice(0, next);
    if (!this.#outcomesAreFull()) for (const release of this.#outcomeRoom.splice(0)) release();
    return cursor;
  }

  #takeOutcome(turn: Turn, raw: unknown, message: OutcomeMessage): void {
    const read = readAs(outcomeSchema, raw);
    if ("refusal" in read) return this.counts.ignored("unreadable");
    const taken = takeUp(turn, read.value, message.storedAt);
    if ("ignored" in taken) this.counts.ignored(taken.ignored);
  }

  /** The demand that most wishes make, and every look at the numbers: for a million proxies that takes a second. */
  async #prepareChoice(): Promise<void> {
    const demanding = { minUses: 1 };
    if (!this.choice.isReady(demanding)) {
      while (this.choice.build()) await new Promise<void>((resolve) => this.#ports.clock.soon(resolve));
    }
    const demand = this.choice.demandOf(demanding);
    if (demand !== undefined) this.choice.keep(demand);
  }

  /** A pool without a ledger has nothing to catch up with: it is claimed and opened in one commit. */
  #isNew(): boolean {
    return this.#phase === "claiming" && this.state.commits === 0;
  }

  async #catchUp(): Promise<void> {
    this.#phase = "catching-up";
    await this.#prepareTokens();
    if (this.#isEnded()) return;
    const { taken, ...from } = this.state.cursor;
    this.#taken = taken ?? 0;
    await this.#lookHowFar();
    if (this.#isEnded()) return;
    this.#ports.feed.follow(from, (message) => this.#offer(message));
    // What was last then may be gone by now (a broker that crashed, a purge): then there is less to wait for.
    while (this.#phase === "catching-up") {
      await new Promise<void>((resolve) => this.#ports.clock.after(catchUpLookMs, resolve));
      if (this.#phase === "catching-up") await this.#lookHowFar();
    }
  }

  /** Until the claim the one before may have stored values: only from now on nobody else does. */
  async #prepareTokens(): Promise<void> {
    while (!this.#isEnded()) {
      try {
        return await this.tokens?.prepare();
      } catch {
        await new Promise<void>((resolve) => this.#ports.clock.after(100, resolve));
      }
    }
  }

  /** Everything that is stored by now is taken up before anything is granted. */
  async #lookHowFar(): Promise<void> {
    while (this.#phase === "catching-up") {
      try {
        const last = await this.#ports.feed.last();
        if (this.#phase !== "catching-up") return;
        this.#upTo ??= last;
        if (last === undefined || isPast(this.state.cursor, last)) this.#beginLeading();
        return;
      } catch {
        await new Promise<void>((resolve) => this.#ports.clock.after(100, resolve));
      }
    }
  }

  #checkCaughtUp(): void {
    if (this.#phase !== "catching-up" || this.#upTo === undefined) return;
    if (isPast(this.state.cursor, this.#upTo)) this.#beginLeading();
  }

  #beginLeading(): void {
    this.#phase = "leading";
    this.#onLeading(true);
    this.#loop.wake();
  }

  #offer(message: OutcomeMessage): Promise<void> {
    this.#outcomes.push(message);
    this.#outcomeBytes += message.bytes.length;
    this.#loop.wake();
    if (!this.#outcomesAreFull() || this.#isEnded()) return Promise.resolve();
    return new Promise((resolve) => this.#outcomeRoom.push(resolve));
  }

  #outcomesAreFull(): boolean {
    return this.#outcomes.length >= outcomesQueuedMax || this.#outcomeBytes >= outcomeBytesMax;
  }

  #turnAway(job: Job): Refusal | undefined {
    if (this.#phase === "ended") return unavailable("This process no longer leads the pool.");
    if (this.#stalled) return unavailable("The broker does not acknowledge commits at the moment.");
    if (this.#full && job.grows)
      return unavailable("The ledger is nearly full: give its stream more max_bytes, or archive it.");
    if (this.#jobs.length - this.#nextJob >= jobsMax) {
      return refuse("overloaded", `More than ${jobsMax} requests are waiting to be decided.`, { retryAfterMs });
    }
    return undefined;
  }

  #sendAway(job: Job, refusal: Refusal): void {
    this.metrics.turnedAway(refusal.code);
    job.respond(refusal);
  }

  #hasWork(): boolean {
    return this.#nextJob < this.#jobs.length || !this.#settledTicks;
  }

  async #look(): Promise<void> {
    try {
      this.#full = (await this.#ports.ledger.fill()) >= fillMax;
    } catch {
      // The broker is away; the commit in flight tells the same more clearly.
    }
    if (!this.#isEnded()) this.#cancelLook = this.#ports.clock.after(fillEveryMs, () => void this.#look());
  }

  /** A decision went wrong in a way that must not be: the pool stops, loudly, and its state is thrown away. */
  broke(cause: unknown): void {
    const why = cause instanceof Error ? cause.message : String(cause);
    this.#end(new Fault("stop-damaged", `The pool ${this.#ports.pool} is no longer served: ${why}.`, { cause }));
  }

  #isEnded(): boolean {
    return this.#phase === "ended";
  }

  #end(why: "fenced" | "closed" | Fault): void {
    if (this.#phase === "ended") return;
    this.stop();
    // A pool that was closed, here and in the ledger, may say so; who was fenced must not speak.
    if (why === "closed") {
      this.onClosed();
      for (const job of this.#jobs.splice(this.#nextJob)) job.respond(closed());
    }
    this.#ports.onEnd(why);
  }
}

/**
 * Where the pool's time goes on: as long after its last commit as that was stored ago by the broker's clock, and no
 * earlier than that. The clock of this machine has no say: one that is ahead would open windows early. The pool's time is
 * behind the broker's by what that commit took to be stored, and by what the last leader's machine has slept; it catches
 * up when nothing is left that time is to end.
 */
function goOn(state: PoolState, { brokerAt, lagMs }: { brokerAt: number; lagMs: number }): number {
  advance(state, Math.max(state.at, brokerAt - Math.max(0, lagMs)));
  return isIdle(state) ? Math.max(state.at, brokerAt) : state.at;
}

function outcomesIn(bytes: Uint8Array): unknown[] {
  try {
    const parsed: unknown = JSON.parse(utf8.decode(bytes));
    if (!Array.isArray(parsed)) return [parsed];
    return parsed.length > 0 && parsed.length <= outcomesMax ? parsed : [null];
  } catch {
    return [null];
  }
}

/** Has the cursor come as far as this message? By time first: after a crash of the broker sequences begin lower again. */
function isPast(cursor: Cursor, message: { seq: number; storedAt: number }): boolean {
  return cursor.at > message.storedAt || (cursor.at === message.storedAt && cursor.seq >= message.seq);
}

/** Proxies' ids and sealed passwords depend on the key: with another one nothing would be found again. */
export function foreignKey(pool: string): Fault {
  const message = `The pool ${pool} was opened under another installation's key. Start with the key file of that data directory.`;
  return new Fault("fix-setup", message);
}

/** What those are told who still wait for something when their pool closes. */
export function closed(): Refusal {
  return refuse("unknown-pool", "The pool has been closed.");
}

function unavailable(message: string): Refusal {
  return refuse("unavailable", message, { retryAfterMs });
}
