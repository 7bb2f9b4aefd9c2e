// The one file in which sources are configured. By hand, or by requests, which are written to it: so there is one truth,
// and a restart knows all of it. A file that cannot be read changes nothing of what runs.
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { readAs } from "../../events/request.ts";
import { type Source, sourcesFileSchema } from "../../events/source.ts";
import { Fault } from "../../runtime/fault.ts";

export class SourcesFile {
  readonly path: string;
  #seen = "";

  constructor(path: string) {
    this.path = path;
  }

  /** Has it been written to since it was last read? */
  isChanged(): boolean {
    return stampOf(this.path) !== this.#seen;
  }

  /** No file: no sources. @throws Fault "fix-setup" that names the field. */
  read(): Source[] {
    const stamp = stampOf(this.path);
    this.#seen = stamp; // Also of one that cannot be read: it is complained of once.
    if (stamp === "") return [];
    let document: unknown;
    try {
      document = JSON.parse(readFileSync(this.path, "utf8").replace(/^\uFEFF/, ""));
    } catch (cause) {
      // The message of a parser quotes what it found, which may be a secret.
      const why = cause instanceof SyntaxError ? "it is not JSON" : "it cannot be read";
      throw new Fault("fix-setup", `${this.path}: ${why} (expected {"sources": [{"name": …, "from": …}]})`, { cause });
    }
    const parsed = readAs(sourcesFileSchema, document);
    if ("refusal" in parsed) throw new Fault("fix-setup", `${this.path}: ${parsed.refusal.message}`);
    const { sources } = parsed.value;
    const keys = sources.map(keyOf);
    const twice = keys.find((key, place) => keys.indexOf(key) !== place);
    if (twice !== undefined)
      throw new Fault("fix-setup", `${this.path}: there are two sources ${twice} (each name once per pool)`);
    return sources;
  }

  /** Whole, or not at all. For the owner alone to read: a source may have a secret in it. */
  write(sources: readonly Source[]): void {
    mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
    const written = `${this.path}.new`;
    writeFileSync(written, `${JSON.stringify({ sources }, undefined, 2)}\n`, { mode: 0o600 });
    renameSync(written, this.path);
    this.#seen = stampOf(this.path);
  }
}

export function keyOf({ pool, name }: Pick<Source, "pool" | "name">): string {
  return `${pool}/${name}`;
}

/** "": there is none. */
function stampOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? "" : `${stat.ino}/${stat.size}/${stat.mtimeMs}`;
}
