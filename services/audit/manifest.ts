// The manifest of a sealed range: the contents of the file, and the key that signed it. It is the file's last line, and
// covers every byte before it.
import { z } from "zod";
import { resultOr } from "../../runtime/fault.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";

const placeSchema = z.object({
  n: z.int(),
  /** In the stream that it was read from. */
  sequence: z.int(),
  at: z.int(),
});

const manifestSchema = z.object({
  remudaSeal: z.literal(1),
  pool: z.string(),
  first: placeSchema,
  last: placeSchema,
  commits: z.int(),
  events: z.int(),
  /** Of all lines before this one. */
  bytes: z.int(),
  /** base64url SHA-256 of all lines before this one. */
  sha256: z.string(),
  /** base64url SHA-256 of the commit before the first, as the first names it; "" if the first is the ledger's first. */
  prev: z.string(),
  /** base64url SHA-256 of the last commit. */
  head: z.string(),
  sealedAt: z.int(),
  keyId: z.string(),
  /** base64url Ed25519, over the manifest without it. */
  signature: z.string(),
});

export type ManifestPlace = z.infer<typeof placeSchema>;
export type Manifest = z.infer<typeof manifestSchema>;

export function signManifest(fields: Omit<Manifest, "keyId" | "signature">, key: SigningKey): Manifest {
  const named = { ...fields, keyId: key.id };
  return { ...named, signature: key.sign(statementOf(named)) };
}

/** The signed text: the fields in this order. */
export function statementOf(manifest: Omit<Manifest, "signature">): string {
  const { remudaSeal, pool, first, last, commits, events, bytes, sha256, prev, head, sealedAt, keyId } = manifest;
  const places = [first, last].map(({ n, sequence, at }) => [n, sequence, at]);
  const contents = [commits, events, bytes, sha256, prev, head];
  return JSON.stringify([remudaSeal, pool, ...places, ...contents, sealedAt, keyId]);
}

/** Undefined if this line is not a manifest. */
export function manifestIn(line: string): Manifest | undefined {
  if (!line.startsWith('{"remudaSeal":')) return undefined;
  return resultOr(() => manifestSchema.parse(JSON.parse(line)), undefined);
}
