// What each source has named: by its entry's digest the proxy that it became. Kept in a file, so that a start adds nothing
// anew: a proxy that somebody has retired by hand would come back with it. It may be a million; whoever shares the process
// has his turn in between.
import { createHash, createHmac, randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ProxyEntry } from "../../protocol/proxy.ts";
import { Fault } from "../../runtime/fault.ts";

const unsureMark = "?";
/** Lines read or written between two turns of others. */
const linesAtOnce = 1000;

/** Of an entry's digest so much is its address's. */
const addressChars = 20;

/** Lets others have their turn. */
export type Pause = () => Promise<void>;

export interface Named {
  /** Digest of an entry → proxy id. */
  byEntry: ReadonlyMap<string, string>;
  /** Those of `byEntry`. */
  ids: ReadonlySet<string>;
  /** Ids that were named for the first time by a list that is doubted still. */
  unsure: ReadonlySet<string>;
  /** When the pool was opened that it was named to. */
  openedAt: number;
}

const nothing: Named = { byEntry: new Map(), ids: new Set(), unsure: new Set(), openedAt: 0 };

export class Seen {
  readonly #file: string;
  readonly #pause: Pause;
  #salt = randomBytes(16).toString("base64url");
  named = nothing;
  /** Of the text that was last applied to the pool; undefined: none since the start. */
  textDigest: string | undefined;
  /** Since when the source has been saying what is not believed yet, monotonic. A restart begins anew. */
  doubtedSince: number | undefined;

  private constructor(file: string, pause: Pause) {
    this.#file = file;
    this.#pause = pause;
  }

  /** A file that cannot be read is taken for none: then everything is added again, which changes little. */
  static async open(folder: string, name: string, pause: Pause): Promise<Seen> {
    const seen = new Seen(fileOf(folder, name), pause);
    const text = await readFile(seen.#file, "utf8").catch(() => ""); // There is none yet.
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

  /** Salted, for an entry has a password in it. Its beginning is that of the address alone (`addressIn`). */
  digestOf({ url, ...told }: ProxyEntry): string {
    return `${this.#digest(url).slice(0, addressChars)}${this.#digest(JSON.stringify(told)).slice(0, 8)}`;
  }

  has(id: string): boolean {
    return this.named.ids.has(id);
  }

  /** All of it or nothing, whenever the process dies. @throws Fault where it can be kept no longer than the process lives. */
  async keep(named: Named): Promise<void> {
    this.named = named;
    const written = `${this.#file}.new`;
    try {
      await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 });
      const file = await open(written, "w", 0o600);
      try {
        await file.writeFile(this.#lines(named)); // Until every byte is there, or it throws.
      } finally {
        await file.close();
      }
      await rename(written, this.#file);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException; // The file system's errors have one.
      throw new Fault("fix-setup", `${this.#file} cannot be written (${code})`, { cause });
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

/** What is left of it in a pool that was opened at another time, and may be another one by the same name. */
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

/** By address the proxy that it became, whatever else was told of it. */
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

/** As if it had never named anything. */
export async function forgetSeen(folder: string, name: string): Promise<void> {
  await rm(fileOf(folder, name), { force: true });
}

function fileOf(folder: string, name: string): string {
  return join(folder, `${name}.seen`);
}

export function digestOfText(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}
