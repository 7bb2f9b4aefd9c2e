// One of the two histories that are compared: a state, the decisions about it, and the independent checker that judges them.
// The commits of the one that never was are made as a leader makes them, so that the checker reads both alike.
import { hash } from "node:crypto";
import { type CommitEnvelope, encodeCommit } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import { Candidates } from "../../../state-machines/candidates/candidates.ts";
import { closeWhenDone, type Granted, grant, release, renew } from "../../../state-machines/decide/lease.ts";
import { add, retire } from "../../../state-machines/decide/proxy.ts";
import { takeUp } from "../../../state-machines/decide/report.ts";
import { restByHand, restWhenShort, restWhenSpent, revive } from "../../../state-machines/decide/rest.ts";
import { tick } from "../../../state-machines/decide/timers.ts";
import { Turn } from "../../../state-machines/decide/turn.ts";
import { endCommit } from "../../../state-machines/fold/evolve.ts";
import { leasesOf, usesSinceRestOf } from "../../../state-machines/fold/past.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import { Checker } from "../checker/checker.ts";
import type { Input } from "./inputs.ts";

export class Side {
  readonly state: PoolState;
  readonly candidates: Candidates;
  readonly checker: Checker;
  turn: Turn;

  constructor(state: PoolState, checker = new Checker()) {
    this.state = state;
    this.checker = checker;
    this.candidates = new Candidates(state);
    this.turn = new Turn(state, { at: state.at, chance: "0".repeat(32) });
  }

  begin(at: number, chance: string, onEvent?: (event: Event) => void): void {
    this.turn = new Turn(this.state, { at, chance, newId: noId, ...(onEvent === undefined ? {} : { onEvent }) });
  }

  /** Decides what the input calls for. Of a wish it says what became of it. */
  apply(input: Input): Granted | undefined {
    const { turn, state } = this;
    switch (input.kind) {
      case "fact":
        turn.emit(input.event);
        return;
      case "wish":
        return this.wish(input);
      case "refresh":
        turn.emit(input.granted);
        turn.emit(input.requested);
        return;
      case "outcome":
        takeUp(turn, input.outcome, input.storedAt);
        return;
      case "final": {
        const lease = state.leases.get(input.leaseId);
        if (lease === undefined) return;
        closeWhenDone(turn, lease, { final: true, made: Math.min(input.made, lease.uses) });
        restWhenSpent(turn, lease.exit);
        return;
      }
      case "release":
        release(turn, input);
        return;
      case "renew":
        renew(turn, input);
        return;
      case "tick":
        tick(turn);
        return;
      case "add":
        add(turn, input.newcomer);
        return;
    }
    const proxy = state.proxies.get(input.proxyId);
    if (proxy === undefined) return;
    switch (input.kind) {
      case "rest":
        restByHand(turn, proxy, input);
        return;
      case "revive":
        revive(turn, proxy);
        return;
      case "retire":
        retire(turn, proxy, input.reason);
        return;
      case "usage-rest": {
        const exit = proxy.account;
        const { usage } = exit.limits;
        if (input.isSpent) {
          restWhenSpent(turn, exit);
          return;
        }
        // The wish is not known that found it too short; it would find any exit so that has no more uses left.
        const isShort = usage !== null && usage.limit - usesSinceRestOf(exit) <= input.usesLeft;
        if (isShort && usesSinceRestOf(exit) > 0 && leasesOf(exit).length === 0 && exit.restUntil <= turn.at)
          restWhenShort(turn, exit);
      }
    }
  }

  wish(input: Input & { kind: "wish" }): Granted {
    for (let looks = 0; looks < 100; looks++) {
      const granted = grant(this.turn, this.candidates, input.wish, input.leaseId, input.drawn);
      if (!("again" in granted)) return granted;
    }
    return { again: true };
  }

  /** Ends the turn with a commit of its own, if it came to events; the checker judges it. */
  commit(head: Pick<CommitEnvelope, "term" | "cursor">): void {
    const { turn, state, checker } = this;
    if (turn.events.length === 0) return;
    const { chance } = turn;
    const n = state.commits + 1;
    const at = turn.at;
    const { term, cursor } = head;
    const whole = { n, prev: checker.hash, term, at, cursor, ...(chance === undefined ? {} : { chance }) };
    endCommit(state, { n, cursor });
    const text = encodeCommit(
      whole,
      turn.events.map((event) => JSON.stringify(event)),
    );
    checker.check({ seq: 0, storedAt: 0, line: n, bytes: Buffer.from(text) });
  }
}

/** Nothing is begun here that is not in the record; where that is not so, it shows as a difference. */
const noId = (): string => "0".repeat(22);

/** Where a commit records no chance because nothing was drawn in it, what is drawn in its place. */
export function chanceFor(commit: Pick<CommitEnvelope, "n" | "chance">, turnsBefore: number): string {
  return turnsBefore === 0 && commit.chance !== undefined
    ? commit.chance
    : hash("sha256", `what if ${commit.n} ${turnsBefore}`, "hex").slice(0, 32);
}
