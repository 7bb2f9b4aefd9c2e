// The log of users, in the data directory: who changed them, and which logins were refused. Both files have one JSON
// object per line, no secrets, and are readable by their owner alone.
//
// Changes are appended for ever: each is an operator's command. Refused logins are a stranger's doing, so they are
// bounded: the first of a kind is written at once and the others are summed up once a minute; and there are two files
// of a few megabytes, of which the older is replaced.
import { appendFileSync, closeSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { codeOf, Fault, resultOr } from "./fault.ts";
import { readIfThere } from "./files.ts";
import type { User } from "./users.ts";

export const changeTypes = ["UserAdded", "UserRemoved", "UserRotated", "QuotaChanged"] as const;

export interface UserChanged {
  at: number;
  type: (typeof changeTypes)[number];
  user: string;
  /** The user of the operating system. */
  by: string;
  role?: string;
  pools?: readonly string[];
  quota?: Readonly<Record<string, number>>;
}

export interface Refusal {
  over: "nats" | "http";
  /** The name that was given. Over HTTP a key has none. */
  user?: string;
  /** The address that it came from. */
  host: string;
}

export interface LoginRefused extends Refusal {
  at: number;
  type: "LoginRefused";
  /** How many were refused from `since` on. Absent: only this one. */
  count?: number;
  since?: number;
}

export type UsersLine = UserChanged | LoginRefused;

const everyMs = 60_000;
/** Of one minute. Further ones are summed up together. */
const kindsMax = 50;
const textMax = 64;
const bytesMaxDefault = 4 * 1024 ** 2;

const changesIn = (dataDir: string): string => join(dataDir, "users-log.ndjson");
const refusedIn = (dataDir: string): string => join(dataDir, "logins-refused.ndjson");

/** The differences between two states of the users file, as made now by the user who runs this process. */
export function changesOf(before: readonly User[], after: readonly User[]): UserChanged[] {
  const about = { at: Date.now(), by: resultOr(() => userInfo().username, String(process.getuid?.() ?? "unknown")) };
  const named = (users: readonly User[], name: string): User | undefined => users.find((each) => each.name === name);
  const gone = before.filter(({ name }) => named(after, name) === undefined);
  return [
    ...gone.map(({ name: user }): UserChanged => ({ ...about, type: "UserRemoved", user })),
    ...after.flatMap((each): UserChanged[] => {
      const { name: user, role, pools, quota = {} } = each;
      const known = named(before, user);
      if (known === each) return [];
      if (known === undefined)
        return [{ ...about, type: "UserAdded", user, role, ...(pools && { pools }), ...(each.quota && { quota }) }];
      const isQuota = JSON.stringify(known.quota ?? {}) !== JSON.stringify(quota);
      return [isQuota ? { ...about, type: "QuotaChanged", user, quota } : { ...about, type: "UserRotated", user }];
    }),
  ];
}

/** @throws Fault "fix-setup" if it cannot be written. */
export function logChange(dataDir: string, change: UserChanged): void {
  const path = changesIn(dataDir);
  try {
    append(path, change, { flush: true });
  } catch (cause) {
    const why = `the change was made, but it cannot be recorded in ${path} (${codeOf(cause)})`;
    throw new Fault("fix-setup", why, { cause });
  }
}

/** In the order of time. `unreadable`: how many lines are not whole. */
export function readUsersLog(dataDir: string): { lines: UsersLine[]; unreadable: number } {
  const files = [changesIn(dataDir), `${refusedIn(dataDir)}.1`, refusedIn(dataDir)];
  const texts = files.flatMap((path) => (readIfThere(path) ?? "").split("\n")).filter((line) => line !== "");
  const lines = texts.map((text) => resultOr(() => JSON.parse(text) as UsersLine, undefined)).filter(isLine);
  return { lines: lines.sort((a, b) => a.at - b.at), unreadable: texts.length - lines.length };
}

function isLine(line: UsersLine | undefined): line is UsersLine {
  return typeof line === "object" && line !== null && Number.isFinite(line.at) && typeof line.type === "string";
}

interface Kind {
  refusal: Refusal;
  /** Those that are not written yet. */
  count: number;
  since: number;
}

/** All kinds of a minute after the first ones. */
const others = { user: "others", host: "others" };

export class RefusedLogins {
  readonly #path: string;
  readonly #now: () => number;
  readonly #onTrouble: (error: unknown) => void;
  readonly #kinds = new Map<string, Kind>();
  readonly #timer: NodeJS.Timeout;

  readonly #bytesMax: number;

  /** @param given.onTrouble called with the error if the file cannot be written. @param given.bytesMax of a file. */
  constructor(dataDir: string, given: { now?: () => number; bytesMax?: number; onTrouble: (error: unknown) => void }) {
    this.#path = refusedIn(dataDir);
    this.#bytesMax = given.bytesMax ?? bytesMaxDefault;
    this.#now = given.now ?? Date.now;
    this.#onTrouble = given.onTrouble;
    this.#timer = setInterval(() => this.sum(), everyMs).unref();
  }

  note({ over, user, host }: Refusal): void {
    const refusal = {
      over,
      ...(user === undefined ? {} : { user: user.slice(0, textMax) }),
      host: host.slice(0, textMax),
    };
    const key = JSON.stringify(refusal);
    const isOther = !this.#kinds.has(key) && this.#kinds.size >= kindsMax;
    const known = this.#kinds.get(isOther ? over : key);
    const at = this.#now();
    if (known !== undefined) {
      if (known.count++ === 0) known.since = at;
      return;
    }
    this.#kinds.set(isOther ? over : key, { refusal: isOther ? { over, ...others } : refusal, count: 0, since: at });
    this.#write({ at, type: "LoginRefused", ...(isOther ? { over, ...others } : refusal) });
  }

  /** Writes the sums of the last minute. Each kind that did not come again is new the next time. */
  sum(): void {
    for (const [key, { refusal, count, since }] of this.#kinds) {
      if (count > 0) this.#write({ at: this.#now(), type: "LoginRefused", ...refusal, count, since });
      this.#kinds.delete(key);
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.sum();
  }

  #write(line: LoginRefused): void {
    try {
      if (sizeOf(this.#path) > this.#bytesMax) renameSync(this.#path, `${this.#path}.1`);
      append(this.#path, line);
    } catch (error) {
      this.#onTrouble(error);
    }
  }
}

function append(path: string, line: UsersLine, options: { flush?: boolean } = {}): void {
  const begin = endsWhole(path) ? "" : "\n";
  appendFileSync(path, `${begin}${JSON.stringify(line)}\n`, { mode: 0o600, ...options });
}

/** Whether its last line is whole. A full disk leaves half a line, which must not spoil the next one. */
function endsWhole(path: string): boolean {
  const size = sizeOf(path);
  if (size === 0) return true;
  const file = openSync(path, "r");
  try {
    const last = Buffer.alloc(1);
    readSync(file, last, 0, 1, size - 1);
    return last.toString() === "\n";
  } finally {
    closeSync(file);
  }
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
