// Remembers the proxies that a source has named: a map from the digest of an entry to the proxy that it became. It is
// kept in a file, so that a restart adds nothing again. Otherwise manually retired proxies would come back. There may
// be a million entries, so the work pauses to let other work in the process run.
import { createHash, createHmac, randomBytes } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ProxyEntry } from "../../protocol/proxy.ts";
import { codeOf, Fault } from "../../runtime/fault.ts";

const unsureMark = "?";
/** Lines that are read or written between two pauses. */
const linesAtOnce = 1000;
/** Characters. */
const digestedAtOnce = 1024 * 1024;

/** This many leading characters of an entry's digest are the digest of its address. */
const addressChars = 20;

/** Lets other work in the process run. */
export type Pause = () => Promise<void>;

export interface Named {
  /** Digest of an entry → proxy id. */
  byEntry: ReadonlyMap<string, string>;
  /** The proxy ids in `byEntry`. */
  ids: ReadonlySet<string>;
  /** Ids that were first named by a list that is still doubted. */
  unsure: ReadonlySet<string>;
  /** When the pool was opened to which the entries were named. */
  openedAt: number;
}

const nothing: Named = { byEntry: new Map(), ids: new Set(), unsure: new Set(), openedAt: 0 };

export class Seen {
  readonly #file: string;
  readonly #pause: Pause;
  #salt = randomBytes(16).toString("base64url");
  named = nothing;
  /** Digest of the text that was last applied to the pool; undefined if there is none since the start. */
  textDigest: string | undefined;
  /** When the source was first doubted, monotonic; undefined if it is believed. A restart begins again. */
  doubtedSince: number | undefined;

  private constructor(file: string, pause: Pause) {
    this.#file = file;
    this.#pause = pause;
  }

  /** An unreadable file counts as empty. Then everything is added again, which changes little. */
  static async open(folder: string, name: string, pause: Pause): Promise<Seen> {
    const seen = new Seen(fileOf(folder, name), pause);
    const text = await readFile(seen.#file, "utf8").catch(() => ""); // There is no file yet.
    const [, salt, openedAt = 0] = /^([\w-]{22})(?: (\d{1,15}))?\n/.exec(text) ?? [];
    if (salt === undefined) return seen;
    seen.#salt = salt;
    const byEntry = new Map<string, string>();
    const ids = new Set<string>();
    const unsure = new Set<string>();
    let lines = 0;
    for (const [, digest = "", id = "", mark] of text.matchAll(/^(\S+) (p_\S+)( \S+)?$/gm)) {
      byEntry.set(digest, id);
      ids.add(id);
      if (mark !== undefined) unsure.add(id);
      if (++lines % linesAtOnce === 0) await pause();
    }
    seen.named = { byEntry, ids, unsure, openedAt: Number(openedAt) };
    return seen;
  }

  /**
   * Salted, because an entry contains a password. Its first characters are the digest of the address alone
   * (`addressIn`).
   */
  digestOf({ url, ...told }: ProxyEntry): string {
    return `${this.#digest(url).slice(0, addressChars)}${this.#digest(JSON.stringify(told)).slice(0, 8)}`;
  }

  has(id: string): boolean {
    return this.named.ids.has(id);
  }

  /**
   * Writes all or nothing, whenever the process dies.
   * @throws Fault if it can be kept only while the process lives.
   */
  async keep(named: Named): Promise<void> {
    this.named = named;
    const written = `${this.#file}.new`;
    try {
      await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 });
      await writeFile(written, this.#lines(named), { mode: 0o600 }); // Throws unless every byte is written.
      await rename(written, this.#file);
    } catch (cause) {
      throw new Fault("fix-setup", `${this.#file} cannot be written (${codeOf(cause)})`, { cause });
    }
  }

  #digest(text: string): string {
    return createHmac("sha256", this.#salt).update(text).digest("base64url");
  }

  async *#lines({ byEntry, unsure, openedAt }: Named): AsyncGenerator<string> {
    let lines = [`${this.#salt} ${openedAt}`];
    for (const [digest, id] of byEntry) {
      lines.push(unsure.has(id) ? `${digest} ${id} ${unsureMark}` : `${digest} ${id}`);
      if (lines.length < linesAtOnce) continue;
      yield `${lines.join("\n")}\n`;
      lines = [];
      await this.#pause();
    }
    yield lines.join("\n");
  }
}

/** Keeps the named proxies that the pool has. It was opened at another time, so it may be another pool. */
export async function namedTo(
  { openedAt, there }: { openedAt: number; there: ReadonlySet<string> },
  { byEntry: all, unsure: doubted }: Named,
  pause: Pause,
): Promise<Named> {
  const byEntry = new Map<string, string>();
  const ids = new Set<string>();
  let looked = 0;
  for (const [digest, id] of all) {
    if (there.has(id)) {
      byEntry.set(digest, id);
      ids.add(id);
    }
    if (++looked % linesAtOnce === 0) await pause();
  }
  return { byEntry, ids, unsure: new Set([...doubted].filter((id) => there.has(id))), openedAt };
}

/** Maps each address to the proxy that it became, whatever its other details were. */
export async function idsByAddress({ byEntry }: Named, pause: Pause): Promise<Map<string, string>> {
  const byAddress = new Map<string, string>();
  for (const [digest, id] of byEntry) {
    byAddress.set(addressIn(digest), id);
    if (byAddress.size % linesAtOnce === 0) await pause();
  }
  return byAddress;
}

export function addressIn(digest: string): string {
  return digest.slice(0, addressChars);
}

/** Resets the source as if it had never named anything. */
export async function forgetSeen(folder: string, name: string): Promise<void> {
  await rm(fileOf(folder, name), { force: true });
}

function fileOf(folder: string, name: string): string {
  return join(folder, `${name}.seen`);
}

/** Of a text that may be long. It is compared only with digests that this function made. */
export async function digestOfText(text: string, pause: Pause): Promise<string> {
  const hash = createHash("sha256");
  for (let from = 0; from < text.length; from += digestedAtOnce) {
    if (from > 0) await pause();
    hash.update(text.slice(from, from + digestedAtOnce));
  }
  return hash.digest("base64url");
}
