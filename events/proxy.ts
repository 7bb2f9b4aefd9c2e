// Proxies: their schemes and states, and what the ledger records of them.
import type { Labels } from "./ids.ts";
import type { Limits } from "./policy.ts";

export const proxyStates = ["available", "in-use", "cooling", "exhausted", "retired"] as const;
export type ProxyStateName = (typeof proxyStates)[number];

export const restReasons = ["backoff", "throttle", "failures", "streak", "usage", "by-hand"] as const;
export type RestReason = (typeof restReasons)[number];

export interface ProxyAdded {
  type: "ProxyAdded";
  proxyId: string;
  /** Not `available` where it comes back, or its exit is known, with a rest or leases still running. */
  state: Exclude<ProxyStateName, "retired">;
  scheme: Scheme;
  host: string;
  port: number;
  username?: string | undefined;
  exit: string;
  labels: Labels;
  limits?: Limits | undefined;
  until?: number | undefined;
  reasons?: RestReason[] | undefined;
  epoch: number;
}

export interface ProxyChanged {
  type: "ProxyChanged";
  proxyId: string;
  exit: string;
  labels: Labels;
  limits?: Limits | undefined;
}

export interface ProxyRetired {
  type: "ProxyRetired";
  proxyId: string;
  state: "retired";
  reason?: string | undefined;
}

export interface RestBegan {
  type: "RestBegan";
  proxyId: string;
  /** `exhausted` when the usage of its stint is among the reasons. */
  state: "cooling" | "exhausted";
  until: number;
  /** All that apply, those of a rest that this one lengthens included. */
  reasons: RestReason[];
  /** Grows when a rest begins, not when one is lengthened. */
  epoch: number;
  /** With `usage`, of the first proxy to rest: until when the whole exit does. Its stint is over. The others join in. */
  exitUntil?: number | undefined;
  /** Why, in the words of who asked for a rest by hand. */
  note?: string | undefined;
}

export interface RestEnded {
  type: "RestEnded";
  proxyId: string;
  state: "available" | "in-use";
  how: "over" | "revived";
}

export type Scheme = "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h";
export const schemes: readonly Scheme[] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
