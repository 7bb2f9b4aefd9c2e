// An alternative history: the recorded inputs under another policy. The record does not have everything that is needed.
// So some things are assumed, and the result names these assumptions (what-if.ts). A lease request comes at the moment
// when it was granted in the record. If it has to wait here, its outcomes come later by the same time. A worker makes as
// many uses as recorded, with the same outcomes, even if another proxy is leased.
//
// It decides by command and does not use `Engine.turn`: recorded facts (refusals, claims) come between the commands of
// a turn, and the engine would add its own sums of refusals and split a recorded turn at its own bound of timer events.
import type { CommitEnvelope } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import type { PolicyChanged, PoolOpened } from "../../../events/pool.ts";
import type { RefusalWord } from "../../../events/refusal.ts";
import { Fault } from "../../../runtime/fault.ts";
import type { Answer, Command, LeaseCommand } from "../../../state-machines/command.ts";
import { expire } from "../../../state-machines/decide/lease.ts";
import { changePolicy, close, closeWhenDrained } from "../../../state-machines/decide/pool.ts";
import { tick, wakeAt } from "../../../state-machines/decide/timers.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import { readPolicy } from "../../../state-machines/policy/policy.ts";
import { Counts } from "../../../state-machines/queue/counts.ts";
import { WaitingRequests } from "../../../state-machines/queue/waiting.ts";
import { Heap } from "../../../state-machines/structures/heap.ts";
import type { Checker } from "../checker/checker.ts";
import { chanceFor, History } from "./history.ts";
import type { Input } from "./inputs.ts";

type OfLease = Input & { command: Extract<Command, { type: "report" | "complete" | "release" | "renew" }> };

interface Pending {
  at: number;
  order: number;
  input: OfLease;
  place: number;
}

export interface Waited {
  requests: number;
  granted: number;
  longestMs: number;
  totalMs: number;
}

export class AlternativeHistory extends History {
  readonly refused: Partial<Record<RefusalWord, number>> = {};
  readonly waited: Waited = { requests: 0, granted: 0, longestMs: 0, totalMs: 0 };
  /** Recorded uses that could not have been made. */
  usesLost = 0;
  readonly #waiting: WaitingRequests<string>;
  readonly #patch: Record<string, unknown>;
  readonly #waitMs: number;
  readonly #asked = new Map<string, { at: number; backlog: { at: number; input: OfLease }[] }>();
  /** For leases granted later than recorded: the delay. */
  readonly #delays = new Map<string, number>();
  readonly #pending = new Heap<"place", Pending>("place", (a, b) => (a.at !== b.at ? a.at < b.at : a.order < b.order));
  #order = 0;
  #head: Pick<CommitEnvelope, "term" | "cursor"> = { term: 0, cursor: { seq: 0, at: 0 } };

  /**
   * @param given.patch a partial policy, merged over each recorded policy.
   * @throws Fault if the result is not a valid policy.
   */
  constructor(state: PoolState, given: { checker: Checker; patch: Record<string, unknown>; waitMs: number }) {
    super(state, given.checker);
    this.#waiting = new WaitingRequests(state, this.candidates, new Counts());
    this.#patch = { ...given.patch, token: null };
    this.#waitMs = given.waitMs;
    if (state.commits === 0) return;
    this.#head = { term: state.term, cursor: state.cursor };
    this.begin(state.at, chanceFor({ n: state.commits }, 1));
    const changed = changePolicy(this.turn, { policy: this.#patch });
    if ("refusal" in changed) {
      const advice =
        changed.refusal.field === "policy.limitBy" ? " Leave --from out, or begin when the pool was idle." : "";
      throw new Fault("fix-setup", `--policy: ${changed.refusal.message}${advice}`);
    }
    this.commit(this.#head);
  }

  get waitingNow(): number {
    return this.#waiting.size;
  }

  /**
   * Applies the events that time makes due before `until`.
   * @param recordedWakeAt when the record's own next tick is due.
   */
  passTo(until: number, recordedWakeAt: number, n: number): void {
    for (let turns = 1; ; turns++) {
      const tickAt = wakeAt(this.state);
      const at = Math.min(
        // If the record is late too, its leader was late: nothing happens here before it happened there.
        recordedWakeAt > tickAt ? tickAt : Infinity,
        this.#pending.top?.at ?? Infinity,
        this.#waiting.wakeAt(),
      );
      if (at >= until) return;
      this.begin(Math.max(at, this.state.at), chanceFor({ n }, turns), this.#noteEvent);
      this.#takePending();
      this.#serve();
      closeWhenDrained(this.turn);
      this.#endTurn();
    }
  }

  /**
   * One recorded commit.
   * @param leads whether its leader was serving, or only catching up.
   */
  replay(commit: CommitEnvelope, inputs: readonly Input[], leads: boolean): readonly Event[] {
    this.#head = { term: commit.term, cursor: commit.cursor };
    this.begin(commit.at, chanceFor(commit, 0), this.#noteEvent);
    this.#takePending();
    let served = false;
    const last: Event[] = [];
    for (const input of inputs) {
      const { command } = input;
      if (isLate(command)) last.push(...command.events);
      else if (isEarly(command)) this.#apply(input);
      else {
        if (!served) this.#serve();
        served = true;
        if (command.type === "tick") continue;
        const before = this.turn.events.length;
        this.#apply(input);
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
    for (let overdue = this.#waiting.overdue(at); overdue !== undefined; overdue = this.#waiting.overdue(at))
      this.#waiting.serveOverdue(this.turn, overdue, this.#settled);
  }

  #serveWaiting(): void {
    this.#waiting.serve(this.turn, () => true, this.#settled);
  }

  readonly #settled = (leaseId: string, answer: Answer): void => {
    if (!("lease" in answer)) return this.#refuse(leaseId, answer);
    const asked = this.#asked.get(leaseId);
    this.#asked.delete(leaseId);
    if (asked === undefined) return;
    const delay = this.turn.at - asked.at;
    this.waited.granted++;
    this.waited.totalMs += delay;
    this.waited.longestMs = Math.max(this.waited.longestMs, delay);
    this.#delays.set(leaseId, delay);
    for (const { at, input } of asked.backlog) this.#schedule(at + delay, input);
  };

  #refuse(leaseId: string, answer: Answer | "later"): void {
    const code = answer !== "later" && "refusal" in answer ? answer.refusal.code : "overloaded";
    this.refused[code] = (this.refused[code] ?? 0) + 1;
    for (const { input } of this.#asked.get(leaseId)?.backlog ?? [])
      if (input.command.type === "report") this.usesLost++;
    this.#asked.delete(leaseId);
  }

  #apply(input: Input): void {
    const { command, refreshLease, strategy } = input;
    if (refreshLease !== undefined) return this.#ask(refreshLease);
    if (isOfLease(input)) return this.#ofLease(input);
    switch (command.type) {
      case "lease": {
        const isSame = JSON.stringify(strategy) === JSON.stringify(this.state.rules.policy.strategy);
        return this.#ask(isSame ? command : { ...command, drawn: undefined });
      }
      case "record":
        for (const event of command.events) this.#applyFact(event);
        return;
      default:
        this.decide(command);
    }
  }

  /** Without a token, because tokens are not decided again. */
  #ask({ request: { token: _token, ...request }, ...asked }: LeaseCommand): void {
    const { at } = this.turn;
    const { leaseId } = asked;
    // The recorded proxy is tried first.
    if (asked.drawn !== undefined) this.checker.model.pinned.add(leaseId);
    const whole = { ...asked, request, deadline: at + this.#waitMs };
    const { with: first } = asked;
    // A further lease is a request of its own if it must wait, or if the first one has not been granted.
    const command =
      first === undefined
        ? whole
        : { ...whole, with: undefined, request: { ...request, requestId: undefined, count: undefined } };
    const answer = this.decide(first !== undefined && this.state.leases.has(first) ? whole : command);
    if (answer !== "later" && "lease" in answer) return;
    const isExhausted = answer !== "later" && "refusal" in answer && answer.refusal.code === "pool-exhausted";
    const isFull = this.#waiting.size >= this.state.rules.policy.waiting.max;
    if (!isExhausted || this.#waitMs === 0 || isFull || !this.#waiting.add(command, leaseId))
      return this.#refuse(leaseId, answer);
    this.waited.requests++;
    this.#asked.set(leaseId, { at, backlog: [] });
  }

  #applyFact(event: Event): void {
    switch (event.type) {
      case "HeadSigned": // Belongs to the recorded history, as does the next.
      case "SegmentArchived":
      case "TokenRequested":
      case "TokenMinted":
      case "TokenRefused":
      case "TokenRejected":
        return;
      case "PoolOpened":
      case "PolicyChanged":
        return this.turn.emit({ ...event, policy: this.#policyFor(event), version: this.state.policyVersion + 1 });
      case "PoolClosed":
        // A draining pool closes when its own last lease has ended.
        if (event.draining === true) close(this.turn, { drain: true });
        else if (this.state.opened && !this.state.draining) close(this.turn, { drain: false });
        return;
      case "LeaseClosed": {
        // Its ledger was restored. In this history another lease may be open.
        const lease = this.state.leases.get(event.leaseId);
        if (lease !== undefined) expire(this.turn, lease);
        return;
      }
      default:
        this.turn.emit(event);
    }
  }

  #policyFor(event: PoolOpened | PolicyChanged): PoolOpened["policy"] {
    const read = readPolicy(this.#patch, event.policy);
    if ("refusal" in read) throw new Fault("fix-setup", `--policy: ${read.refusal.message}`);
    if (read.policy.limitBy !== this.state.rules.policy.limitBy && this.state.leases.size > 0)
      throw new Fault("fix-setup", "limitBy changes in the record at a moment when leases are open under this policy.");
    return read.policy;
  }

  #ofLease(input: OfLease): void {
    const { at } = this.turn;
    const leaseId = leaseIdOf(input);
    const asked = this.#asked.get(leaseId);
    if (asked !== undefined) asked.backlog.push({ at, input });
    else {
      const delay = this.#delays.get(leaseId) ?? 0;
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
      this.#applyToLease(next.input, this.#delays.get(leaseIdOf(next.input)) ?? 0);
    }
  }

  #applyToLease(input: OfLease, delay: number): void {
    const { command, usesGranted = 0, closes } = input;
    const leaseId = leaseIdOf(input);
    const lease = this.state.leases.get(leaseId) ?? this.state.closedLeases.get(leaseId);
    if (lease === undefined) {
      if (command.type === "report") this.usesLost++;
      return;
    }
    switch (command.type) {
      case "report": {
        const { outcome, storedAt = this.turn.at } = command;
        const n = outcome.n ?? 1;
        if (n > lease.uses && n <= usesGranted) {
          this.usesLost++; // Its worker would have known that it has fewer.
          return;
        }
        // If more uses were recorded than it has, its last possible use is the last.
        const ends = closes === true && lease.uses > usesGranted;
        const seen = ends ? { ...outcome, final: true } : outcome;
        this.decide({ type: "report", outcome: seen, storedAt: storedAt + delay });
        return;
      }
      case "release":
        this.decide({ ...command, used: Math.min(command.used ?? lease.uses, lease.uses) });
        return;
      default:
        this.decide(command);
    }
  }

  readonly #noteEvent = (event: Event): void => {
    if (event.type === "LeaseClosed") this.#delays.delete(event.leaseId);
  };
}

function isOfLease(input: Input): input is OfLease {
  return ["report", "complete", "release", "renew"].includes(input.command.type);
}

function leaseIdOf({ command }: OfLease): string {
  return command.type === "report" ? command.outcome.leaseId : command.leaseId;
}

/** Added up at the end of a turn. */
function isLate(command: Command): command is Command & { type: "record" } {
  if (command.type !== "record") return false;
  return !["PoolOpened", "PolicyChanged", "PoolClosed", "LeaderClaimed", "LeaseGranted"].includes(typeOf(command));
}

/** Ingested before the events of time. */
function isEarly(command: Command): boolean {
  if (command.type === "record") return ["LeaderClaimed", "PoolOpened"].includes(typeOf(command));
  return command.type === "report" || command.type === "complete";
}

function typeOf({ events }: Command & { type: "record" }): string {
  return events[0]?.type ?? "";
}
