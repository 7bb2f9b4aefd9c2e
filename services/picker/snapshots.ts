// The snapshots of pools, in JetStream's object store. A snapshot is a cache: the fold of a ledger up to a commit. Its
// name says which commit that is. The reader of the ledger compares that commit, so a snapshot of another history is
// never continued.
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { setImmediate as immediately } from "node:timers/promises";
import { snapshotsBucket } from "../../protocol/subjects.ts";
import type { Bus } from "../../runtime/bus.ts";
import { ObjectStore, objectStoreSettings } from "../../runtime/object-store.ts";
import { ensureStream } from "../../runtime/streams.ts";
import { compressed, decompressed, linesOf } from "../../runtime/zstd.ts";
import { SnapshotReader, snapshotLines } from "../../state-machines/fold/snapshot-lines.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";

/** The last commit in a snapshot. */
export interface Mark {
  n: number;
  /** Its place in the stream. */
  seq: number;
  /** base64url SHA-256 of its bytes. */
  hash: string;
}

/** The newest may turn out to be bad. */
const keptMax = 2;

export class Snapshots {
  readonly #bus: Bus;
  readonly #store: ObjectStore;

  constructor(bus: Bus) {
    this.#bus = bus;
    this.#store = new ObjectStore(bus, snapshotsBucket);
  }

  /** The newest first. */
  async of(pool: string): Promise<Mark[]> {
    const prefix = `${pool}/`;
    const names = (await this.#store.names()).filter((name) => name.startsWith(prefix));
    return names.flatMap((name) => markIn(name.slice(prefix.length)) ?? []).sort((a, b) => b.n - a.n);
  }

  /** @throws Error with a sentence if it is not whole, or this program cannot read it. */
  async load(pool: string, mark: Mark): Promise<PoolState> {
    const reader = new SnapshotReader();
    for await (const line of linesOf(decompressed(this.#store.read(nameOf(pool, mark))))) reader.add(line.toString());
    const restoring = reader.state();
    for (;;) {
      const step = restoring.next();
      if (!step.done) {
        await immediately();
        continue;
      }
      const { value: state } = step;
      if (state.pool === pool && state.commits === mark.n) return state;
      throw new Error(`it is of pool ${state.pool}, commit ${state.commits}`);
    }
  }

  /** Stores it, and removes older ones. Returns the base64url SHA-256 of its bytes, as they can be read again. */
  async save(pool: string, mark: Mark, state: PoolState): Promise<string> {
    const isSingle = this.#bus.nc.info?.cluster === undefined;
    await ensureStream(this.#bus, objectStoreSettings(snapshotsBucket, { isSingle }));
    await this.#store.removeLeftovers();
    const hash = await this.#store.put(nameOf(pool, mark), compressed(withEnds(snapshotLines(state))));
    for await (const _ of this.#store.read(nameOf(pool, mark))); // Throws if it is not whole.
    // A snapshot with a higher number is from a later job, or from a ledger that was lost. Neither replaces this one.
    const upToThis = (await this.of(pool)).filter(({ n }) => n <= mark.n);
    for (const old of upToThis.slice(keptMax)) await this.#store.remove(nameOf(pool, old));
    return hash;
  }

  /** Copies its bytes to a file. @throws as `load` does. */
  async copyTo(file: string, pool: string, mark: Mark): Promise<void> {
    await pipeline(this.#store.read(nameOf(pool, mark)), createWriteStream(file, { mode: 0o600, flush: true }));
  }

  /** Stores a copy. */
  async copyFrom(file: string, pool: string, mark: Mark): Promise<void> {
    const isSingle = this.#bus.nc.info?.cluster === undefined;
    await ensureStream(this.#bus, objectStoreSettings(snapshotsBucket, { isSingle }));
    await this.#store.put(nameOf(pool, mark), createReadStream(file));
  }

  /** Undefined if there is no such snapshot. */
  async hashOf(pool: string, mark: Mark): Promise<string | undefined> {
    return this.#store.hashOf(nameOf(pool, mark));
  }

  /** Removes all. */
  async remove(pool: string): Promise<void> {
    for (const mark of await this.of(pool)) await this.#store.remove(nameOf(pool, mark));
  }
}

function nameOf(pool: string, { n, seq, hash }: Mark): string {
  return `${pool}/${n}-${seq}-${hash}`;
}

function markIn(name: string): Mark | undefined {
  const [, n, seq, hash] = /^(\d+)-(\d+)-([\w-]{43})$/.exec(name) ?? [];
  return hash === undefined ? undefined : { n: Number(n), seq: Number(seq), hash };
}

function* withEnds(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}
