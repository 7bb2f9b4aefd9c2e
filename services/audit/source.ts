// The source of a ledger: a stream of JetStream, or a file. It returns the commits' raw bytes, because the hash chain
// is over them, in batches, so that a file costs no promise per commit. It checks nothing.

export interface Entry {
  /** In the stream. 0: unknown, it comes from a file. */
  seq: number;
  /** By the broker's clock, ms. 0: unknown. */
  storedAt: number;
  /** In the file, from 1. 0: it comes from a stream. */
  line: number;
  bytes: Buffer;
}

export interface LedgerSource {
  /** For messages: `stream REMUDA_LEDGER, pool default`, or the file's name. */
  readonly where: string;
  /** The pool of the ledger. Absent: the ledger names it. */
  readonly pool?: string;
  /** The last sequence of a stream, or the bytes of a file, to estimate the remaining work. */
  size(): Promise<number>;
  /** How much of `size` the current reading has returned. */
  readonly done: number;
  /** Every commit after a place, in order, up to the last one at the time of the call. */
  read(after?: { seq: number }): AsyncIterable<readonly Entry[]>;
  /** Also later commits, until aborted. Absent: the source cannot grow. */
  follow?(after: { seq: number }, signal: AbortSignal): AsyncIterable<readonly Entry[]>;
  /** The commit with this sequence. Absent: a file has none. */
  entryAt?(seq: number): Promise<Entry | undefined>;
  /** The number of the first commit that it can give. Absent: 1, unless a file's manifest says otherwise. */
  firstNumber?(): Promise<number>;
  /** The last commit; undefined if there is none. */
  last(): Promise<Entry | undefined>;
  close(): Promise<void>;
}
