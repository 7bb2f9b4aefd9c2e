// The recorded history, decided once more. Each recorded event is read back into its input, and decided by the
// service's own decisions. The result must equal the record, event by event. So the inputs are verified before they are
// applied to another policy. A record that this program would have decided otherwise is detected.
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
  /** Events that were decided once more with the same result. */
  reproduced = 0;
  /** The first difference. After it nothing is known. */
  difference: Difference | undefined;
  #leads = true;

  constructor(state: PoolState, checker: Checker) {
    super(state, checker);
  }

  /** Is the leader serving, as far as its commits tell? After a claim it first only ingests outcomes. */
  get leads(): boolean {
    return this.#leads;
  }

  /** Before the range: folded, not decided. */
  skip(entry: Entry, commit: CommitEnvelope): void {
    foldCommit(this.state, commit);
    this.#noteLeader(commit);
    this.checker.check(entry);
  }

  /** The inputs of the commit; undefined if it could not be reproduced. */
  replay(entry: Entry, commit: CommitEnvelope): Input[] | undefined {
    this.begin(commit.at, chanceFor(commit, 0));
    const recorded = commit.events as Event[]; // The checker has checked them.
    const inputs: Input[] = [];
    for (let next = 0; next < recorded.length; ) {
      const before = this.turn.events.length;
      const input = inputOf(recorded[next]!, this.state, recorded[next + 1]); // The index is below the length.
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
    const recorded = events as { type: Event["type"]; how?: string }[];
    // In the turn of its claim a leader serves only in a new ledger, where no outcome is left to ingest. In any other
    // ledger that turn may open a closed pool, but it ends no lease and no rest.
    if (recorded.some(({ type }) => type === "LeaderClaimed")) this.#leads = n === 1;
    else if (recorded.some(isOfServing)) this.#leads = true;
  }
}

/** A leader that catches up commits only what outcomes cause. */
function isOfServing({ type, how }: { type: Event["type"]; how?: string }): boolean {
  return !ofOutcomes.has(type) && (type !== "LeaseClosed" || how !== "completed");
}

const ofOutcomes = new Set<string>(["UseReported", "OutcomesIgnored", "RequestsRefused", "RestBegan", "ProxyRetired"]);
