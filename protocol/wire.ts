// The wire format between this client and the service as plain interfaces, so that the published typings need no schema
// library. The contract's schemas are in this folder's other files. A type test (test/client/wire.test.ts) keeps the
// two equal.
import type { LimitedBy, RefusalWord } from "../events/refusal.ts";

export type { LimitedBy, RefusalWord };

export type Scheme = "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h";
export type Labels = Record<string, string>;

/** The terms of a lease request. All are optional. The default is one use of any proxy, without waiting. */
export interface LeaseRequest {
  /** 16 to 128 characters, unique over all clients. The same id again gives the same lease. Generated if omitted. */
  requestId?: string | undefined;
  /** So many leases, on different exits: as many as can be had at once. At most 100. */
  count?: number | undefined;
  /** The number of requests that the lease is for. Fewer may be granted. Default 1. */
  uses?: number | undefined;
  minUses?: number | undefined;
  ttlMs?: number | undefined;
  /** How long the service may let the request wait for a proxy, at most 60 000. */
  waitMs?: number | undefined;
  /** Requests with the same session get the same proxy while it is available to them. */
  session?: string | undefined;
  labels?: Labels | undefined;
  schemes?: Scheme[] | undefined;
  /** Ids of proxies that must not be given. */
  exclude?: string[] | undefined;
  /** Only this proxy is leased. Such a lease request does not wait, and has no session. */
  proxyId?: string | undefined;
  /**
   * The target of the uses: a URL or a host; only the host is kept. A pool whose strategy is `bandit` may choose by it.
   */
  target?: string | undefined;
  holder?: string | undefined;
  token?: boolean | undefined;
}

export interface LeaseReply {
  leaseId: string;
  pool: string;
  proxyId: string;
  /** With the credentials, percent-encoded. */
  url: string;
  scheme: Scheme;
  host: string;
  port: number;
  username?: string;
  password?: string;
  uses: number;
  epoch: number;
  grantedAt: number;
  expiresAt: number;
  leftMs: number;
  labels: Labels;
  session?: string;
  requestId?: string;
  /** Given if the lease request has `token: true`. */
  token?: { tokenId: string; value: string; mintedAt: number; expiresAt?: number };
}

/** To a request with `count`: at least one lease. */
export interface LeasesGranted {
  leases: LeaseReply[];
}

/** The leases of a reply to a lease request. */
export function leasesIn(reply: LeaseReply | LeasesGranted): readonly LeaseReply[] {
  return "leases" in reply ? reply.leases : [reply];
}

export type Reason =
  | "unreachable"
  | "timeout"
  | "proxy-auth"
  | "proxy-error"
  | "blocked"
  | "throttled"
  | "target-error"
  | "client-abort";

/** The result of one use. With `status` or `error` alone, the pool's policy classifies it. */
export interface Outcome {
  leaseId: string;
  /** The number of the use in the lease, from 1. Optional if the lease has one use. */
  n?: number | undefined;
  result?: "success" | "failure" | undefined;
  reason?: Reason | undefined;
  /** The target's HTTP status. */
  status?: number | undefined;
  /** A Node error code. */
  error?: string | undefined;
  latencyMs?: number | undefined;
  bytes?: number | undefined;
  /** A URL or host; only the host is kept. */
  target?: string | undefined;
  retryAfterMs?: number | undefined;
  tokenRejected?: boolean | undefined;
  tokenId?: string | undefined;
  /** Of the gateway: how it counted this use. A client's own report has none. */
  counted?: "request" | "flight" | "estimate" | "tunnel" | undefined;
  /** No further use of the lease will be made. */
  final?: boolean | undefined;
}

export type WhyIgnored = "unreadable" | "unknown-lease" | "n-missing" | "n-too-large" | "no-result" | "duplicate";

export interface IgnoredOutcome {
  leaseId: string;
  n: number;
  why: WhyIgnored;
  /** The field that is wrong. */
  field?: string;
}

export interface ReportReply {
  accepted: number;
  /** At most 100. */
  ignored: IgnoredOutcome[];
  ignoredCount: number;
  /** Leases whose proxy has begun to rest: make no further use of them. */
  stop: { leaseId: string; until: number }[];
}

export interface ReleaseReply {
  leaseId: string;
  used: number;
  returned: number;
}
