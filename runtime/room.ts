// The room that a bounded stream has left. The stream is asked only every few seconds. In between, this process's
// messages are counted at once. Messages of other processes show in the sequence of the next acknowledgement: then the
// stream is asked.
import type { Bus } from "./bus.ts";
import { streamInfo } from "./jetstream-api.ts";
import type { Room } from "./ledger.ts";

/** The most that the stream stores of a message besides its body: subject, headers, and the stream's own record. */
const overheadBytes = 300;
/** The largest message of another process. */
const otherBytesMax = 256 * 1024;
/** All ledgers of a stream share an answer for this long. */
const sharedMs = 4000;
/** Of the room that was left: if others may have used this share of it, the stream is asked again. */
const unknownShareMax = 0.1;
const againMs = 250;

export class StreamRoom {
  readonly #bus: Bus;
  readonly #stream: string;
  #found: Room = { bytes: 0, bytesMax: Number.POSITIVE_INFINITY };
  /** Of the stream's last message, as far as is known. */
  #lastSeq = 0;
  /** Bytes of all messages of this process: those that were sent, and those whose result is known. */
  #sent = 0;
  #concluded = 0;
  /** `#concluded` at the moment when the stream was asked: its answer includes these bytes. */
  #included = 0;
  /** Messages of this process that were stored since the answer. */
  #ownSince = 0;
  #askedOn = Number.NEGATIVE_INFINITY;
  #asked: Promise<void> | undefined;

  constructor(bus: Bus, stream: string) {
    this.#bus = bus;
    this.#stream = stream;
  }

  get room(): Room {
    const { bytes, bytesMax } = this.#found;
    return { bytes: bytes + this.#sent - this.#included, bytesMax };
  }

  /** Asks the stream, unless it was asked just now. @throws errors of the call. */
  measure(): Promise<void> {
    if (this.#asked === undefined || performance.now() - this.#askedOn > sharedMs) this.#asked = this.#ask();
    return this.#asked;
  }

  /** Counts a message that is sent. Returns a function to call with its result: its sequence if it is stored. */
  sending(bodyBytes: number): (seq: number | undefined) => void {
    const bytes = bodyBytes + overheadBytes;
    this.#sent += bytes;
    return (seq) => {
      this.#concluded += bytes;
      if (seq === undefined) return;
      this.#ownSince++;
      const others = seq - this.#lastSeq - this.#ownSince;
      const { bytes: used, bytesMax } = this.#found;
      if (others * otherBytesMax > (bytesMax - used) * unknownShareMax && performance.now() - this.#askedOn > againMs)
        this.#ask().catch(() => {}); // The next look will tell.
    };
  }

  async #ask(): Promise<void> {
    this.#askedOn = performance.now();
    const concluded = this.#concluded;
    const { config, state } = await streamInfo(this.#bus, this.#stream);
    const max = Number(config["max_bytes"] ?? -1);
    this.#found = { bytes: state.bytes, bytesMax: max > 0 ? max : Number.POSITIVE_INFINITY };
    this.#included = concluded;
    this.#lastSeq = state.last_seq;
    this.#ownSince = 0;
  }
}
