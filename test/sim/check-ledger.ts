// The ledger itself: numbers without a gap, an unbroken chain, one writer at a time, and time that never goes back.
// Outcomes stored before a claim are ingested before anything is granted or ends. The ledger contains no secret.
import { createHash } from "node:crypto";
import type { Event } from "../../events/event.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { isAfter, type SimBroker } from "./broker.ts";
import type { Court } from "./court.ts";
import { secretMark } from "./setting.ts";

export interface ReadCommit {
  n: number;
  prev: string;
  term: number;
  at: number;
  cursor: { seq: number; at: number; taken?: number };
  chance?: string;
  events: Event[];
}

export class LedgerChecker {
  readonly #court: Court;
  readonly #broker: SimBroker;
  #n = 0;
  #hash = "";
  #at = 0;
  #cursor = { seq: 0, at: 0 };
  /** Outcomes that were in the stream when the present leader's claim was stored, and that have not been ingested. */
  #owed: { seq: number; storedAt: number }[] = [];

  constructor(court: Court, broker: SimBroker) {
    this.#court = court;
    this.#broker = broker;
  }

  read(stored: StoredCommit): ReadCommit {
    const text = Buffer.from(stored.bytes).toString();
    const commit = JSON.parse(text) as ReadCommit; // Its fields are checked below.
    const court = this.#court;
    if (commit.n !== this.#n + 1) court.find("ledger", `commit ${commit.n} follows commit ${this.#n}`);
    if (commit.prev !== this.#hash)
      court.find("ledger", `commit ${commit.n} does not name the hash of the one before it`);
    if (commit.at < this.#at)
      court.find("ledger", `commit ${commit.n} is of ${commit.at}, the one before it of ${this.#at}`);
    if (commit.at > court.world.now + 1000)
      court.find("ledger", `commit ${commit.n} is of ${commit.at}, ${commit.at - court.world.now} ms from now`);
    const claimed = commit.events.find((event) => event.type === "LeaderClaimed");
    const term = court.book.term + (claimed === undefined ? 0 : 1);
    if (commit.term !== term || (claimed !== undefined && claimed.term !== term))
      court.find("ledger", `commit ${commit.n} is of term ${commit.term}; the ledger is in term ${term}`);
    if (text.includes(secretMark)) court.find("secret", `commit ${commit.n} has a password in it`);
    this.#catchUp(commit, claimed !== undefined);
    this.#n = commit.n;
    this.#at = commit.at;
    this.#hash = createHash("sha256").update(stored.bytes).digest("base64url");
    return commit;
  }

  #catchUp(commit: ReadCommit, claimed: boolean): void {
    const { seq, at, taken } = commit.cursor;
    if (at < this.#cursor.at) this.#court.find("ledger", `commit ${commit.n} sets the cursor back to ${seq} of ${at}`);
    this.#cursor = { seq, at };
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
    const owed = this.#owed.length - (taken === undefined ? 0 : 1);
    if (hasty !== undefined && owed > 0) {
      this.#court.find(
        "catch-up",
        `commit ${commit.n} decides ${hasty.type} while ${owed} outcomes stored before the claim are not ingested`,
      );
    }
  }
}
