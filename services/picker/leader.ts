// The leader of one pool. It claims a folded ledger, and then runs the engine's turns, with outcomes from a feed and
// requests that are already parsed. A turn's events are committed. Requests are answered when the commit is stored.
// It tells its listener "claimed" when the claim is stored and announced, "caughtUp" when every outcome stored before
// is ingested, and how it ends (`LeaderEvent`), unless `stop` ends it. Then it answers and commits nothing any more. A
// turn that throws breaks it, because its state may be wrong. Nothing of that turn is stored.
import { randomBytes } from "node:crypto";
import { refuse } from "../../protocol/refusal.ts";
import { type Draft, Loop, type Owner } from "../../runtime/loop.ts";
import type { Request } from "../../state-machines/command.ts";
import { Engine, type TurnOutput } from "../../state-machines/engine.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";
import type { Share } from "../../state-machines/queue/load.ts";
import { giveAnswer } from "./answer.ts";
import { catchUp } from "./catch-up.ts";
import type { Folded } from "./fold.ts";
import { Growth } from "./growth.ts";
import { headAt, signedHead } from "./head.ts";
import { type Call, type Caller, Inbox } from "./inbox.ts";
import type { LeaderEvent } from "./leader-event.ts";
import type { LeaderPorts } from "./leader-ports.ts";
import { LeftOut } from "./left-out.ts";
import { PoolMetrics } from "./metrics.ts";
import { Outcomes } from "./outcomes.ts";
import { Sheet } from "./sheet.ts";
import { storedTokens } from "./token-values.ts";

export class Leader implements Owner {
  readonly engine: Engine<Caller>;
  readonly metrics = new PoolMetrics();
  readonly #ports: LeaderPorts;
  readonly #loop: Loop;
  readonly #random: (bytes: number) => Buffer;
  readonly outcomes = new Outcomes();
  readonly inbox: Inbox;
  readonly #growth: Growth;
  readonly #leftOut: LeftOut;
  readonly #stopping = new AbortController();
  #hasClaimed = false;
  /** Output of the turn whose commit is not stored yet. */
  #decided: Pick<TurnOutput<Caller>, "events" | "answers" | "closed"> = { events: [], answers: [], closed: false };
  readonly #leading = Promise.withResolvers<boolean>();

  constructor(ports: LeaderPorts, { state, seq, hash, time, candidates }: Folded) {
    this.#ports = ports;
    const own = { metrics: this.metrics, isSure: () => this.isSure, onHeld: () => this.#loop.wake() };
    this.#leftOut = ports.leftOut ?? new LeftOut(ports.clock);
    this.#growth = new Growth({ ...ports, leases: () => state.leases.values() });
    this.inbox = new Inbox({ ...ports, ...own, growth: this.#growth, leftOut: this.#leftOut });
    this.#random = ports.random ?? randomBytes;
    this.engine = new Engine(state, ports.quotas, candidates);
    this.#loop = new Loop({ ...ports, owner: this, start: { seq, hash, commits: state.commits, time } });
  }

  /** Claims the ledger. True once every outcome stored before is ingested and it serves; false if it never will. */
  async lead(): Promise<boolean> {
    await this.#growth.watch();
    while (this.engine.prepare()) await new Promise<void>((resolve) => this.#ports.clock.soon(resolve));
    if (this.inbox.isOver) return false;
    this.#loop.wake();
    if (!(await this.#leading.promise)) return false;
    this.#ports.tell({ type: "caughtUp" });
    this.#loop.wake();
    return true;
  }

  /** It has claimed the ledger, has caught up, and has not ended. */
  get leads(): boolean {
    return this.engine.serves && !this.inbox.isOver;
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

  /** The last commit that is stored. */
  get last(): Loop["last"] {
    return this.#loop.last;
  }

  /** The pool's time, for stamping an arriving request. */
  now(): number {
    return this.#loop.now();
  }

  submit(request: Request, caller: Caller): void {
    if (this.inbox.add(request, caller, this.engine.requests.load)) this.#loop.wake();
  }

  /** Whether there is room for a request of this size, which is not read yet. If not, it is answered. */
  admits(share: Share, call: Pick<Call, "respond" | "bytes">): boolean {
    return this.inbox.admits(share, call, this.engine.requests.load);
  }

  /** Takes no further turn when this resolves. All that came before is decided, if that takes no longer. */
  readonly finish = (withinMs: number): Promise<void> => this.#loop.finish(withinMs);

  /** Ends silently: no answer, no further commit. */
  stop(): void {
    this.engine.end();
    if (this.inbox.isOver) return;
    this.inbox.close();
    this.#growth.stop();
    this.#loop.stop();
    this.#stopping.abort();
    this.#leading.resolve(false);
    this.outcomes.end();
  }

  turn(at: number, _number: number): Draft {
    const { engine } = this;
    const sheet = new Sheet();
    const requests = this.inbox.take();
    const hasCallers = requests.length > 0 || this.inbox.isHolding;
    const mustProve = this.#ports.ledger.isReplicated === true && hasCallers && !this.#loop.proven;
    const decided = engine.turn({
      at,
      chance: this.#random(16).toString("hex"),
      newId: () => this.#random(16).toString("base64url"),
      ...(this.#hasClaimed ? {} : { claim: this.#ports.id, version: this.#ports.version }),
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
    const { chance, cursor, answers: decidedNow, more: moreToDecide } = decided;
    const answers = decidedNow.length > 0 || this.inbox.isHolding;
    const more = moreToDecide || !this.outcomes.isEmpty;
    return { term: this.state.term, cursor, chance, events: sheet.events, answers, more };
  }

  committed(ms: number): void {
    this.metrics.committed(ms, this.#decided);
  }

  stored(): void {
    const { answers, closed } = this.#decided;
    const storedAt = this.now();
    if (!this.#hasClaimed) this.#catchUp();
    if (this.leads) this.#leading.resolve(true);
    if (this.isSure) this.inbox.release();
    const given = { storedAt, metrics: this.metrics, onDefect: this.#ports.onDefect };
    for (const { to, answer } of answers) giveAnswer(to, answer, given);
    if (closed) this.#end({ type: "closed" });
  }

  fenced(): void {
    this.#end({ type: "fenced" });
  }

  broke(cause: unknown, { leads }: { leads: boolean }): void {
    this.#end(this.#leftOut.broken(cause, { pool: this.#ports.pool, undecided: this.engine.undecided, leads }));
  }

  stalled(yes: boolean): void {
    if (yes) this.inbox.stall(this.engine.requests.takeUnbegun());
    else this.inbox.goOn();
  }

  wakeAt(): number {
    return this.leads ? Math.min(headAt(this.#ports, this.state), this.engine.wakeAt()) : Infinity;
  }

  /** The first turn has claimed the ledger, and its commit is stored. */
  #catchUp(): void {
    this.#hasClaimed = true;
    void catchUp(this.#ports, this.engine, {
      outcomes: this.outcomes,
      stopping: this.#stopping.signal,
      onAnnounced: () => this.#ports.tell({ type: "claimed" }),
      onLook: () => this.leads && this.#leading.resolve(true),
      onOutcome: () => this.#loop.wake(),
      onStuck: () => this.#end({ type: "stuck" }),
    }).catch((bug: unknown) => this.broke(bug, { leads: false }));
  }

  #end(event: LeaderEvent): void {
    if (this.inbox.isOver) return;
    this.stop();
    // If the pool was closed, here and in the ledger, the leader may still answer. A fenced leader must not.
    if (event.type === "closed")
      for (const { to } of this.inbox.take()) to.respond(refuse("unknown-pool", "The pool has been closed."));
    this.#ports.tell(event);
  }
}
