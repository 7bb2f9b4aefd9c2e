// What each source has named: by its entry's digest the proxy that it became. Kept in a file, so that a start adds nothing
// anew: a proxy that somebody has retired by hand would come back with it.
import { createHash, createHmac, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Fault } from "../../runtime/fault.ts";

const unsureMark = "?";

export class Seen {
  readonly #file: string;
  #salt = randomBytes(16).toString("base64url");
  #ids: ReadonlySet<string> | undefined;
  /** Digest of an entry → proxy id. */
  byEntry = new Map<string, string>();
  /** Ids that were named for the first time by a list that is doubted still. */
  unsure: ReadonlySet<string> = new Set();

  /** A file that cannot be read is taken for none: then everything is added again, which changes little. */
  constructor(folder: string, name: string) {
    this.#file = join(folder, `${name}.seen`);
    try {
      const [salt = "", ...lines] = readFileSync(this.#file, "utf8").split("\n");
      if (salt.length !== 22) return;
      this.#salt = salt;
      const unsure = new Set<string>();
      for (const line of lines) {
        const [digest, id, mark] = line.split(" ");
        if (digest === undefined || id === undefined) continue;
        this.byEntry.set(digest, id);
        if (mark === unsureMark) unsure.add(id);
      }
      this.unsure = unsure;
    } catch {
      // There is none yet.
    }
  }

  /** Salted, for an entry has a password in it. */
  digestOf(entry: object): string {
    return createHmac("sha256", this.#salt).update(JSON.stringify(entry)).digest("base64url").slice(0, 22);
  }

  /** The same set, until `keep`. */
  ids(): ReadonlySet<string> {
    this.#ids ??= new Set(this.byEntry.values());
    return this.#ids;
  }

  has(id: string): boolean {
    return this.ids().has(id);
  }

  /** All of it or nothing, whenever the process dies. @throws Fault where it can be kept no longer than the process lives. */
  keep(byEntry: Map<string, string>, unsure: ReadonlySet<string> = new Set()): void {
    this.byEntry = byEntry;
    this.unsure = unsure;
    this.#ids = undefined;
    const lines = [this.#salt];
    for (const [digest, id] of byEntry)
      lines.push(unsure.has(id) ? `${digest} ${id} ${unsureMark}` : `${digest} ${id}`);
    const written = `${this.#file}.new`;
    try {
      mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
      writeFileSync(written, lines.join("\n"), { mode: 0o600 });
      renameSync(written, this.#file);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException; // The file system's errors have one.
      throw new Fault("fix-setup", `${this.#file} cannot be written (${code})`, { cause });
    }
  }

  forget(): void {
    rmSync(this.#file, { force: true });
    this.byEntry = new Map();
    this.unsure = new Set();
    this.#ids = undefined;
  }
}

export function digestOfText(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}
