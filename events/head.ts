// A signed head: the leader's statement of the ledger's last commit at a certain moment. Compared with a copy that is
// kept elsewhere, it shows whether the ledger's end was cut off, or anything before it was changed.
import { z } from "zod";

export const headSignedSchema = z.strictObject({
  type: z.literal("HeadSigned"),
  n: z.int().describe("The number of the commit before the one that holds this event."),
  hash: z.string().describe("base64url SHA-256 of the bytes of commit `n`."),
  keyId: z.string().describe("Names the public key that the signature is checked with."),
  signature: z.string().describe("base64url Ed25519, over `headStatement`."),
  inert: z.literal(true).describe("It decides nothing: a reader that does not know it may skip it."),
});
export type HeadSigned = z.infer<typeof headSignedSchema>;

/** A head is signed at most this often. */
export const headEveryMs = 3_600_000;

/** The signed text. A pool's name has no space. */
export function headStatement(head: { pool: string; n: number; hash: string }): string {
  return `remuda head 1 ${head.pool} ${head.n} ${head.hash}`;
}
