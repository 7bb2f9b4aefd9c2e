// A wait group: waiting lease requests of one kind, which the same proxies could serve; and the queue of groups of one holder.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { CandidateIndex } from "../candidates/candidate-index.ts";
import type { CandidateIndexes } from "../candidates/candidates.ts";
import type { Exit } from "../fold/state.ts";
import type { Bounds } from "../rules/session.ts";
import { Heap } from "../structures/heap.ts";

export interface WaitingRequest {
  readonly request: LeaseRequest;
  readonly leaseId: string;
  /** In the pool's time. */
  readonly deadline: number;
  readonly order: number;
  indexes: CandidateIndexes;
  /** It may be served by any proxy's token, so that one is fetched for it; not by that of its session's proxy alone. */
  asks: boolean;
  deadlinePlace: number;
}

export interface WaitGroup {
  readonly key: string;
  readonly index: CandidateIndex;
  readonly bounds: Bounds;
  readonly session: string | undefined;
  readonly holder: string | undefined;
  readonly token: boolean;
  readonly requests: Set<WaitingRequest>;
  /** Of its first request. */
  order: number;
  /** Any proxy of its index will do. */
  isOpen: boolean;
  /** Of its session's proxy: what happens there concerns the group. */
  exit: Exit | null;
  /** The session's proxy, where that has no good token. */
  asksFor: string | null;
  /** When time alone may change where it stands. */
  changesAt: number;
  queue: HolderQueue | null;
  place: number;
  timedPlace: number;
}

/** Wait groups of one holder, or of none, and with or without a token. */
export interface HolderQueue {
  readonly key: string;
  readonly holder: string | undefined;
  readonly token: boolean;
  /** The earliest first. */
  readonly groups: Heap<"place", WaitGroup>;
  readonly among: HolderQueues;
  order: number;
  place: number;
}

/** The queues of groups that the same proxies could serve. */
export class HolderQueues {
  /** Those whose holder is not at its cap. */
  readonly free = new Heap<"place", HolderQueue>("place", (a, b) => a.order < b.order);
  readonly all = new Map<string, HolderQueue>();

  get first(): WaitGroup | undefined {
    return this.free.top?.groups.top;
  }
}

/** What requests of one index must have in common for the same proxies to serve them. */
export function keyOf({ session, holder, exclude, token }: LeaseRequest): string {
  const plain = session === undefined && holder === undefined && (exclude === undefined || exclude.length === 0);
  if (plain) return token === true ? "t" : "";
  return JSON.stringify([session ?? 0, holder ?? 0, token === true ? 1 : 0, ...new Set(exclude?.toSorted())]);
}

export function earlier(a: WaitGroup | undefined, b: WaitGroup | undefined): WaitGroup | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.order < a.order ? b : a;
}
