// The ledger beside the stream of outcomes and the world's clock. Outcomes stored before a claim are ingested before
// anything is granted or ends. No commit is of the future, by any clock of the broker. The ledger contains no secret.
import type { Event } from "../../events/event.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { isAfter, type SimBroker } from "./broker.ts";
import type { Court } from "./court.ts";
import { secretMark } from "./setting.ts";

export interface ReadCommit {
  n: number;
  term: number;
  at: number;
  cursor: { seq: number; at: number; taken?: number };
  chance?: string;
  events: Event[];
}

export class LedgerChecker {
  readonly #court: Court;
  readonly #broker: SimBroker;
  /** Outcomes that were in the stream when the present leader's claim was stored, and that have not been ingested. */
  #owed: { seq: number; storedAt: number }[] = [];

  constructor(court: Court, broker: SimBroker) {
    this.#court = court;
    this.#broker = broker;
  }

  read(stored: StoredCommit): ReadCommit {
    const text = Buffer.from(stored.bytes).toString();
    const commit = JSON.parse(text) as ReadCommit; // The audit checks its fields.
    const court = this.#court;
    if (commit.at > court.world.now + this.#broker.aheadMs + 1000)
      court.find("ledger", `commit ${commit.n} is of ${commit.at}, ${commit.at - court.world.now} ms from now`);
    const claimed = commit.events.some((event) => event.type === "LeaderClaimed");
    if (text.includes(secretMark)) court.find("secret", `commit ${commit.n} has a login in it`);
    this.#catchUp(commit, claimed);
    return commit;
  }

  #catchUp(commit: ReadCommit, claimed: boolean): void {
    // Outcomes that were lost in a crash of the broker need not be ingested.
    const there = new Set(this.#broker.outcomes);
    this.#owed = claimed
      ? this.#broker.outcomes.filter((message) => isAfter(message, commit.cursor))
      : this.#owed.filter((message) => there.has(message as never) && isAfter(message, commit.cursor));
    if (claimed && this.#owed.length > 0) this.#court.saw("claim: outcomes to catch up with");
    if (claimed && commit.n === 1) return;
    const hasty = commit.events.find(
      (event) =>
        event.type === "LeaseGranted" ||
        (event.type === "LeaseClosed" && event.how === "expired") ||
        (event.type === "RestEnded" && event.how === "over"),
    );
    const owed = this.#owed.length - (commit.cursor.taken === undefined ? 0 : 1);
    if (hasty !== undefined && owed > 0) {
      this.#court.find(
        "catch-up",
        `commit ${commit.n} decides ${hasty.type} while ${owed} outcomes stored before the claim are not ingested`,
      );
    }
  }
}
