// The ledger as its writer and readers see it: a list of commits. Only a writer that has seen the last commit may add
// one. It has two implementations, JetStream and memory, and one contract test holds for both.
import { Fault } from "./fault.ts";

export interface StoredCommit {
  /** Place in the stream. Grows, with gaps if other ledgers share the stream. */
  seq: number;
  /** The writer's id for the commit. */
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

/** Infinity: it has no bound. */
export interface Room {
  bytes: number;
  bytesMax: number;
}

export interface Ledger {
  /**
   * True: several servers keep it, so a read may be answered by one that was cut off, and proves nothing. Only a commit
   * does.
   */
  readonly isReplicated?: boolean;
  /**
   * Every commit after `seq`, in order, up to the commit that is last when the read begins. A reader that knows the
   * number of the commit at `seq` says it: then the archive is not looked into without need.
   */
  read(afterSeq: number, afterN?: number): AsyncIterable<StoredCommit>;
  /** The last commit, conclusively. Throws a Fault "retry-later" while the broker is away. */
  head(): Promise<Head>;
  /**
   * Stores the bytes if the last commit is `afterSeq`. Returns only a certain result. "fenced" means that the bytes are
   * not the ledger's next commit and never will be, because another one is. While the result is uncertain (the broker
   * is away, or electing) it resends the same bytes and reads back. Throws a Fault only if the ledger was closed.
   */
  append(commit: { id: string; bytes: Uint8Array; afterSeq: number }): Promise<{ seq: number } | "fenced">;
  /** The broker's clock, ms. The true time is at least this when the call returns. Throws as `head` does. */
  now(): Promise<number>;
  /** How much it holds, and may hold, as far as is known here. */
  room(): Room;
  /** Finds that out. Throws as `head` does. */
  measure(): Promise<void>;
}

/**
 * On a cluster, a server that was cut off may answer as the stream's leader for up to ten seconds, and does not have
 * the last commits. So a ledger that ends too early is looked at again for this long before it counts as damaged.
 */
export const lookAgainMs = 15_000;

/** Acknowledged commits are gone. Serving the remainder would break limits that were counted in them. */
export function wentBackwards(known: number, found: number): Fault {
  const message = `The ledger ends at sequence ${found}, but ${known} was acknowledged: commits were lost. Restore the stream from a backup.`;
  return new Fault("stop-damaged", message);
}
