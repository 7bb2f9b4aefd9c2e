// A ledger in memory, for tests and the simulator. It fulfils the same contract as the JetStream one.
import type { Head, Ledger, Room, StoredCommit } from "./ledger.ts";

export class MemoryLedger implements Ledger {
  readonly commits: StoredCommit[] = [];
  readonly #wall: () => number;
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(given: { wall?: () => number; bytesMax?: number } = {}) {
    this.#wall = given.wall ?? Date.now;
    this.#bytesMax = given.bytesMax ?? Number.POSITIVE_INFINITY;
  }

  async *read(afterSeq: number): AsyncIterable<StoredCommit> {
    const end = this.commits.length;
    for (const commit of this.commits.slice(0, end)) if (commit.seq > afterSeq) yield commit;
  }

  async head(): Promise<Head> {
    const last = this.commits.at(-1);
    return last === undefined ? { seq: 0, id: "" } : { seq: last.seq, id: last.id };
  }

  async append(commit: { id: string; bytes: Uint8Array; afterSeq: number }): Promise<{ seq: number } | "fenced"> {
    return this.store(commit);
  }

  /** Stores at once, as a broker does with a message that arrives, whether or not the writer gets the answer. */
  store(commit: { id: string; bytes: Uint8Array; afterSeq: number }): { seq: number } | "fenced" {
    const last = this.commits.at(-1);
    if (last?.id === commit.id) return { seq: last.seq };
    if ((last?.seq ?? 0) !== commit.afterSeq) return "fenced";
    const seq = commit.afterSeq + 1;
    this.commits.push({ seq, id: commit.id, storedAt: this.#wall(), bytes: commit.bytes.slice() });
    this.#bytes += commit.bytes.length;
    return { seq };
  }

  async now(): Promise<number> {
    return this.#wall();
  }

  room(): Room {
    return { bytes: this.#bytes, bytesMax: this.#bytesMax };
  }

  async measure(): Promise<void> {}
}
