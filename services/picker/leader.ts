// The leader of one pool: folds its ledger, claims it, and from then on decides, turn by turn, what is asked of it. It
// knows neither NATS nor HTTP: requests come in as jobs, outcomes from a feed, commits go to a ledger.
//
// Order within a turn: outcomes first (they may free or rest a proxy), then what time brings about, then waiting wishes,
// then new requests. After a claim every outcome stored before it is taken up before anything expires, ends or is granted.
import { randomBytes } from "node:crypto";
import type { Event } from "../../events/event.ts";
import { headStatement } from "../../events/head.ts";
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { Clock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { commitBytesMax, commitEventsMax, type Draft, Loop, type Owner } from "../../runtime/loop.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import { Candidates } from "../../state-machines/candidates/candidates.ts";
import { headDueAt, recordHead } from "../../state-machines/decide/head.ts";
import { claim, closeWhenDrained } from "../../state-machines/decide/pool.ts";
import { tick, wakeAt } from "../../state-machines/decide/timers.ts";
import { Turn } from "../../state-machines/decide/turn.ts";
import { endCommit } from "../../state-machines/fold/evolve.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import { Waiting } from "../../state-machines/queue/waiting.ts";
import { Counts } from "./counts.ts";
import { Fill } from "./fill.ts";
import { type Folded, foldLedger } from "./fold.ts";
import { closed, type Job, unavailable } from "./job.ts";
import { Jobs } from "./jobs.ts";
import { PoolMetrics } from "./metrics.ts";
import { isPast, type OutcomeFeed, Outcomes } from "./outcomes.ts";
import type { Tokens } from "./tokens.ts";

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

export const jobsMax = 20_000;
const catchUpLookMs = 1000;

export class Leader implements Owner {
  readonly state: PoolState;
  readonly candidates: Candidates;
  readonly waiting: Waiting;
  readonly counts = new Counts();
  readonly metrics = new PoolMetrics();
  readonly #ports: LeaderPorts;
  readonly #loop: Loop;
  readonly #random: (bytes: number) => Buffer;
  #phase: "claiming" | "catching-up" | "leading" | "ended" = "claiming";
  readonly #jobs = new Jobs();
  readonly #outcomes = new Outcomes();
  /** The last outcome that was stored when the ledger had been claimed. */
  #upTo: { seq: number; storedAt: number } | undefined;
  #answers: (() => void)[] = [];
  #drafted = 0;
  #answeredAt = 0;
  #settledTicks = false;
  #stalled = false;
  #closedNow = false;
  readonly #fill: Fill;
  #recovered = false;
  #onLeading: (leads: boolean) => void = () => {};

  private constructor(ports: LeaderPorts, folded: Folded) {
    this.#ports = ports;
    this.#fill = new Fill(ports);
    this.#random = ports.random ?? randomBytes;
    this.state = folded.state;
    this.candidates = new Candidates(this.state);
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
    return new Leader(ports, await foldLedger(ports));
  }

  /** Claims the ledger. True once every outcome stored before has been taken up, and it serves; false if it never will. */
  async lead(): Promise<boolean> {
    if (this.#isEnded()) return false;
    const leading = new Promise<boolean>((resolve) => {
      this.#onLeading = resolve;
    });
    await this.#fill.watch();
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
    return this.#outcomes.nextAt;
  }

  /** Falls silent: no answer, no further commit. */
  stop(): void {
    if (this.#phase === "ended") return;
    this.#phase = "ended";
    this.#loop.stop();
    this.#fill.stop();
    this.#ports.feed.stop();
    this.#onLeading(false);
    this.#outcomes.end();
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
    const cursor = this.#outcomes.take(turn, room, this.counts);
    if (this.#phase === "leading" || this.#isNew()) this.#serve(turn, room);
    if (this.#phase === "leading") this.#signHead(turn);
    this.counts.record(turn, { proven: this.#loop.proven });
    this.#drafted = encoded.length;
    if (encoded.length > 0) endCommit(this.state, { n: number, cursor });
    this.#closedNow = closedNow && !this.state.opened;
    const building = this.candidates.build();
    const more = building || !this.#outcomes.isEmpty || (this.#phase === "leading" && this.#hasWork());
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
    for (const job of this.#jobs.takeUnbegun())
      this.#sendAway(job, unavailable("The broker does not acknowledge commits at the moment."));
  }

  wakeAt(): number {
    if (this.#phase !== "leading") return Infinity;
    const headAt = this.#ports.signer === undefined ? Infinity : headDueAt(this.state);
    const tokensAt = this.tokens?.wakeAt() ?? Infinity;
    return Math.min(headAt, wakeAt(this.state), this.waiting.wakeAt(this.candidates), tokensAt, this.counts.dueAt);
  }

  #serve(turn: Turn, room: () => boolean): void {
    if (!this.#recovered && this.#phase === "leading") {
      this.#recovered = this.tokens?.recover(turn, room) ?? true;
      if (!this.#recovered) return;
    }
    this.#settledTicks = tick(turn);
    this.#serveWaiting(turn, room);
    this.#jobs.run(turn, room, {
      done: (job) => this.#answers.push(() => job.respond(job.answer())),
      moved: () => this.#serveWaiting(turn, room),
    });
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
    if (this.candidates.isRebuilding) return this.tokens?.serve(turn);
    for (;;) {
      this.waiting.serve(turn, this.candidates, room, (waiter, granted) => this.onWaiterSettled(waiter, granted));
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

  /** The demands that most wishes make, and every look at the numbers: for a million proxies that takes a second. */
  async #prepareChoice(): Promise<void> {
    const demanding = { minUses: 1, token: this.state.tokens.size > 0 };
    if (!this.candidates.isReady(demanding)) {
      while (this.candidates.build()) await new Promise<void>((resolve) => this.#ports.clock.soon(resolve));
    }
    const index = this.candidates.indexFor(demanding);
    if (index !== undefined) this.candidates.keep(index);
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
    this.#outcomes.begin(taken);
    await this.#lookHowFar();
    if (this.#isEnded()) return;
    this.#ports.feed.follow(from, (message) => {
      const taken = this.#outcomes.offer(message);
      this.#loop.wake();
      return taken;
    });
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

  #turnAway(job: Job): Refusal | undefined {
    if (this.#phase === "ended") return unavailable("This process no longer leads the pool.");
    if (this.#stalled) return unavailable("The broker does not acknowledge commits at the moment.");
    if (this.#fill.isHigh && job.grows)
      return unavailable("The ledger is nearly full: give its stream more max_bytes, or archive it.");
    if (this.#jobs.size >= jobsMax) {
      return refuse("overloaded", `More than ${jobsMax} requests are waiting to be decided.`, { retryAfterMs: 1000 });
    }
    return undefined;
  }

  #sendAway(job: Job, refusal: Refusal): void {
    this.metrics.turnedAway(refusal.code);
    job.respond(refusal);
  }

  #hasWork(): boolean {
    return this.#jobs.size > 0 || this.waiting.isDue || !this.#settledTicks;
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
      for (const job of this.#jobs.takeAll()) job.respond(closed());
    }
    this.#ports.onEnd(why);
  }
}
