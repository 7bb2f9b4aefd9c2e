// A snapshot as lines of JSON, because a million proxies do not fit in one string. The first line has the fields, and
// each later one a part of a list.

import { fieldsOf, listsOf, restored, type Snapshot, snapshotVersion } from "./snapshot.ts";
import type { PoolState } from "./state.ts";

/** So that a line has about a hundred kilobytes, and takes a millisecond or two. */
const entriesPerLine = 200;

export function* snapshotLines(state: PoolState): Generator<string, void> {
  yield JSON.stringify({ version: snapshotVersion, ...fieldsOf(state) });
  for (const [name, entriesOf] of Object.entries(listsOf)) {
    let part: unknown[] = [];
    for (const entry of entriesOf(state)) {
      if (part.push(entry) < entriesPerLine) continue;
      yield JSON.stringify({ [name]: part });
      part = [];
    }
    if (part.length > 0) yield JSON.stringify({ [name]: part });
  }
}

/** Takes the lines in their order. */
export class SnapshotReader {
  #fields: Partial<Snapshot> | undefined;
  readonly #lists: Record<string, unknown[]> = Object.fromEntries(Object.keys(listsOf).map((name) => [name, []]));

  /** @throws Error with a sentence if this program cannot read the snapshot. */
  add(line: string): void {
    if (this.#fields === undefined) {
      const { version, ...fields } = JSON.parse(line) as Partial<Snapshot> & { version?: unknown };
      if (version !== snapshotVersion)
        throw new Error(`its version is ${String(version)}, and this program reads ${snapshotVersion}`);
      this.#fields = fields;
      return;
    }
    for (const [name, part] of Object.entries(JSON.parse(line) as Record<string, unknown[]>)) {
      const list = this.#lists[name];
      if (list === undefined) throw new Error(`it has an unknown list, ${name}`);
      for (const entry of part) list.push(entry);
    }
  }

  /** The state, in slices: it pauses where it yields. The lines must be those of one snapshot, all of them. */
  state(): Generator<void, PoolState, void> {
    if (this.#fields === undefined) throw new Error("it is empty");
    return restored({ ...this.#fields, ...this.#lists } as Snapshot); // As `snapshotLines` has written it.
  }
}
