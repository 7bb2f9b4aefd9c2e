// The signature of a ledger's head: once an hour, whichever leader leads, and only if there was a commit since.
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

/**
 * Signs the last commit, whose bytes are stored. Undefined if no signature is due.
 * @param now.hash of those bytes.
 */
export function signedHead(
  { pool, signer }: HeadPorts,
  state: PoolState,
  { hash, at }: { hash: string; at: number },
): SignedHead | undefined {
  if (signer === undefined || headDueAt(state) > at) return undefined;
  const n = state.commits;
  return { n, hash, keyId: signer.id, signature: signer.sign(headStatement({ pool, n, hash })) };
}
