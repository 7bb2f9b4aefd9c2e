// The ledger as its writer and readers see it: a list of commits, to which one may be added only by who has seen the
// last. Two things implement it, JetStream and memory, and one contract test holds for both.

export interface StoredCommit {
  /** Place in the stream; grows, with gaps where other ledgers share it. */
  seq: number;
  /** The writer's id of it. */
  id: string;
  /** By the broker's clock, ms. */
  storedAt: number;
  bytes: Uint8Array;
}

export interface Head {
  /** 0: the ledger is empty. */
  seq: number;
  id: string;
}

export interface Ledger {
  /** Every commit after `seq`, in order, up to what is last when it asks. */
  read(afterSeq: number): AsyncIterable<StoredCommit>;
  /** The last commit; conclusive. Throws a Fault "retry-later" while the broker is away. */
  head(): Promise<Head>;
  /**
   * Stores the bytes if the last commit is `afterSeq`, and comes back only with what is certain: "fenced" means that
   * they are not the ledger's next commit and never will be, since another one is. While it is not certain (the broker
   * is away, or electing) it resends the same bytes and reads back. Throws a Fault only when it was closed.
   */
  append(commit: { id: string; bytes: Uint8Array; afterSeq: number }): Promise<{ seq: number } | "fenced">;
  /** The broker's clock, ms: it is that late at least when this comes back. Throws as `head` does. */
  now(): Promise<number>;
  /** How full it is, from 0 to 1. */
  fill(): Promise<number>;
}
