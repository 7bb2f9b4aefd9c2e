// The history that never was: the recorded inputs under another policy. What the record cannot say is assumed, and the
// assumptions are told with the result (what-if.ts): a wish comes when it was granted; where it would have had to wait, its
// outcomes come later by as much; a worker makes as many uses as it made, with the same outcomes, whatever the proxy.
import type { CommitEnvelope } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import type { PolicyChanged, PoolOpened } from "../../../events/pool.ts";
import type { RefusalWord } from "../../../events/refusal.ts";
import { Fault } from "../../../runtime/fault.ts";
import type { Granted } from "../../../state-machines/decide/lease.ts";
import { changePolicy, close, closeWhenDrained } from "../../../state-machines/decide/pool.ts";
import { tick, wakeAt } from "../../../state-machines/decide/timers.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import { readPolicy } from "../../../state-machines/policy/policy.ts";
import { Waiting } from "../../../state-machines/queue/waiting.ts";
import { Heap } from "../../../state-machines/structures/heap.ts";
import type { Checker } from "../checker/checker.ts";
import { type Input, wishOf } from "./inputs.ts";
import { chanceFor, Side } from "./side.ts";

type OfLease = Extract<Input, { kind: "outcome" | "final" | "release" | "renew" }>;

interface Pending {
  at: number;
  order: number;
  input: OfLease;
  place: number;
}

export interface Waited {
  wishes: number;
  granted: number;
  longestMs: number;
  totalMs: number;
}

export class Other extends Side {
  readonly refused: Partial<Record<RefusalWord, number>> = {};
  readonly waited: Waited = { wishes: 0, granted: 0, longestMs: 0, totalMs: 0 };
  /** Recorded uses that nobody could have made. */
  usesLost = 0;
  readonly #waiting: Waiting;
  readonly #patch: Record<string, unknown>;
  readonly #waitMs: number;
  readonly #asked = new Map<string, { at: number; backlog: { at: number; input: OfLease }[] }>();
  /** Of leases granted later than recorded: by how much. */
  readonly #delays = new Map<string, number>();
  readonly #pending = new Heap<"place", Pending>("place", (a, b) => (a.at !== b.at ? a.at < b.at : a.order < b.order));
  #order = 0;
  #head: Pick<CommitEnvelope, "term" | "cursor"> = { term: 0, cursor: { seq: 0, at: 0 } };

  /** @param given.patch a partial policy, merged over each that was recorded. @throws Fault where that is none. */
  constructor(state: PoolState, given: { checker: Checker; patch: Record<string, unknown>; waitMs: number }) {
    super(state, given.checker);
    this.#waiting = new Waiting(state);
    this.#patch = { ...given.patch, token: null };
    this.#waitMs = given.waitMs;
    if (state.commits === 0) return;
    this.#head = { term: state.term, cursor: state.cursor };
    this.begin(state.at, chanceFor({ n: state.commits }, 1));
    const changed = changePolicy(this.turn, { policy: this.#patch });
    if ("refusal" in changed) {
      const elsewhen =
        changed.refusal.field === "policy.limitBy" ? " Leave --from out, or begin when the pool was idle." : "";
      throw new Fault("fix-setup", `--policy: ${changed.refusal.message}${elsewhen}`);
    }
    this.commit(this.#head);
  }

  get waitingNow(): number {
    return this.#waiting.size;
  }

  /** What time alone brings about before `until`. @param recordedWakeAt when the record's own next tick is due. */
  passTo(until: number, recordedWakeAt: number, n: number): void {
    for (let turns = 1; ; turns++) {
      const tickAt = wakeAt(this.state);
      const at = Math.min(
        // Where the record is as late, its leader was: nothing happens here before it happened there.
        recordedWakeAt > tickAt ? tickAt : Infinity,
        this.#pending.top?.at ?? Infinity,
        this.#waiting.wakeAt(this.candidates),
      );
      if (at >= until) return;
      this.begin(Math.max(at, this.state.at), chanceFor({ n }, turns), this.#noteEvent);
      this.#takePending();
      this.#serve();
      closeWhenDrained(this.turn);
      this.#endTurn();
    }
  }

  /** One recorded commit. @param leads whether its leader was serving, or only catching up. */
  replay(commit: CommitEnvelope, inputs: readonly Input[], leads: boolean): readonly Event[] {
    this.#head = { term: commit.term, cursor: commit.cursor };
    this.begin(commit.at, chanceFor(commit, 0), this.#noteEvent);
    this.#takePending();
    let served = false;
    const last: Event[] = [];
    for (const input of inputs) {
      if (input.kind === "fact" && isLate(input.event)) last.push(input.event);
      else if (isEarly(input)) this.#applyEarly(input);
      else {
        if (!served) this.#serve();
        served = true;
        if (input.kind === "tick") continue;
        const before = this.turn.events.length;
        this.#applyJob(input);
        if (this.turn.events.length > before) this.#serveWaiting();
      }
    }
    if (!served && leads) this.#serve();
    if (served || leads) closeWhenDrained(this.turn);
    for (const event of last) this.#applyFact(event);
    return this.#endTurn();
  }

  #endTurn(): readonly Event[] {
    const { events } = this.turn;
    this.commit(this.#head);
    return events;
  }

  #serve(): void {
    tick(this.turn);
    this.#serveWaiting();
    const { at } = this.turn;
    for (let waiter = this.#waiting.overdue(at); waiter !== undefined; waiter = this.#waiting.overdue(at)) {
      this.#waiting.remove(this.candidates, waiter);
      this.#refuse(waiter.leaseId, "pool-exhausted");
    }
  }

  #serveWaiting(): void {
    this.#waiting.serve(
      this.turn,
      this.candidates,
      () => true,
      ({ leaseId }, granted) => this.#settled(leaseId, granted),
    );
  }

  #settled(leaseId: string, granted: Granted): void {
    if (!("lease" in granted)) return this.#refuse(leaseId, "refusal" in granted ? granted.refusal.code : "overloaded");
    const asked = this.#asked.get(leaseId);
    this.#asked.delete(leaseId);
    if (asked === undefined) return;
    const delay = this.turn.at - asked.at;
    this.waited.granted++;
    this.waited.totalMs += delay;
    this.waited.longestMs = Math.max(this.waited.longestMs, delay);
    this.#delays.set(leaseId, delay);
    for (const { at, input } of asked.backlog) this.#schedule(at + delay, input);
  }

  #refuse(leaseId: string, code: RefusalWord): void {
    this.refused[code] = (this.refused[code] ?? 0) + 1;
    for (const { input } of this.#asked.get(leaseId)?.backlog ?? []) if (input.kind === "outcome") this.usesLost++;
    this.#asked.delete(leaseId);
  }

  #applyJob(input: Input): void {
    if (input.kind === "wish") return this.#ask(input);
    if (input.kind === "refresh") {
      const { leaseId, proxyId, ranked } = input.granted;
      const drawn = { proxyId, ranked, strategy: input.strategy };
      return this.#ask({ kind: "wish", leaseId, wish: wishOf(input.granted), drawn });
    }
    if (input.kind === "release" || input.kind === "renew") return this.#ofLease(input);
    if (input.kind === "fact") return this.#applyFact(input.event);
    this.apply(input);
  }

  #ask({ wish: { token: _token, ...wish }, drawn, ...asked }: Input & { kind: "wish" }): void {
    const { strategy } = this.state.rules.policy;
    const isSame = JSON.stringify(drawn?.strategy) === JSON.stringify(strategy);
    const input = { ...asked, wish, drawn: isSame ? drawn : undefined };
    const granted = this.wish(input);
    if ("lease" in granted) return;
    const code = "refusal" in granted ? granted.refusal.code : "overloaded";
    const indexes = code === "pool-exhausted" && this.#waitMs > 0 ? this.candidates.indexesFor(input.wish) : undefined;
    if (indexes === undefined || this.#waiting.size >= this.state.rules.policy.waiting.max)
      return this.#refuse(input.leaseId, code);
    const { at } = this.turn;
    this.waited.wishes++;
    this.#asked.set(input.leaseId, { at, backlog: [] });
    this.#waiting.add(this.candidates, indexes, {
      wish: input.wish,
      leaseId: input.leaseId,
      deadline: at + this.#waitMs,
    });
  }

  #applyEarly(input: Extract<Input, { kind: "fact" | "outcome" | "final" }>): void {
    if (input.kind === "fact") this.#applyFact(input.event);
    else this.#ofLease(input);
  }

  #applyFact(event: Event): void {
    switch (event.type) {
      case "HeadSigned": // Of another history.
      case "TokenRequested":
      case "TokenMinted":
      case "TokenRefused":
      case "TokenRejected":
        return;
      case "PoolOpened":
      case "PolicyChanged":
        return this.turn.emit({ ...event, policy: this.#policyFor(event), version: this.state.policyVersion + 1 });
      case "PoolClosed":
        // One that drains closes when its own last lease has ended.
        if (event.draining === true) close(this.turn, { drain: true });
        else if (this.state.opened && !this.state.draining) close(this.turn, { drain: false });
        return;
      default:
        this.turn.emit(event);
    }
  }

  #policyFor(event: PoolOpened | PolicyChanged): PoolOpened["policy"] {
    const read = readPolicy(this.#patch, event.policy);
    if ("refusal" in read) throw new Fault("fix-setup", `--policy: ${read.refusal.message}`);
    if (read.policy.limitBy !== this.state.rules.policy.limitBy && this.state.leases.size > 0)
      throw new Fault("fix-setup", "limitBy was changed here while, under this policy, leases would have been open.");
    return read.policy;
  }

  #ofLease(input: OfLease): void {
    const { at } = this.turn;
    const asked = this.#asked.get(input.leaseId);
    if (asked !== undefined) asked.backlog.push({ at, input });
    else {
      const delay = this.#delays.get(input.leaseId) ?? 0;
      if (delay > 0) this.#schedule(at + delay, input);
      else this.#applyToLease(input, 0);
    }
  }

  #schedule(at: number, input: OfLease): void {
    this.#pending.set({ at, order: this.#order++, input, place: -1 });
  }

  #takePending(): void {
    for (let next = this.#pending.top; next !== undefined && next.at <= this.turn.at; next = this.#pending.top) {
      this.#pending.delete(next);
      this.#applyToLease(next.input, this.#delays.get(next.input.leaseId) ?? 0);
    }
  }

  #applyToLease(input: OfLease, delay: number): void {
    const { leaseId } = input;
    const lease = this.state.leases.get(leaseId) ?? this.state.closedLeases.get(leaseId);
    if (lease === undefined) {
      if (input.kind === "outcome") this.usesLost++;
      return;
    }
    switch (input.kind) {
      case "outcome": {
        const n = input.outcome.n ?? 1;
        if (n > lease.uses && n <= input.usesGranted) {
          this.usesLost++; // Its worker would have known that it has fewer.
          return;
        }
        // Of more uses than were recorded it makes no more: the last one it made is the last.
        const ends = input.closes && lease.uses > input.usesGranted;
        this.apply({
          ...input,
          storedAt: input.storedAt + delay,
          outcome: ends ? { ...input.outcome, final: true } : input.outcome,
        });
        return;
      }
      case "release":
        this.apply({ ...input, used: Math.min(input.used, lease.uses) });
        return;
      default:
        this.apply(input);
    }
  }

  readonly #noteEvent = (event: Event): void => {
    if (event.type === "LeaseClosed") this.#delays.delete(event.leaseId);
  };
}

/** Counted up at the end of a turn. */
function isLate({ type }: Event): boolean {
  return type !== "PoolOpened" && type !== "PolicyChanged" && type !== "PoolClosed" && type !== "LeaderClaimed";
}

/** Taken up before time brings anything about. */
function isEarly(input: Input): input is Extract<Input, { kind: "fact" | "outcome" | "final" }> {
  if (input.kind === "fact") return input.event.type === "LeaderClaimed" || input.event.type === "PoolOpened";
  return input.kind === "outcome" || input.kind === "final";
}
