// The history as it was, decided once more: each recorded event is read back into what was asked, decided by the service's own
// decisions, and what comes out must be what was recorded, event by event. So the inputs are sure before they are put to another
// policy, and a record that this program would have decided otherwise shows.
import type { CommitEnvelope } from "../../../events/commit.ts";
import type { Event } from "../../../events/event.ts";
import { endCommit, foldCommit } from "../../../state-machines/fold/evolve.ts";
import type { PoolState } from "../../../state-machines/fold/state.ts";
import type { Checker } from "../checker/checker.ts";
import type { Entry } from "../source.ts";
import { chanceFor, History } from "./history.ts";
import { type Input, inputOf } from "./inputs.ts";

export interface Difference {
  /** Of the commit. */
  n: number;
  at: number;
  recorded: string;
  decided: string;
}

export class RecordedHistory extends History {
  /** Events that were decided once more, and came out the same. */
  reproduced = 0;
  /** The first that did not: after it nothing is known. */
  difference: Difference | undefined;
  #leads = true;

  constructor(state: PoolState, checker: Checker) {
    super(state, checker);
  }

  /** Is the leader serving, as far as its commits tell? After a claim it first takes up outcomes, and nothing else. */
  get leads(): boolean {
    return this.#leads;
  }

  /** Before the range: folded, not decided. */
  skip(entry: Entry, commit: CommitEnvelope): void {
    foldCommit(this.state, commit);
    this.#noteLeader(commit);
    this.checker.check(entry);
  }

  /** The inputs of the commit; undefined where it could not be reproduced. */
  replay(entry: Entry, commit: CommitEnvelope): Input[] | undefined {
    this.begin(commit.at, chanceFor(commit, 0));
    const recorded = commit.events as Event[]; // Judged by the checker.
    const inputs: Input[] = [];
    for (let next = 0; next < recorded.length; ) {
      const before = this.turn.events.length;
      const input = inputOf(recorded[next]!, this.state, recorded[next + 1]); // Below the length.
      this.decide(input.command);
      const decided = this.turn.events.slice(before);
      const place = decided.findIndex((event, i) => JSON.stringify(event) !== JSON.stringify(recorded[next + i]));
      if (decided.length === 0 || place >= 0) {
        const at = Math.max(place, 0);
        this.difference = {
          n: commit.n,
          at: commit.at,
          recorded: JSON.stringify(recorded[next + at] ?? null),
          decided: JSON.stringify(decided[at] ?? null),
        };
        return undefined;
      }
      if (input.closes !== undefined) input.closes = decided.some(({ type }) => type === "LeaseClosed");
      inputs.push(input);
      next += decided.length;
    }
    this.reproduced += recorded.length;
    endCommit(this.state, commit);
    this.#noteLeader(commit);
    this.checker.check(entry);
    return inputs;
  }

  #noteLeader({ n, events }: CommitEnvelope): void {
    for (const { type, how } of events as { type: Event["type"]; how?: string }[]) {
      if (type === "LeaderClaimed") this.#leads = n === 1;
      else if (!ofOutcomes.has(type) && (type !== "LeaseClosed" || how !== "completed")) this.#leads = true;
    }
  }
}

/** What a leader that is still catching up may commit. */
const ofOutcomes = new Set<string>(["UseReported", "OutcomesIgnored", "RequestsRefused", "RestBegan", "ProxyRetired"]);
