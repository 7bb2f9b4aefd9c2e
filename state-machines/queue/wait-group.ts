// A wait group: waiting lease requests that the same proxies could serve. And the queue of a holder's groups.
import type { LeaseRequest } from "../../protocol/lease.ts";
import type { Quota } from "../../protocol/quota.ts";
import type { CandidateIndex } from "../candidates/candidate-index.ts";
import type { CandidateIndexes } from "../candidates/candidates.ts";
import type { Exit } from "../fold/state.ts";
import type { Bounds } from "../rules/session.ts";
import { Heap } from "../structures/heap.ts";

export interface WaitingRequest {
  readonly request: LeaseRequest;
  readonly leaseId: string;
  /** The user that sent it, if it is known. */
  readonly user?: string | undefined;
  /** That user's quotas, as of when the request came. */
  readonly quota?: Quota | undefined;
  /** In the pool's time. */
  readonly deadline: number;
  readonly order: number;
  indexes: CandidateIndexes;
  /** Any proxy's token would serve it, so one is fetched for it. */
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
  /** Any proxy of its index may serve it. */
  isOpen: boolean;
  /** The exit of its session's proxy. Events there concern the group. */
  exit: Exit | null;
  /** The session's proxy, if it has no good token. */
  asksFor: string | null;
  /** When time alone may change its place. */
  changesAt: number;
  queue: HolderQueue | null;
  place: number;
  timedPlace: number;
}

/** Wait groups of one holder or of none, with or without a token. */
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

/** Equal for requests that the same proxies could serve. */
export function keyOf({ request, indexes: { able } }: WaitingRequest): string {
  const { session, holder, exclude, token } = request;
  const isPlain = session === undefined && holder === undefined && (exclude === undefined || exclude.length === 0);
  if (isPlain) return `${able.key} ${token === true ? "t" : ""}`;
  return JSON.stringify([able.key, session ?? 0, holder ?? 0, token === true ? 1 : 0, ...new Set(exclude?.toSorted())]);
}

export function earlier(a: WaitGroup | undefined, b: WaitGroup | undefined): WaitGroup | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return b.order < a.order ? b : a;
}
