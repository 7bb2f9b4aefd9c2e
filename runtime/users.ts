// The users file: names, their roles, and their secrets. It is created at the first start, readable by its owner alone.
// It is changed under a lock and replaced whole, so a reader finds the old or the new one. None of its secrets may
// enter a message.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { codeOf, Fault } from "./fault.ts";
import { readSecretIfThere, replaceFile } from "./files.ts";
import { withLock } from "./lock.ts";

export interface User {
  name: string;
  role: string;
  password: string;
  /** For HTTP. */
  key?: string;
  /** Its SHA-256 in hex, in place of the key: for a service that only checks it. */
  keyHash?: string;
  /** The pools for which its role holds. Absent: all. */
  pools?: readonly string[];
  /** The most that it may have, by the name of each quota. Absent: without bound. */
  quota?: Readonly<Record<string, number>>;
}

/** @throws Fault "fix-setup" if it cannot be read, or others can read it. Undefined if the file does not exist. */
export function readUsers(path: string): User[] | undefined {
  const text = readSecretIfThere(path);
  if (text === undefined) return undefined;
  try {
    const { users } = JSON.parse(text) as { users?: unknown };
    if (Array.isArray(users) && users.every(isUser)) return users;
  } catch {
    // Reported below. The cause would quote the text.
  }
  throw new Fault(
    "fix-setup",
    `the users file ${path} is damaged: restore it, or remove it: then new users are created`,
  );
}

/** Changes the users, one process at a time. `then` runs before the next process may change them. */
export async function changeUsers(
  path: string,
  change: (users: readonly User[]) => readonly User[],
  then: (users: readonly User[]) => Promise<void> | void = () => {},
): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new Fault("fix-setup", `${dirname(path)} cannot be made for the users file (${codeOf(cause)})`, { cause });
  }
  await withLock(`${path}.lock`, async () => {
    const before = readUsers(path) ?? [];
    const users = change(before);
    if (users !== before) replaceFile(path, usersText(users));
    await then(users);
  });
}

/** Adds these users, and a key to those that lack one. The logins of existing users do not change. */
export function withNamed(
  users: readonly User[],
  wanted: readonly { name: string; hasKey: boolean }[],
): readonly User[] {
  const missing = wanted.filter(({ name }) => !users.some((user) => user.name === name));
  const lacksKey = (user: User): boolean =>
    user.key === undefined && wanted.some(({ name, hasKey }) => hasKey && name === user.name);
  if (missing.length === 0 && !users.some(lacksKey)) return users;
  return [
    ...users.map((user) => (lacksKey(user) ? { ...user, key: newSecret() } : user)),
    ...missing.map((each) => newUser({ ...each, role: each.name })),
  ];
}

export function newUser(given: {
  name: string;
  role: string;
  hasKey: boolean;
  pools?: readonly string[] | undefined;
  quota?: User["quota"];
}): User {
  const { name, role, hasKey, pools, quota = {} } = given;
  return {
    name,
    role,
    ...(pools === undefined ? {} : { pools }),
    ...(Object.keys(quota).length === 0 ? {} : { quota }),
    password: newSecret(),
    ...(hasKey ? { key: newSecret() } : {}),
  };
}

/** The same user with new secrets. */
export function rotated(user: User): User {
  return { ...user, password: newSecret(), ...(user.key === undefined ? {} : { key: newSecret() }) };
}

const noHash = "0".repeat(64);

function newSecret(): string {
  return randomBytes(32).toString("base64url");
}

/** The contents of a users file. */
export function usersText(users: readonly User[]): string {
  const lines = users.map((user) => `    ${JSON.stringify(user)}`).join(",\n");
  return `{\n  "v": 1,\n  "users": [\n${lines}\n  ]\n}\n`;
}

/** Finds users by their bearer keys, in the current file. Without a file no key is accepted. */
export function usersByKey(path: string): (given: string) => User | undefined {
  const current = currentUsers(path);
  return (given) => {
    const candidate = Buffer.from(digest(given), "hex");
    // Compares all of them, so that the time taken reveals nothing.
    let found: User | undefined;
    for (const user of current()) {
      const isIt = timingSafeEqual(Buffer.from(user.keyHash ?? noHash, "hex"), candidate);
      if (isIt && user.keyHash !== undefined) found = user;
    }
    return found;
  };
}

/** The users of the file, as it is at each call. An unreadable file has none: it grants no access. */
export function currentUsers(path: string): () => readonly User[] {
  let seen = "";
  let users: readonly User[] = [];
  return () => {
    try {
      const { ino, mtimeNs, size } = statSync(path, { bigint: true });
      const state = `${ino} ${mtimeNs} ${size}`;
      if (state !== seen) {
        users = (readUsers(path) ?? []).map(withHash);
        seen = state;
      }
      return users;
    } catch {
      return [];
    }
  };
}

/** Without the key itself. */
export function withHash({ key, ...user }: User): User {
  return key === undefined ? user : { ...user, keyHash: digest(key) };
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function isUser(value: unknown): value is User {
  if (typeof value !== "object" || value === null) return false;
  const { name, role, password, key, keyHash, pools, quota } = value as Record<string, unknown>;
  const texts = [name, role, password, key ?? "", ...(Array.isArray(pools) ? pools : [])];
  if (!texts.every((each) => typeof each === "string") || password === "") return false;
  if (quota !== undefined && !isQuota(quota)) return false;
  return (pools === undefined || Array.isArray(pools)) && (keyHash === undefined || isHash(keyHash));
}

function isQuota(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((most) => Number.isSafeInteger(most) && most >= 1);
}

function isHash(value: unknown): boolean {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}
