// The broker in the simulator: a ledger whose commits may be lost, left unanswered, or land late; and a stream of
// outcomes that is not synced to disk. A crash loses its last messages, and their sequences are used again.
import type { Cursor } from "../../events/commit.ts";
import type { Head, Ledger, StoredCommit } from "../../runtime/ledger.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import type { OutcomeFeed, OutcomeMessage } from "../../services/picker/outcomes.ts";
import type { Seeded } from "../kit/seed.ts";
import type { Life } from "./life.ts";
import type { World } from "./world.ts";

type Commit = Parameters<Ledger["append"]>[0];

export interface BrokerEvents {
  /** A commit reached the disk, whether or not its writer gets the answer. */
  onStored(commit: StoredCommit): void;
}

export class SimBroker {
  readonly ledger: MemoryLedger;
  /** As stored now. */
  outcomes: OutcomeMessage[] = [];
  /** Chances per commit. */
  faults = { unanswered: 0.02, lost: 0.02, late: 0.01 };
  readonly counts = { lost: 0, unanswered: 0, late: 0, crashes: 0, outcomesLost: 0, sequencesReused: 0, clockSteps: 0 };
  readonly #world: World;
  readonly #chance: Seeded;
  readonly #events: BrokerEvents;
  #downUntil = 0;
  #highest = 0;
  #waiters: (() => void)[] = [];
  #clockOffMs = 0;
  /**
   * How far its clock has been ahead of true time, at the most. The time of an idle pool may follow it, and goes on
   * from there.
   */
  aheadMs = 0;

  constructor(given: { world: World; chance: Seeded; events: BrokerEvents }) {
    this.#world = given.world;
    this.#chance = given.chance;
    this.#events = given.events;
    this.ledger = new MemoryLedger({ wall: () => this.#wall() });
  }

  /** Its clock is set, so that it is wrong by this from now on. Outcomes are stamped by another broker. */
  setClock(offMs: number): void {
    this.counts.clockSteps++;
    this.#clockOffMs = offMs;
    this.aheadMs = Math.max(this.aheadMs, offMs);
  }

  #wall(): number {
    return this.#world.now + this.#clockOffMs;
  }

  get isDown(): boolean {
    return this.#downUntil > this.#world.now;
  }

  /** Power fails: the last outcomes, which are not synced, are lost. */
  crash(given: { forMs: number; unsynced: number }): void {
    this.counts.crashes++;
    this.#downUntil = Math.max(this.#downUntil, this.#world.now + given.forMs);
    const lost = Math.min(given.unsynced, this.outcomes.length);
    this.counts.outcomesLost += lost;
    this.outcomes = this.outcomes.slice(0, this.outcomes.length - lost);
  }

  /** False: no leader is there to receive it. */
  publish(bytes: Uint8Array): boolean {
    if (this.isDown) return false;
    const seq = (this.outcomes.at(-1)?.seq ?? 0) + 1;
    if (seq <= this.#highest) this.counts.sequencesReused++;
    this.#highest = Math.max(this.#highest, seq);
    this.outcomes.push({ seq, storedAt: this.#world.now, bytes });
    for (const wake of this.#waiters.splice(0)) wake();
    return true;
  }

  /** The ledger as one writer reaches it. */
  ledgerOf(life: Life): Ledger {
    const world = this.#world;
    const self = this;
    return {
      async *read(afterSeq: number): AsyncIterable<StoredCommit> {
        await self.#up();
        await world.sleep(1);
        await life.awake();
        yield* self.ledger.read(afterSeq);
      },
      async head(): Promise<Head> {
        await self.#up();
        await world.sleep(self.#chance.int(0, 2));
        await life.awake();
        return self.ledger.head();
      },
      // The writer resends the same bytes until the answer is conclusive, as the one on JetStream does.
      async append(commit) {
        for (;;) {
          await life.awake();
          const answer = await self.#attempt(commit);
          await life.awake();
          if (answer !== undefined) return answer;
        }
      },
      async now(): Promise<number> {
        await self.#up();
        const now = self.#wall();
        await world.sleep(self.#chance.int(0, 3));
        await life.awake();
        return now;
      },
      room: () => self.ledger.room(),
      measure: () => self.ledger.measure(),
    };
  }

  feedOf(life: Life): OutcomeFeed {
    const self = this;
    let stopped = false;
    const goesOn = (): boolean => !stopped && life.alive;
    return {
      follow(from, deliver) {
        void (async () => {
          let last = from;
          while (goesOn()) {
            await self.#up();
            const message = self.outcomes.find((each) => isAfter(each, last));
            if (message === undefined) {
              await new Promise<void>((resolve) => self.#waiters.push(resolve));
              continue;
            }
            last = { seq: message.seq, at: message.storedAt };
            await self.#world.sleep(self.#chance.int(0, 3));
            await life.awake();
            if (goesOn()) await deliver(message);
          }
        })();
      },
      async last() {
        await self.#up();
        await life.awake();
        const last = self.outcomes.at(-1);
        return last === undefined ? undefined : { seq: last.seq, storedAt: last.storedAt };
      },
      stop() {
        stopped = true;
      },
    };
  }

  store(commit: Commit): { seq: number } | "fenced" {
    const before = this.ledger.commits.length;
    const answer = this.ledger.store(commit);
    const stored = this.ledger.commits[before];
    if (stored !== undefined) this.#events.onStored(stored);
    return answer;
  }

  /** Undefined: no answer came. */
  async #attempt(commit: Commit): Promise<{ seq: number } | "fenced" | undefined> {
    const world = this.#world;
    const { lost, unanswered, late } = this.faults;
    const draw = this.#chance.next();
    if (this.isDown || draw < lost) {
      this.counts.lost++;
      await world.sleep(100);
      return undefined;
    }
    if (draw < lost + unanswered + late) {
      const isLate = draw >= lost + unanswered;
      this.counts[isLate ? "late" : "unanswered"]++;
      world.after(
        isLate ? this.#chance.int(50, 2500) : this.#chance.int(0, 3),
        () => !this.isDown && this.store(commit),
      );
      await world.sleep(100);
      return undefined;
    }
    await world.sleep(this.#chance.int(0, 3));
    // A sent message is stored even if its sender has died meanwhile.
    const answer = this.isDown ? undefined : this.store(commit);
    await world.sleep(answer === undefined ? 100 : this.#chance.int(0, 3));
    return answer;
  }

  async #up(): Promise<void> {
    while (this.isDown) await this.#world.sleep(this.#downUntil - this.#world.now);
  }
}

/** By time first: after a crash, lower sequences are used again. */
export function isAfter(message: { seq: number; storedAt: number }, cursor: Pick<Cursor, "seq" | "at">): boolean {
  return message.storedAt > cursor.at || (message.storedAt === cursor.at && message.seq > cursor.seq);
}
