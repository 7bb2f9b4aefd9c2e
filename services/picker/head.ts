// The signature of a ledger's head: once an hour, whichever leader leads, and only if there was a commit since. If a
// leader must prove by a commit that it leads, and has nothing else to store, it signs the head again.
import { headStatement } from "../../events/head.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import type { SignedHead } from "../../state-machines/command.ts";
import { headDueAt } from "../../state-machines/decide/head.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";

export interface HeadPorts {
  pool: string;
  /** Absent: nothing is signed. */
  signer?: Pick<SigningKey, "id" | "sign">;
}

/** When the head is to be signed next. */
export function headAt({ signer }: HeadPorts, state: PoolState): number {
  return signer === undefined ? Infinity : headDueAt(state);
}

/**
 * Signs the last commit, whose bytes are stored. Undefined if no signature is due or needed.
 * @param now.hash of those bytes.
 * @param now.mustProve a signature is needed.
 */
export function signedHead(
  { pool, signer }: HeadPorts,
  state: PoolState,
  { hash, at, mustProve }: { hash: string; at: number; mustProve: boolean },
): SignedHead | undefined {
  if (signer === undefined || (!mustProve && headDueAt(state) > at)) return undefined;
  const n = state.commits;
  return { n, hash, keyId: signer.id, signature: signer.sign(headStatement({ pool, n, hash })) };
}
