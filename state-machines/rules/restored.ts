// After a ledger was restored from a backup, nothing is granted for a while (decide/restore.ts).
import { type Refusal, refuse } from "../../protocol/refusal.ts";
import type { PoolState } from "../fold/state.ts";

/** Undefined: nothing keeps the pool from granting because it was restored. */
export function refusalAfterRestore({ at, restored }: PoolState): Refusal | undefined {
  if (at >= restored.until) return undefined;
  const why = "The pool was restored from a backup. Nothing is granted while uses after the backup may still count.";
  return refuse("unavailable", why, { retryAfterMs: restored.until - at });
}
