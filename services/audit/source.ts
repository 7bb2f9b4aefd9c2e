// Where an audit reads a ledger from: a stream of JetStream, or a file. It hands out the commits' raw bytes, since the
// hash chain is over them, in batches, so that a file costs no promise per commit. It judges nothing.

export interface Entry {
  /** In the stream. 0: not known, a file has only lines. */
  seq: number;
  /** By the broker's clock, ms. 0: not known. */
  storedAt: number;
  /** In the file, from 1. 0: it comes from a stream. */
  line: number;
  bytes: Buffer;
}

export interface LedgerSource {
  /** For messages: `stream REMUDA_LEDGER, pool default`, or the file's name. */
  readonly where: string;
  /** Whose ledger it is. Absent: the ledger says. */
  readonly pool?: string;
  /** How much there is: of a stream the last sequence, of a file its bytes. For estimates of what is left. */
  size(): Promise<number>;
  /** How much of `size` has been handed out by the present reading. */
  readonly done: number;
  /** Every commit after a place, in order, up to what is last when it asks. */
  read(after?: { seq: number }): AsyncIterable<readonly Entry[]>;
  /** And those to come, until aborted. Absent: it cannot grow. */
  follow?(after: { seq: number }, signal: AbortSignal): AsyncIterable<readonly Entry[]>;
  /** The commit with this sequence. Absent: a file has none. */
  entryAt?(seq: number): Promise<Entry | undefined>;
  /** The last commit; undefined: there is none. */
  last(): Promise<Entry | undefined>;
  close(): Promise<void>;
}
