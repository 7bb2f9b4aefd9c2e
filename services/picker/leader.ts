// The leader of one pool. It folds the ledger, claims it, and then runs the engine's turns, with outcomes from a feed
// and requests that are already parsed. The events of a turn are committed. Requests are answered when the commit is stored.
//
// Its life: `fold` makes it, and `lead` claims the ledger. It tells its listener "claimed" when the claim is stored and
// announced. It tells "caughtUp" when every outcome that was stored before is ingested: from then on it serves. It also
// tells how it ends: "fenced" (another leader took over), "stuck" (it cannot catch up), "closed" (the pool was closed),
// or "broke". `stop` ends it silently. After any end it answers nothing and commits nothing.
//
// A turn that throws breaks it, because its state may be wrong. Nothing of that turn is stored. If the turn was deciding
// a command, the next leader leaves it out.
import { randomBytes } from "node:crypto";
import { refuse } from "../../protocol/refusal.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import { type Draft, Loop, type Owner } from "../../runtime/loop.ts";
import type { Secrets } from "../../runtime/secrets.ts";
import type { Answer, Request } from "../../state-machines/command.ts";
import { headDueAt } from "../../state-machines/decide/head.ts";
import { Engine, type TurnOutput } from "../../state-machines/engine.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import type { Share } from "../../state-machines/queue/load.ts";
import type { Quotas } from "../../state-machines/queue/quotas.ts";
import { type CatchUpPorts, catchUp } from "./catch-up.ts";
import { type Folded, type FoldPorts, foldLedger } from "./fold.ts";
import { Growth } from "./growth.ts";
import { type HeadPorts, signedHead } from "./head.ts";
import { type Call, type Caller, Inbox, unavailable } from "./inbox.ts";
import { LeftOut } from "./left-out.ts";
import { PoolMetrics } from "./metrics.ts";
import { Outcomes } from "./outcomes.ts";
import { Sheet } from "./sheet.ts";
import { storedTokens } from "./token-values.ts";

export interface LeaderPorts extends FoldPorts, HeadPorts, Pick<CatchUpPorts, "feed" | "announce"> {
  /** This process's id in the ledger. */
  id: string;
  secrets: Pick<Secrets, "look" | "get">;
  /** What users have used of their quotas, in all pools of this process. Absent: users have none. */
  quotas?: Quotas;
  tell: (event: LeaderEvent) => void;
  /** When this process last had a gap in its life, by the monotonic clock. Absent: never. */
  gapOn?: (() => number) | undefined;
  /** Commands that made an earlier leader of this pool fail. Absent: none. */
  leftOut?: LeftOut;
  /** An answer could not be made because of a bug. Absent: it is not reported. */
  onDefect?: (error: unknown, where: object) => void;
  /** Random bits for a turn's draws and for ids. The simulator passes its own. */
  random?: (bytes: number) => Buffer;
}

export type LeaderEvent =
  | { type: "claimed" | "caughtUp" | "fenced" | "stuck" | "closed" }
  /** `defect`: it is a bug. `leftOut`: the command that another leader will not decide, for the log. */
  | { type: "broke"; error: Fault; defect?: unknown; leftOut?: object };

export class Leader implements Owner {
  readonly engine: Engine<Caller>;
  readonly metrics = new PoolMetrics();
  readonly #ports: LeaderPorts;
  readonly #loop: Loop;
  readonly #random: (bytes: number) => Buffer;
  readonly outcomes = new Outcomes();
  readonly #inbox: Inbox;
  readonly #growth: Growth;
  readonly #leftOut: LeftOut;
  readonly #stopping = new AbortController();
  #hasClaimed = false;
  /** Output of the turn whose commit is not stored yet. */
  #decided: Pick<TurnOutput<Caller>, "events" | "answers" | "closed"> = { events: [], answers: [], closed: false };
  #onLeading: (leads: boolean) => void = () => {};

  constructor(ports: LeaderPorts, { state, seq, hash, time }: Folded) {
    this.#ports = ports;
    const proof = { isSure: () => this.isSure, onHeld: () => this.#loop.wake() };
    this.#leftOut = ports.leftOut ?? new LeftOut(ports.clock);
    this.#growth = new Growth({ ...ports, leases: () => state.leases.values() });
    const { metrics } = this;
    this.#inbox = new Inbox({ ...ports, ...proof, growth: this.#growth, leftOut: this.#leftOut, metrics });
    this.#random = ports.random ?? randomBytes;
    this.engine = new Engine(state, ports.quotas);
    const start = { seq, hash, commits: state.commits, time };
    this.#loop = new Loop({ ...ports, owner: this, start });
  }

  /**
   * Folds the ledger, ready to claim it.
   * @throws Fault "stop-damaged" if the ledger is not whole, "fix-setup" if it belongs to another key.
   */
  static async fold(ports: LeaderPorts): Promise<Leader> {
    return new Leader(ports, await foldLedger(ports));
  }

  /** Claims the ledger. True once every outcome stored before is ingested and it serves; false if it never will. */
  async lead(): Promise<boolean> {
    const leading = new Promise<boolean>((resolve) => {
      this.#onLeading = resolve;
    });
    await this.#growth.watch();
    while (this.engine.prepare()) await new Promise<void>((resolve) => this.#ports.clock.soon(resolve));
    if (this.#inbox.isOver) return false;
    this.#loop.wake();
    if (!(await leading)) return false;
    this.#ports.tell({ type: "caughtUp" });
    this.#loop.wake();
    return true;
  }

  /** It has claimed the ledger, has caught up, and has not ended. */
  get leads(): boolean {
    return this.engine.serves && !this.#inbox.isOver;
  }

  /** False: it may have been deposed while this process did not run. It says nothing until it has proved itself. */
  get isSure(): boolean {
    return this.#loop.isSure;
  }

  /** For how long a proof that it leads has been missing. */
  get silentMs(): number {
    return this.#loop.silentMs;
  }

  get state(): PoolState {
    return this.engine.state;
  }

  get sequence(): number {
    return this.#loop.seq;
  }

  /** The last commit that is stored. */
  get last(): Loop["last"] {
    return this.#loop.last;
  }

  /** The pool's time, for stamping an arriving request. */
  now(): number {
    return this.#loop.now();
  }

  submit(request: Request, caller: Caller): void {
    if (this.#inbox.add(request, caller, this.engine.requests.load)) this.#loop.wake();
  }

  /** Whether there is room for a request of this size, which is not read yet. If not, it is answered. */
  admits(share: Share, call: Pick<Call, "respond" | "bytes">): boolean {
    return this.#inbox.admits(share, call, this.engine.requests.load);
  }

  /** Ends silently: no answer, no further commit. */
  stop(): void {
    this.engine.end();
    if (this.#inbox.isOver) return;
    this.#inbox.close();
    this.#growth.stop();
    this.#loop.stop();
    this.#stopping.abort();
    this.#onLeading(false);
    this.outcomes.end();
  }

  turn(at: number, _number: number): Draft {
    const { engine } = this;
    const sheet = new Sheet();
    const requests = this.#inbox.take();
    const hasCallers = requests.length > 0 || this.#inbox.isHolding;
    const mustProve = this.#ports.ledger.isReplicated === true && hasCallers && !this.#loop.proven;
    const decided = engine.turn({
      at,
      chance: this.#random(16).toString("hex"),
      newId: () => this.#random(16).toString("base64url"),
      claim: this.#hasClaimed ? undefined : this.#ports.id,
      outcomes: this.#leftOut.without(this.outcomes.forTurn()),
      requests,
      hasRoom: sheet.hasRoom,
      onEvent: sheet.write,
      proven: this.#loop.proven,
      mustProve,
      head: this.leads ? signedHead(this.#ports, this.state, { hash: this.#loop.hash, at, mustProve }) : undefined,
      storedTokens: this.leads && !engine.hasRecovered ? storedTokens(this.#ports.secrets, engine.state) : undefined,
    });
    this.outcomes.drop(decided.ingested);
    this.#decided = decided;
    const { chance, cursor, answers } = decided;
    const more = decided.more || !this.outcomes.isEmpty;
    const hasToSay = answers.length > 0 || this.#inbox.isHolding;
    return { term: this.state.term, cursor, chance, events: sheet.events, answers: hasToSay, more };
  }

  committed(ms: number): void {
    this.metrics.committed(ms, this.#decided);
  }

  stored(): void {
    const { answers, closed } = this.#decided;
    const storedAt = this.now();
    if (!this.#hasClaimed) this.#catchUp();
    if (this.leads) this.#onLeading(true);
    if (this.isSure) this.#inbox.release();
    for (const { to, answer } of answers) this.#answer(to, answer, storedAt);
    if (closed) this.#end({ type: "closed" });
  }

  fenced(): void {
    this.#end({ type: "fenced" });
  }

  broke(cause: unknown, { leads }: { leads: boolean }): void {
    const message = `The pool ${this.#ports.pool} is no longer served: ${messageOf(cause)}.`;
    const broke = { type: "broke", error: new Fault("stop-damaged", message, { cause }) } as const;
    if (cause instanceof Fault) return this.#end(broke);
    const { undecided } = this.engine;
    const leftOut = undecided && this.#leftOut.leaveOut(undecided, { isAnswered: leads });
    this.#end({ ...broke, defect: cause, ...(leftOut && { leftOut }) });
  }

  stalled(yes: boolean): void {
    if (yes) this.#inbox.stall(this.engine.requests.takeUnbegun());
    else this.#inbox.goOn();
  }

  wakeAt(): number {
    if (!this.leads) return Infinity;
    const headAt = this.#ports.signer === undefined ? Infinity : headDueAt(this.state);
    return Math.min(headAt, this.engine.wakeAt());
  }

  #answer(caller: Caller, answer: Answer, storedAt: number): void {
    if (caller.isLease === true && !("cancelled" in answer))
      this.metrics.waitMs["lease" in answer ? "granted" : "refused"].observe(storedAt - caller.arrivedAt);
    try {
      const reply = "refusal" in answer ? answer.refusal : caller.reply(answer);
      if (reply !== undefined) caller.respond(reply);
    } catch (error) {
      // What was decided is stored, and no decision depends on a reply.
      this.#ports.onDefect?.(error, { answer: Object.keys(answer)[0] });
      caller.respond(unavailable("The request was decided, and its answer cannot be shown because of a bug."));
    }
  }

  /** The first turn has claimed the ledger, and its commit is stored. */
  #catchUp(): void {
    this.#hasClaimed = true;
    void catchUp(this.#ports, this.engine, {
      outcomes: this.outcomes,
      stopping: this.#stopping.signal,
      onAnnounced: () => this.#ports.tell({ type: "claimed" }),
      onLook: () => this.leads && this.#onLeading(true),
      onOutcome: () => this.#loop.wake(),
      onStuck: () => void this.#giveUp(),
    }).catch((bug: unknown) => this.broke(bug, { leads: false }));
  }

  /** The outcomes cannot be read here. If the ledger cannot be read either, no other process would fare better. */
  async #giveUp(): Promise<void> {
    const isThere = await this.#ports.ledger.head().then(
      () => true,
      () => false,
    );
    if (isThere && !this.leads) this.#end({ type: "stuck" });
  }

  #end(event: LeaderEvent): void {
    if (this.#inbox.isOver) return;
    this.stop();
    // If the pool was closed, here and in the ledger, the leader may still answer. A fenced leader must not.
    if (event.type === "closed")
      for (const { to } of this.#inbox.take()) to.respond(refuse("unknown-pool", "The pool has been closed."));
    this.#ports.tell(event);
  }
}
