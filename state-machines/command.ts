// Everything that can be decided, as data. What comes from outside has been parsed at the edge: here types are trusted.
//
// A command is decided from the state and its candidates alone (decide.ts). A request is what a driver asks the engine
// for: a command, several that are answered together, or something about the requests that wait (engine.ts).
import type { Event } from "../events/event.ts";
import type { HeadSigned } from "../events/head.ts";
import type { WhyIgnored } from "../events/outcome.ts";
import type { LeaseRequest, ReleaseReply } from "../protocol/lease.ts";
import type { Outcome } from "../protocol/outcome.ts";
import type { Refusal } from "../protocol/refusal.ts";
import type { RejectReply, TokenReply } from "../protocol/token.ts";
import type { Drawn } from "./decide/lease.ts";
import type { Newcomer } from "./decide/proxy.ts";
import type { TokenResult } from "./decide/token-result.ts";
import type { Lease } from "./fold/state.ts";

export interface LeaseCommand {
  type: "lease";
  request: LeaseRequest;
  /** Of the lease, if one is granted: unguessable, made by the driver. */
  leaseId: string;
  /** How long it may wait at the engine, in the pool's time. */
  deadline: number;
  /** Taken where that proxy can be leased, in place of another draw. */
  drawn?: Drawn | undefined;
}

export type Command =
  | LeaseCommand
  | { type: "renew"; leaseId: string; ttlMs?: number | undefined }
  | { type: "release"; leaseId: string; used?: number | undefined }
  /** `storedAt`: when the broker stored it; absent: it was sent as a request. */
  | { type: "report"; outcome: Outcome; storedAt?: number }
  /** An outcome that cannot be read: counted, as any that is ignored. */
  | { type: "ignore"; leaseId: string; n: number; why: WhyIgnored }
  | { type: "add"; newcomer: Newcomer }
  | { type: "retire"; proxyId: string; reason: string | undefined }
  | { type: "rest"; proxyId: string; forMs: number; note: string | undefined }
  | { type: "revive"; proxyId: string }
  | { type: "open"; policy: Record<string, unknown> | undefined; keyFingerprint: string }
  | { type: "change-policy"; policy: Record<string, unknown>; ifVersion?: number | undefined }
  | { type: "close"; drain: boolean }
  | { type: "reject-token"; tokenId: string; proxyId?: string | undefined }
  | { type: "finish-refresh"; result: TokenResult }
  /** Another leader takes over. */
  | { type: "claim"; leader: string }
  | { type: "sign-head"; head: SignedHead }
  /** What time has made due. */
  | { type: "tick" }
  /** Facts of a recorded history, taken as they are. */
  | { type: "record"; events: readonly Event[] }
  /** A lease ends before all of its uses were reported: a second copy of an outcome said so, or one without a result. */
  | { type: "complete"; leaseId: string; made: number }
  /** The usage rest of an exit that a refused lease request began. `isSpent`: no use of its quota was left. */
  | { type: "rest-for-usage"; proxyId: string; isSpent: boolean; usesLeft: number };

export type SignedHead = Pick<HeadSigned, "n" | "hash" | "keyId" | "signature">;

export type Request =
  | Command
  /** In slices, over several turns where they do not fit into one. */
  | { type: "each"; commands: readonly Command[] }
  /** Takes back a copy of the lease request that waits under this id. */
  | { type: "cancel"; requestId: string }
  /** Absent `proxyId`: the pool's token or, where each proxy has its own, any one's. */
  | { type: "get-token"; proxyId: string | undefined; deadline: number }
  /** A query: its driver looks at the state once the turn is stored. `counts`: not while candidates are worked out anew. */
  | { type: "look"; counts?: true };

/** A token that may be given; its driver knows the value. */
export type TokenGiven = Omit<TokenReply, "value">;

/** What became of a command about one proxy. */
export type ProxyAnswer = "added" | "already" | "updated" | "changed" | "unchanged" | "unknown";

/** What is answered, as data. Entities are those of the state: they say what holds at the end of the turn. */
export type Answer =
  | { refusal: Refusal }
  /** Granted, renewed, or the lease of the outcome. */
  | { lease: Lease }
  | { released: ReleaseReply }
  | { ignored: WhyIgnored; leaseId: string; n: number }
  | { proxy: ProxyAnswer }
  /** Of the policy, which is accepted. */
  | { warnings: string[] }
  | { rejected: RejectReply }
  | { accepted: boolean }
  | { token: TokenGiven }
  | { each: readonly Answer[] }
  /** To who cancels: whether there was such a request. */
  | { found: boolean }
  /** To the request that was cancelled. */
  | { cancelled: true }
  /** Nothing more to say. `settled`: nothing is left that time has made due. */
  | { settled: boolean };
