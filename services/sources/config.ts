// The only file in which sources are configured. An operator edits it manually, and requests are written to it too. So
// there is one truth, and a restart knows all of it. A file that cannot be read does not change the running sources.
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { readAs } from "../../protocol/request.ts";
import { type Source, sourcesFileSchema } from "../../protocol/source.ts";
import { codeOf, Fault } from "../../runtime/fault.ts";

const form = '{"sources": [{"name": …, "from": …}]}';

export class SourcesFile {
  readonly path: string;
  #seen = "";

  constructor(path: string) {
    this.path = path;
  }

  /** Has the file been written to since the last read? */
  isChanged(): boolean {
    return stampOf(this.path) !== this.#seen;
  }

  /**
   * A missing file means no sources.
   * @throws Fault "fix-setup" that names the field.
   */
  read(): Source[] {
    const stamp = stampOf(this.path);
    this.#seen = stamp; // Set for an unreadable file too, so that it is reported only once.
    if (stamp === "") return [];
    let document: unknown;
    try {
      document = JSON.parse(readFileSync(this.path, "utf8").replace(/^\uFEFF/, ""));
    } catch (cause) {
      throw new Fault("fix-setup", `${this.path}: ${whyUnread(cause)} (expected ${form})`, { cause });
    }
    const parsed = readAs(sourcesFileSchema, document);
    if ("refusal" in parsed) {
      const { field, message } = parsed.refusal;
      const why = field === undefined ? `it has another form (expected ${form})` : message.replace(/\.$/, "");
      throw new Fault("fix-setup", `${this.path}: ${why}`);
    }
    const { sources } = parsed.value;
    const keys = sources.map(keyOf);
    const twice = keys.find((key, place) => keys.indexOf(key) !== place);
    if (twice !== undefined)
      throw new Fault("fix-setup", `${this.path}: there are two sources ${twice} (each name once per pool)`);
    const circle = circleIn(sources);
    if (circle !== undefined) throw new Fault("fix-setup", `${this.path}: ${circle}`);
    return sources;
  }

  /**
   * Writes all or nothing. Only the owner can read the file, because a source may contain a secret.
   * @throws Fault "fix-setup".
   */
  write(sources: readonly Source[]): void {
    const written = `${this.path}.new`;
    try {
      mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
      writeFileSync(written, `${JSON.stringify({ sources }, undefined, 2)}\n`, { mode: 0o600 });
      renameSync(written, this.path);
    } catch (cause) {
      throw new Fault("fix-setup", `${this.path} cannot be written (${codeOf(cause)})`, { cause });
    }
    this.#seen = stampOf(this.path);
  }
}

/**
 * A parser's message quotes the text that it found, which may be a secret. Only the line number is taken, if there is
 * one.
 */
function whyUnread(error: unknown): string {
  if (!(error instanceof SyntaxError)) return "it cannot be read";
  const line = / \(line (\d+) column \d+\)$/.exec(error.message)?.[1];
  return line === undefined ? "it is not JSON" : `it is not JSON, from line ${line} on`;
}

/** Pools that are each other's source would keep proxies forever that no other source names any more. */
export function circleIn(sources: readonly Source[]): string | undefined {
  const done = new Set<string>();
  const walk = (pool: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(pool)) return [...way.slice(way.indexOf(pool)), pool];
    if (done.has(pool)) return undefined;
    done.add(pool);
    return firstOf(sources, ({ pool: into, from }) =>
      into === pool && from.kind === "pool" ? walk(from.pool, [...way, pool]) : undefined,
    );
  };
  const circle = firstOf(sources, ({ pool }) => walk(pool, []));
  return circle && `pools are each other's source in a circle (${circle.reverse().join(" → ")})`;
}

function firstOf<T, Found>(items: readonly T[], find: (item: T) => Found | undefined): Found | undefined {
  for (const item of items) {
    const found = find(item);
    if (found !== undefined) return found;
  }
  return undefined;
}

export function keyOf({ pool, name }: Pick<Source, "pool" | "name">): string {
  return `${pool}/${name}`;
}

/** "" means that there is no file. A file that cannot be inspected has a stamp too: reading it gives the reason. */
function stampOf(path: string): string {
  try {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat === undefined ? "" : `${stat.ino}/${stat.size}/${stat.mtimeMs}`;
  } catch (error) {
    return codeOf(error);
  }
}
