// Outcomes on their way into the ledger: those that have come from the stream and wait for the leader's next turn. Taken up
// in the order of the stream; one that cannot be read is counted as ignored and stops none. Bounded: when it is full, the
// stream is followed no further until there is room.
import type { Cursor } from "../../events/commit.ts";
import { outcomeSchema, outcomesMax } from "../../protocol/outcome.ts";
import { readAs } from "../../protocol/request.ts";
import { takeUp } from "../../state-machines/decide/report.ts";
import type { Turn } from "../../state-machines/decide/turn.ts";
import type { Counts } from "./counts.ts";

/** One message of the outcomes stream. */
export interface OutcomeMessage {
  seq: number;
  storedAt: number;
  bytes: Uint8Array;
}

/** Where outcomes come from: a stream, followed from a place on. */
export interface OutcomeFeed {
  /** Delivers every message after `from`, in order; the next one when the promise has been kept. */
  follow(from: Cursor, deliver: (message: OutcomeMessage) => Promise<void>): void;
  /** The last message stored so far. */
  last(): Promise<{ seq: number; storedAt: number } | undefined>;
  stop(): void;
}

const messagesMax = 2000;
const bytesMax = 16 * 1024 ** 2;
/** Of one turn: outcomes looked at, whether or not they come to events. */
const lookedAtMax = 2000;
const utf8 = new TextDecoder("utf-8", { fatal: true });

export class Outcomes {
  #messages: OutcomeMessage[] = [];
  #bytes = 0;
  /** Of the first message, so many are taken up already. */
  #taken = 0;
  #waitingForRoom: (() => void)[] = [];
  #ended = false;

  get isEmpty(): boolean {
    return this.#messages.length === 0;
  }

  /** When the next one was stored that is to be taken up; undefined: none has come. */
  get nextAt(): number | undefined {
    return this.#messages[0]?.storedAt;
  }

  /** @param taken as the ledger's cursor says. */
  begin(taken = 0): void {
    this.#taken = taken;
  }

  /** Resolves when there is room for the next message. */
  offer(message: OutcomeMessage): Promise<void> {
    this.#messages.push(message);
    this.#bytes += message.bytes.length;
    if (!this.#isFull() || this.#ended) return Promise.resolve();
    return new Promise((resolve) => this.#waitingForRoom.push(resolve));
  }

  /** As many as there is room for. Returns how far they go. */
  take(turn: Turn, room: () => boolean, counts: Counts): Cursor {
    let { cursor } = turn.state;
    let next = 0;
    let looked = 0;
    const more = (): boolean => room() && looked < lookedAtMax;
    for (; next < this.#messages.length; next++) {
      const message = this.#messages[next]!; // Below the length.
      const outcomes = outcomesIn(message.bytes);
      for (; this.#taken < outcomes.length && more(); this.#taken++, looked++) {
        takeOne(turn, outcomes[this.#taken], { storedAt: message.storedAt, counts });
      }
      if (this.#taken < outcomes.length) {
        if (this.#taken > 0) cursor = { seq: cursor.seq, at: cursor.at, taken: this.#taken };
        break;
      }
      this.#taken = 0;
      this.#bytes -= message.bytes.length;
      cursor = { seq: message.seq, at: message.storedAt };
    }
    this.#messages.splice(0, next);
    if (!this.#isFull()) this.#goOn();
    return cursor;
  }

  /** Nothing is taken up any more: nobody is to wait for room. */
  end(): void {
    this.#ended = true;
    this.#goOn();
  }

  #goOn(): void {
    for (const resolve of this.#waitingForRoom.splice(0)) resolve();
  }

  #isFull(): boolean {
    return this.#messages.length >= messagesMax || this.#bytes >= bytesMax;
  }
}

/** Has the cursor come as far as this message? By time first: after a crash of the broker sequences begin lower again. */
export function isPast(cursor: Cursor, message: { seq: number; storedAt: number }): boolean {
  return cursor.at > message.storedAt || (cursor.at === message.storedAt && cursor.seq >= message.seq);
}

function takeOne(turn: Turn, raw: unknown, { storedAt, counts }: { storedAt: number; counts: Counts }): void {
  const read = readAs(outcomeSchema, raw);
  if ("refusal" in read) return counts.ignored("unreadable");
  const taken = takeUp(turn, read.value, storedAt);
  if ("ignored" in taken) counts.ignored(taken.ignored);
}

function outcomesIn(bytes: Uint8Array): unknown[] {
  try {
    const parsed: unknown = JSON.parse(utf8.decode(bytes));
    if (!Array.isArray(parsed)) return [parsed];
    return parsed.length > 0 && parsed.length <= outcomesMax ? parsed : [null];
  } catch {
    return [null];
  }
}
