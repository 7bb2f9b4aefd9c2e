// Guest tokens: what the ledger records of them. It knows them by their ids; a token's value is never in it.
export const tokenStates = ["missing", "refreshing", "fresh", "stale", "unavailable"] as const;
export type TokenStateName = (typeof tokenStates)[number];

/** `t_` + 22 characters. */
export const tokenIdPattern = /^t_[A-Za-z0-9_-]{22}$/;

/** `ignored`: not the current one any more. `kept`: the current one is younger than `minAgeMs`, so no refresh is made. */
export const rejectActions = ["refreshing", "kept", "ignored"] as const;
export type RejectAction = (typeof rejectActions)[number];

/** Why a refresh came to nothing. */
export const whyRefused = [
  /** Its time was over before a result came. */
  "deadline",
  /** It was not sent: no time was left for it. */
  "not-sent",
  "timeout",
  /** The proxy, or the target through it, could not be reached, or broke off. */
  "unreachable",
  /** The source answered with another status than 2xx. */
  "status",
  "too-large",
  /** The answer is not what the source's description says: no JSON, not UTF-8. */
  "unreadable",
  /** The answer has no value, or no life, where the description says; or one that cannot be a token. */
  "no-value",
  "no-life",
] as const;
export type WhyRefused = (typeof whyRefused)[number];

/** Why a refresh was begun. */
export type WhyRequested = "asked" | "rejected" | "expired" | "ahead";

/** In one commit with the `LeaseGranted` of the lease that it goes through, just after it. */
export interface TokenRequested {
  type: "TokenRequested";
  /** Of the refresh, and of the token that it brings. */
  tokenId: string;
  scope: "proxy" | "pool";
  /** Whose token it is; absent: the pool's. */
  proxyId?: string | undefined;
  token: "refreshing";
  leaseId: string;
  /** Until then, or until its result has come, there is no second. */
  deadlineAt: number;
  why: WhyRequested;
}

export interface TokenMinted {
  type: "TokenMinted";
  tokenId: string;
  proxyId?: string | undefined;
  token: "fresh";
  mintedAt: number;
  expiresAt?: number | undefined;
}

export interface TokenRefused {
  type: "TokenRefused";
  /** Of the refresh. */
  tokenId: string;
  proxyId?: string | undefined;
  /** `fresh`: an earlier token is still good. */
  token: "missing" | "fresh" | "stale" | "unavailable";
  why: WhyRefused;
  /** With `status`. */
  status?: number | undefined;
  /** In a row. */
  failures: number;
  /** No other refresh before. */
  retryAt: number;
}

/** The first that is accepted is told at once; others are aggregated, by token and what became of them. */
export interface TokenRejected {
  type: "TokenRejected";
  /** The one that was rejected. Absent: no token ever had the id that was given. */
  tokenId?: string | undefined;
  /** Whose token it is; absent: the pool's, or unknown. */
  proxyId?: string | undefined;
  token: TokenStateName;
  action: RejectAction;
  /** Nobody rejected it: the leader that took over found no value of it. */
  why?: "value-lost" | undefined;
  /** Of one that led to no refresh: how many. */
  count?: number | undefined;
  /** `kept`: since then, and until then. `ignored`: what is current since when. */
  mintedAt?: number | undefined;
  keptUntil?: number | undefined;
}

export type TokenEvent = TokenRequested | TokenMinted | TokenRefused | TokenRejected;
