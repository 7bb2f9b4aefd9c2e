// What travels between this client and the service, as plain interfaces: the published typings need no schema library.
// The contract's schemas are in this folder's other files; a type test (test/client/wire.test.ts) holds the two equal.
import type { LimitedBy, RefusalWord } from "../events/refusal.ts";

export type { LimitedBy, RefusalWord };

export type Scheme = "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h";
export type Labels = Record<string, string>;

/** What a lease is requested for. All may be left out: one use of any proxy, now or never. */
export interface Request {
  /** 16 to 128 characters, unique over all clients; the same one again gives the same lease. Made up where left out. */
  requestId?: string | undefined;
  /** How many requests the lease is for. Granted may be fewer. Default 1. */
  uses?: number | undefined;
  minUses?: number | undefined;
  ttlMs?: number | undefined;
  /** How long the service may let the request wait for a proxy, at most 60 000. */
  waitMs?: number | undefined;
  /** Requests with the same session get the same proxy, while it can be had. */
  session?: string | undefined;
  labels?: Labels | undefined;
  schemes?: Scheme[] | undefined;
  /** Ids of proxies not to be given. */
  exclude?: string[] | undefined;
  /** This proxy or none: such a lease request does not wait, and has no session. */
  proxyId?: string | undefined;
  /** What the uses are for: a URL or a host; only the host is kept. A pool whose strategy is `bandit` may choose by it. */
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
  /** Of a lease request with `token: true`. */
  token?: { tokenId: string; value: string; mintedAt: number; expiresAt?: number };
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

/** How one use went. With `status` or `error` alone, the pool's policy says what that means. */
export interface Outcome {
  leaseId: string;
  /** Which use of the lease, from 1; may be left out only where the lease has one. */
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
  /** No further use of the lease will be made. */
  final?: boolean | undefined;
}

export type WhyIgnored = "unreadable" | "unknown-lease" | "n-missing" | "n-too-large" | "no-result" | "duplicate";

export interface ReportReply {
  accepted: number;
  ignored: { leaseId: string; n: number; why: WhyIgnored }[];
  /** Leases whose proxy has begun to rest: make no further use of them. */
  stop: { leaseId: string; until: number }[];
}

export interface ReleaseReply {
  leaseId: string;
  used: number;
  returned: number;
}
