// Everything that can be decided, as data. The edge has parsed the input, so types are trusted here. A command is
// decided from the state and its candidates alone (decide.ts). A request is the driver's question to the engine: a
// command, several that are answered together, or an action on the waiting requests (engine.ts).
import type { Event } from "../events/event.ts";
import type { HeadSigned } from "../events/head.ts";
import type { WhyIgnored } from "../events/outcome.ts";
import type { Backup } from "../events/restore.ts";
import type { SegmentArchived } from "../events/segment.ts";
import type { WhyRefused } from "../events/token.ts";
import type { LeaseRequest, ReleaseReply } from "../protocol/lease.ts";
import type { Outcome } from "../protocol/outcome.ts";
import type { Quota } from "../protocol/quota.ts";
import type { Refusal } from "../protocol/refusal.ts";
import type { RejectReply, TokenReply } from "../protocol/token.ts";
import type { Newcomer } from "./decide/proxy.ts";
import type { Lease } from "./fold/state.ts";

export interface LeaseCommand {
  type: "lease";
  request: LeaseRequest;
  /** Id of the lease, if one is granted. Unguessable, made by the driver. */
  leaseId: string;
  /** Ids of further leases, on other exits, that are granted if they can be had at once. Absent: none. */
  more?: readonly string[] | undefined;
  /** Another lease of the same request, granted before in this turn. */
  with?: string | undefined;
  /** The request may wait at the engine until then, in the pool's time. */
  deadline: number;
  /** The lease belongs to this user. Absent: to all users. */
  user?: string | undefined;
  /** The user's quotas. Absent: none. */
  quota?: Quota | undefined;
  /** A recorded choice. It replaces a new draw if that proxy can be leased. */
  drawn?: { proxyId: string; ranked: Record<string, number> } | undefined;
}

/** `by` in an administrative command: the user who sent it. */
export type Command =
  | LeaseCommand
  /** `owner`: the lease must belong to this user. Absent: it may be any lease. */
  | { type: "renew"; leaseId: string; ttlMs?: number | undefined; owner?: string | undefined }
  | { type: "release"; leaseId: string; used?: number | undefined; owner?: string | undefined }
  /** `storedAt`: when the broker stored the outcome. Absent: it was sent as a request. */
  | { type: "report"; outcome: Outcome; storedAt?: number; owner?: string | undefined }
  /** An outcome that cannot be read. It is counted like every ignored outcome. */
  | { type: "ignore"; leaseId: string; n: number; why: WhyIgnored; field?: string | undefined }
  | { type: "add"; newcomer: Newcomer; by?: string | undefined }
  | { type: "retire"; proxyId: string; reason: string | undefined; by?: string | undefined }
  | { type: "rest"; proxyId: string; forMs: number; note: string | undefined; by?: string | undefined }
  | { type: "revive"; proxyId: string; by?: string | undefined }
  | { type: "open"; policy: Record<string, unknown> | undefined; keyFingerprint: string; by?: string | undefined }
  | {
      type: "change-policy";
      policy?: Record<string, unknown> | undefined;
      reset?: boolean;
      ifVersion?: number | undefined;
      by?: string | undefined;
    }
  | { type: "close"; drain: boolean; by?: string | undefined }
  | { type: "reject-token"; tokenId: string; proxyId?: string | undefined }
  | { type: "finish-refresh"; result: TokenResult }
  /** Another leader takes over. `version`: of Remuda. */
  | { type: "claim"; leader: string; version?: string | undefined }
  | { type: "sign-head"; head: SignedHead }
  /** A range of the ledger is in the archive, and a snapshot has it. */
  | { type: "note-archived"; segment: Omit<SegmentArchived, "type" | "inert" | "closed"> }
  /** The ledger was restored from a backup. Decided again until it is settled. */
  | ({ type: "restore" } & Backup)
  /** Does everything that time has made due. */
  | { type: "tick" }
  /** Facts of a recorded history, accepted without checks. */
  | { type: "record"; events: readonly Event[] }
  /** A lease ends before all of its uses were reported: a duplicate outcome, or one without a result, said so. */
  | { type: "complete"; leaseId: string; made: number }
  /** The usage rest of an exit, begun by a refused lease request. `isSpent`: no use of its quota was left. */
  | { type: "rest-for-usage"; proxyId: string; isSpent: boolean; usesLeft: number };

/** The result of a refresh, as its executor reports it. */
export interface TokenResult {
  tokenId: string;
  leaseId: string;
  /** Absent: no request was sent. */
  outcome: Omit<Outcome, "leaseId"> | undefined;
  /** Absent: there is no value. */
  stored: StoredToken | undefined;
  why: WhyRefused | undefined;
}

/** The state's part of a value that its driver has stored. `expiresAt` absent: no end is known. */
export interface StoredToken {
  expiresAt?: number | undefined;
}

export type SignedHead = Pick<HeadSigned, "n" | "hash" | "keyId" | "signature">;

export type Request =
  | Command
  /** Several commands. They are decided in slices, over several turns if they do not fit into one. */
  | { type: "each"; commands: readonly Command[] }
  /** Cancels one copy of the lease request that waits under this id. */
  | { type: "cancel"; requestId: string; owner?: string | undefined }
  /** Absent `proxyId`: the pool's token. Where each proxy has its own token: the token of any proxy. */
  | { type: "get-token"; proxyId: string | undefined; deadline: number }
  /** A query: its driver reads the state once the turn is stored. `counts`: only with rebuilt indexes. */
  | { type: "look"; counts?: true };

/** A token that may be given. Its value is known only to the driver. */
export type TokenGiven = Omit<TokenReply, "value">;

/** The result of a command about one proxy. */
export type ProxyAnswer = "added" | "already" | "updated" | "changed" | "unchanged" | "unknown";

/** Answers, as data. Entities are those of the state: they show the state at the end of the turn. */
export type Answer =
  | { refusal: Refusal }
  /** The lease that was granted or renewed, or the lease of the outcome. `more`: further leases of the same request. */
  | { lease: Lease; more?: readonly Lease[] }
  | { released: ReleaseReply }
  | { ignored: WhyIgnored; leaseId: string; n: number; field?: string | undefined }
  | { proxy: ProxyAnswer }
  /** Warnings about an accepted policy. */
  | { warnings: string[] }
  | { rejected: RejectReply }
  | { accepted: boolean }
  | { token: TokenGiven }
  | { each: readonly Answer[] }
  /** Answer to a cancel command: whether such a request was waiting. */
  | { found: boolean }
  /** To the request that was cancelled. */
  | { cancelled: true }
  /** No other content. `settled`: nothing is left that time has made due. */
  | { settled: boolean };
