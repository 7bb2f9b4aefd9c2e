// The secrets of a user, and their hashes. A user has one secret, its password for NATS: 256 random bits. Its key for
// HTTP is derived from that, so the users file has only the key's hash. The NATS server's configuration has only the
// password's hash. Nothing here may enter a message.
import { createHash, createHmac, randomBytes } from "node:crypto";

export interface Credentials {
  password: string;
  /** In the form that nats-server checks (bcrypt). Absent until the users file is written. */
  passwordHash?: string;
  /** For HTTP, in the clear: only a users file of an earlier version has it. */
  key?: string;
  /** SHA-256 of the key for HTTP, in hex. Absent: the user has no key. */
  keyHash?: string;
}

/** The least that bcrypt allows. A higher cost protects passwords that can be guessed, and 256 random bits cannot. */
const bcryptCost = 4;

export function newCredentials({ hasKey }: { hasKey: boolean }): Credentials {
  const password = randomBytes(32).toString("base64url");
  return hasKey ? withKey({ password }) : { password };
}

/** Gives the user a key for HTTP, if it has none. */
export function withKey<T extends Credentials>(user: T): T {
  return hasKey(user) ? user : { ...user, keyHash: digest(derivedKey(user)) };
}

export function hasKey({ key, keyHash }: Credentials): boolean {
  return key !== undefined || keyHash !== undefined;
}

/** The user's key for HTTP. Undefined if it has none, or if its password is not known here. */
export function keyOf(user: Credentials): string | undefined {
  const key = user.key ?? derivedKey(user);
  return user.key !== undefined || digest(key) === user.keyHash ? key : undefined;
}

/** Without the key itself. */
export function withHash<T extends Credentials>(user: T): Omit<T, "key"> {
  const { key, ...kept } = user;
  return key === undefined ? kept : { ...kept, keyHash: digest(key) };
}

export function digest(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}

export type Hashed<T> = T & { passwordHash: string };

/** Adds the password's hash to the users that lack it. @returns the argument itself if none lacks it. */
export async function withPasswordHashes<T extends Credentials>(users: readonly T[]): Promise<readonly Hashed<T>[]> {
  const isHashed = (user: T): user is Hashed<T> => user.passwordHash !== undefined;
  if (users.every(isHashed)) return users;
  const { hashSync } = await import("bcryptjs"); // Most commands need none of it.
  return users.map((user) => (isHashed(user) ? user : { ...user, passwordHash: hashSync(user.password, bcryptCost) }));
}

function derivedKey({ password }: Credentials): string {
  return createHmac("sha256", password).update("remuda http key").digest("base64url");
}
