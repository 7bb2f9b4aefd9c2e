// The users file: names, their roles, and their secrets. It is created at the first start, readable by its owner alone.
// It is changed under a lock and replaced whole, so a reader finds the old or the new one. None of its secrets may
// enter a message.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { mkdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { codeOf, Fault } from "./fault.ts";
import { readIfThere, replaceFile } from "./files.ts";
import { withLock } from "./lock.ts";

export interface User {
  name: string;
  role: string;
  password: string;
  /** For HTTP; clients have one. */
  key?: string;
}

/** @throws Fault "fix-setup" if it cannot be read. Undefined if the file does not exist. */
export function readUsers(path: string): User[] | undefined {
  const text = readIfThere(path);
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

/** Adds these users. The logins of existing users do not change. */
export function withNamed(
  users: readonly User[],
  wanted: readonly { name: string; hasKey: boolean }[],
): readonly User[] {
  const missing = wanted.filter(({ name }) => !users.some((user) => user.name === name));
  return missing.length === 0 ? users : [...users, ...missing.map((each) => newUser({ ...each, role: each.name }))];
}

export function newUser(given: { name: string; role: string; hasKey: boolean }): User {
  const secret = (): string => randomBytes(32).toString("base64url");
  return { name: given.name, role: given.role, password: secret(), ...(given.hasKey ? { key: secret() } : {}) };
}

/** The contents of a users file. */
export function usersText(users: readonly User[]): string {
  const lines = users.map((user) => `    ${JSON.stringify(user)}`).join(",\n");
  return `{\n  "v": 1,\n  "users": [\n${lines}\n  ]\n}\n`;
}

/** Checks bearer keys against the current file. Without a file no key is accepted. */
export function keysIn(path: string): (given: string) => boolean {
  let seen = "";
  let keys: Buffer[] = [];
  return (given) => {
    try {
      const { ino, mtimeNs, size } = statSync(path, { bigint: true });
      const state = `${ino} ${mtimeNs} ${size}`;
      if (state !== seen) {
        keys = (readUsers(path) ?? []).flatMap(({ key }) => (key === undefined ? [] : [digest(key)]));
        seen = state;
      }
    } catch {
      return false; // An unreadable file grants no access.
    }
    const candidate = digest(given);
    // Compares all of them, so that the time taken reveals nothing.
    return keys.reduce((found, key) => timingSafeEqual(key, candidate) || found, false);
  };
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

function isUser(value: unknown): value is User {
  if (typeof value !== "object" || value === null) return false;
  const { name, role, password, key } = value as Record<string, unknown>;
  const texts = [name, role, password, key ?? ""];
  return texts.every((each) => typeof each === "string") && password !== "";
}
