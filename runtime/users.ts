// The users file: names, their roles, and their secrets. It is created at the first start, readable by its owner alone.
// It is changed under a lock and replaced whole, so a reader finds the old or the new one. None of its secrets may
// enter a message.
import { timingSafeEqual } from "node:crypto";
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import {
  type Credentials,
  digest,
  type Hashed,
  hasKey,
  newCredentials,
  withHash,
  withKey,
  withPasswordHashes,
} from "./credentials.ts";
import { codeOf, Fault, resultOr } from "./fault.ts";
import { readIfThere, refuseOpenFile, replaceFile } from "./files.ts";
import { withLock } from "./lock.ts";

export interface User extends Credentials {
  name: string;
  role: string;
  /** The pools for which its role holds. Absent: all. */
  pools?: readonly string[];
  /** The most that it may have, by the name of each quota. Absent: no bound. */
  quota?: Readonly<Record<string, number>>;
}

/** @throws Fault "fix-setup" if it cannot be read, or others can read it. Undefined if the file does not exist. */
export function readUsers(path: string): User[] | undefined {
  const text = readIfThere(path);
  if (text === undefined) return undefined;
  const users = usersIn(text);
  if (users === undefined) {
    const what = `the users file ${path} is damaged: restore it, or remove it so that new users are created`;
    throw new Fault("fix-setup", what);
  }
  refuseOpenFile(path);
  return users;
}

/** Undefined if it is not the text of a users file. The error of JSON.parse would quote it. */
function usersIn(text: string): User[] | undefined {
  const users = resultOr(() => (JSON.parse(text) as { users?: unknown }).users, undefined);
  return Array.isArray(users) && users.every(isUser) ? users : undefined;
}

/** Changes the users, one process at a time. `then` runs before the next process may change them. */
export async function changeUsers(
  path: string,
  change: (users: readonly User[]) => readonly User[],
  then: (users: readonly Hashed<User>[]) => Promise<void> | void = () => {},
): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new Fault("fix-setup", `the folder ${dirname(path)} of the users file cannot be made (${codeOf(cause)})`, {
      cause,
    });
  }
  await withLock(`${path}.lock`, async () => {
    const before = readUsers(path) ?? [];
    const users = await withPasswordHashes(change(before));
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
    !hasKey(user) && wanted.some((each) => each.hasKey && each.name === user.name);
  if (missing.length === 0 && !users.some(lacksKey)) return users;
  return [
    ...users.map((user) => (lacksKey(user) ? withKey(user) : user)),
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
    ...newCredentials({ hasKey }),
  };
}

/** The same user with new secrets. */
export function rotated(user: User): User {
  const { password: _password, passwordHash: _hash, key: _key, keyHash: _keyHash, ...kept } = user;
  return { ...kept, ...newCredentials({ hasKey: hasKey(user) }) };
}

const noHash = "0".repeat(64);

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

/** The users of the file, as it is at each call. An unreadable file has no users: it grants no access. */
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

function isUser(value: unknown): value is User {
  if (typeof value !== "object" || value === null) return false;
  const { name, role, password, passwordHash, key, keyHash, pools, quota } = value as Record<string, unknown>;
  const texts = [name, role, password, passwordHash ?? "", key ?? "", ...(Array.isArray(pools) ? pools : [])];
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
