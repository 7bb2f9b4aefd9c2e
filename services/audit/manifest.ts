// The manifest of a sealed range: what is in the file, and which key signed it. It is the file's last line, and covers
// every byte before it.
import type { SigningKey } from "../../runtime/signing-key.ts";

export interface ManifestPlace {
  n: number;
  /** In the stream that it was read from. */
  sequence: number;
  at: number;
}

export interface ManifestFields {
  remudaSeal: 1;
  pool: string;
  first: ManifestPlace;
  last: ManifestPlace;
  commits: number;
  events: number;
  /** Of all lines before this one. */
  bytes: number;
  /** base64url SHA-256 of all lines before this one. */
  sha256: string;
  /** base64url SHA-256 of the commit before the first, as the first names it; "" if the first is the ledger's first. */
  prev: string;
  /** base64url SHA-256 of the last commit. */
  head: string;
  sealedAt: number;
  keyId: string;
}

export type Manifest = ManifestFields & {
  /** base64url Ed25519, over the manifest without it. */
  signature: string;
};

export function signManifest(fields: Omit<ManifestFields, "keyId">, key: SigningKey): Manifest {
  const named = { ...fields, keyId: key.id };
  return { ...named, signature: key.sign(statementOf(named)) };
}

/** The signed text: the fields in this order. */
export function statementOf(manifest: ManifestFields): string {
  const { remudaSeal, pool, first, last, commits, events, bytes, sha256, prev, head, sealedAt, keyId } = manifest;
  const places = [first, last].map(({ n, sequence, at }) => [n, sequence, at]);
  const contents = [commits, events, bytes, sha256, prev, head];
  return JSON.stringify([remudaSeal, pool, ...places, ...contents, sealedAt, keyId]);
}

/** Undefined if this line is not a manifest. */
export function manifestIn(line: string): Manifest | undefined {
  if (!line.startsWith('{"remudaSeal":')) return undefined;
  try {
    const manifest = JSON.parse(line) as Partial<Manifest>;
    const isWhole =
      manifest.remudaSeal === 1 &&
      typeof manifest.signature === "string" &&
      typeof manifest.sha256 === "string" &&
      isPlace(manifest.first) &&
      isPlace(manifest.last);
    return isWhole ? (manifest as Manifest) : undefined;
  } catch {
    return undefined;
  }
}

function isPlace(place: Partial<ManifestPlace> | undefined): boolean {
  return Number.isSafeInteger(place?.n) && Number.isSafeInteger(place?.sequence) && Number.isSafeInteger(place?.at);
}
