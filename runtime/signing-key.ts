// The key that this installation signs with (Ed25519). It is created at first use and kept in the data directory, where
// only its owner may read it. Signatures can be checked anywhere with the public key, without this installation.
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from "node:crypto";
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Fault } from "./fault.ts";

export interface SigningKey {
  /** Names the public key: the beginning of its SHA-256. */
  id: string;
  /** PEM. */
  publicKey: string;
  /** base64url. */
  sign(statement: string): string;
}

export interface PublicKey {
  id: string;
  verifies(statement: string, signature: string): boolean;
}

const fileName = "signing-key.pem";

export function loadSigningKey(dataDir: string): SigningKey {
  const path = join(dataDir, fileName);
  const pem = readIfThere(path) ?? makeKey(path);
  let secret: KeyObject;
  try {
    secret = createPrivateKey(pem);
    if (secret.asymmetricKeyType !== "ed25519") throw new Error(`it is a key for ${secret.asymmetricKeyType}`);
  } catch (cause) {
    throw new Fault(
      "fix-setup",
      `${path} does not hold an Ed25519 key. Restore it from a backup, or take it away: a new one is made.`,
      { cause },
    );
  }
  const open = createPublicKey(secret);
  return {
    id: idOf(open),
    publicKey: open.export({ type: "spki", format: "pem" }).toString(),
    sign: (statement) => sign(null, Buffer.from(statement), secret).toString("base64url"),
  };
}

/** @param pem in the form of `publicKey`. @param where for messages. */
export function readPublicKey(pem: string, where: string): PublicKey {
  let open: KeyObject;
  try {
    open = createPublicKey(pem);
    if (open.asymmetricKeyType !== "ed25519") throw new Error(`it is a key for ${open.asymmetricKeyType}`);
  } catch (cause) {
    throw new Fault(
      "fix-setup",
      `${where} does not hold an Ed25519 public key (expected PEM, as "remuda audit key" prints it).`,
      { cause },
    );
  }
  return {
    id: idOf(open),
    verifies: (statement, signature) => verify(null, Buffer.from(statement), open, Buffer.from(signature, "base64url")),
  };
}

function idOf(open: KeyObject): string {
  const spki = open.export({ type: "spki", format: "der" });
  return `k_${createHash("sha256").update(spki).digest("base64url").slice(0, 16)}`;
}

/** @throws Fault "fix-setup" if it cannot be written. */
function makeKey(path: string): string {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return writeKey(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new Fault("fix-setup", `${path} cannot be made (${code}).`, { cause });
  }
}

function writeKey(path: string): string {
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  // Two processes that start at the same moment must agree. Each writes a temporary file and links it; only the first
  // link succeeds.
  const aside = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`;
  writeFileSync(aside, pem, { mode: 0o600 });
  try {
    linkSync(aside, path);
    return pem;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return readFileSync(path, "utf8");
  } finally {
    unlinkSync(aside);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    throw new Fault("fix-setup", `${path} cannot be read (${code}).`, { cause });
  }
}
