// Pools: what the ledger records of them.
import type { Policy } from "./policy.ts";

export interface PoolOpened {
  type: "PoolOpened";
  pool: string;
  policy: Policy;
  version: number;
  /** Of the installation's key, under which proxies' ids are made: another key refuses to start. */
  keyFingerprint: string;
}

export interface PolicyChanged {
  type: "PolicyChanged";
  /** The whole document. */
  policy: Policy;
  version: number;
}

export interface PoolClosed {
  type: "PoolClosed";
  /** True: no more grants; the pool closes when its last lease has ended, with a second event. */
  draining?: true | undefined;
}

/** Does a ledger whose last commit has these events leave its pool open? Nothing follows what closes it but what opens it. */
export function leavesOpen(events: readonly { type: string }[]): boolean {
  const last = events.findLast(({ type }) => type === "PoolOpened" || type === "PoolClosed");
  return last?.type !== "PoolClosed" || (last as PoolClosed).draining === true;
}

export interface LeaderClaimed {
  type: "LeaderClaimed";
  leader: string;
  term: number;
}
