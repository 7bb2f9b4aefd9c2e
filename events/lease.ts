// Leases: what the ledger records of them.
import type { Labels } from "./ids.ts";
import type { Scheme } from "./proxy.ts";
import type { LimitedBy, RefusalWord } from "./refusal.ts";

/** A wish as recorded: the request without defaults and without what concerns only the waiting. */
export interface Wish {
  requestId?: string | undefined;
  /** Absent: 1. */
  uses?: number | undefined;
  /** Absent: 1. */
  minUses?: number | undefined;
  ttlMs?: number | undefined;
  session?: string | undefined;
  labels?: Labels | undefined;
  schemes?: Scheme[] | undefined;
  exclude?: string[] | undefined;
  proxyId?: string | undefined;
  holder?: string | undefined;
  token?: true | undefined;
  /** The host alone. */
  target?: string | undefined;
}

export interface LeaseGranted {
  type: "LeaseGranted";
  leaseId: string;
  proxyId: string;
  state: "in-use";
  wish: Wish;
  uses: number;
  epoch: number;
  expiresAt: number;
  strategy: string;
  /** What the strategy ranked by, at that moment. */
  ranked: Record<string, number>;
  /** From here the slots of all its uses run; absent: from their reports. (`countFrom: "grant"`) */
  slotAt?: number | undefined;
  /** The token given with it. */
  tokenId?: string | undefined;
}

export interface LeaseRenewed {
  type: "LeaseRenewed";
  leaseId: string;
  expiresAt: number;
}

export interface LeaseClosed {
  type: "LeaseClosed";
  leaseId: string;
  proxyId: string;
  state: "available" | "in-use" | "cooling" | "exhausted" | "retired";
  how: "completed" | "released" | "expired";
  used: number;
  /** From here the slots of uses that were never reported run. */
  slotAt: number;
}

/** Aggregated per commit and word. */
export interface WishesRefused {
  type: "WishesRefused";
  code: RefusalWord;
  count: number;
  /** Of the last of them. */
  limitedBy?: LimitedBy | undefined;
  /** The last of them, where it could be read. */
  wish?: Wish | undefined;
}
