// The key that this installation signs with (Ed25519). It is created at first use and kept in the data directory, where
// only its owner may read it. Signatures can be checked anywhere with the public key, without this installation.
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import { join } from "node:path";
import { Fault } from "./fault.ts";
import { createFile, readSecretIfThere } from "./files.ts";

export type SigningKey = ReturnType<typeof loadSigningKey>;
export type PublicKey = ReturnType<typeof readPublicKey>;

export function loadSigningKey(dataDir: string) {
  const path = join(dataDir, "signing-key.pem");
  const pem = readSecretIfThere(path) ?? createFile(path, newKey());
  const isWrong = "does not hold an Ed25519 key. Restore it from a backup, or remove it: then a new one is created.";
  const secret = ed25519(() => createPrivateKey(pem), `${path} ${isWrong}`);
  const open = createPublicKey(secret);
  return {
    /** Names the public key: the beginning of its SHA-256. */
    id: idOf(open),
    /** PEM. */
    publicKey: open.export({ type: "spki", format: "pem" }).toString(),
    /** base64url. */
    sign: (statement: string): string => sign(null, Buffer.from(statement), secret).toString("base64url"),
  };
}

/** @param pem in the form of `publicKey`. @param where for messages. */
export function readPublicKey(pem: string, where: string) {
  const isWrong = 'does not hold an Ed25519 public key (expected PEM, as "remuda audit key" prints it).';
  const open = ed25519(() => createPublicKey(pem), `${where} ${isWrong}`);
  return {
    id: idOf(open),
    verifies: (statement: string, signature: string): boolean =>
      verify(null, Buffer.from(statement), open, Buffer.from(signature, "base64url")),
  };
}

function ed25519(read: () => KeyObject, message: string): KeyObject {
  try {
    const key = read();
    if (key.asymmetricKeyType === "ed25519") return key;
    throw new Error(`it is a key for ${key.asymmetricKeyType}`);
  } catch (cause) {
    throw new Fault("fix-setup", message, { cause });
  }
}

function idOf(open: KeyObject): string {
  const spki = open.export({ type: "spki", format: "der" });
  return `k_${createHash("sha256").update(spki).digest("base64url").slice(0, 16)}`;
}

function newKey(): string {
  return generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}
