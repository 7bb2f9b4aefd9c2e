// The archive: the past of ledgers in files, in a folder for each pool. Only ranges that are verified get a manifest,
// and only ranges with a manifest are read.
import { mkdirSync, readdirSync } from "node:fs";
import { rm, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { headOf } from "../commit-head.ts";
import { resultOr } from "../fault.ts";
import { readIfThere } from "../files.ts";
import type { StoredCommit } from "../ledger.ts";
import {
  fileEnd,
  type Manifest,
  manifestEnd,
  moveSegment,
  nameOfManifest,
  readSegment,
  removeSegment,
  writeSegment,
} from "./segment.ts";

type Commit = Pick<StoredCommit, "seq" | "bytes">;

const leftoverMs = 86_400_000;

export class Archive {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Pools that have an archive, and archives that were set aside. */
  pools(): string[] {
    return filesIn(this.folder);
  }

  /** In the order of the ledger. */
  segments(pool: string): Manifest[] {
    return [...this.newestFirst(pool)].reverse();
  }

  /** They are read one by one, because after years there are very many. */
  *newestFirst(pool: string): Generator<Manifest, void> {
    for (const { name } of this.#names(pool)) {
      const manifest = this.#manifest(pool, name);
      if (manifest !== undefined) yield manifest;
    }
  }

  /** @throws as `writeSegment` does. */
  async add(
    commits: AsyncIterable<StoredCommit>,
    bounds: Parameters<typeof writeSegment>[2],
  ): Promise<Manifest | undefined> {
    const folder = this.#folderOf(bounds.pool);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    await removeLeftovers(folder);
    return writeSegment(folder, commits, bounds);
  }

  /**
   * The commits of a pool's stream, with the archived ones where any are missing: before the first, or in the middle
   * because they were purged meanwhile. If the archive does not have them either, the chain is broken, as the reader
   * finds.
   * @param afterSeq of the last commit that the reader knows; 0: none.
   * @param afterN its number. Without it, the archive is looked into for the first commit.
   */
  async *whole<Each extends Commit>(
    pool: string,
    stored: AsyncIterable<Each>,
    afterSeq: number,
    afterN?: number,
  ): AsyncGenerator<Each | StoredCommit> {
    let seq = afterSeq;
    let n = afterSeq === 0 ? 0 : afterN;
    for await (const commit of stored) {
      const number = headOf(commit.bytes)?.n;
      if (number !== undefined && number - 1 !== n) yield* this.before(pool, commit, seq);
      yield commit;
      seq = commit.seq;
      n = number;
    }
  }

  /**
   * The archived commits after a sequence, up to the one before `next`.
   * @throws Fault "stop-damaged" if a file is damaged.
   */
  async *before(pool: string, next: Commit, afterSeq: number): AsyncGenerator<StoredCommit> {
    let n = 0;
    for (const segment of this.#chainTo(pool, next, afterSeq)) {
      for await (const commit of readSegment(this.#folderOf(pool), segment)) {
        if (commit.seq >= next.seq) return;
        const number = headOf(commit.bytes)?.n ?? 0;
        if (commit.seq <= afterSeq || number <= n) continue; // Segments may overlap after a crash of the archiver.
        n = number;
        yield commit;
      }
    }
  }

  /** The archived commits after a sequence, without a stream. @throws Fault "stop-damaged" if a file is damaged. */
  async *commits(pool: string, afterSeq = 0): AsyncGenerator<StoredCommit> {
    let seq = afterSeq;
    for (const segment of this.segments(pool)) {
      if (segment.last.sequence <= seq) continue;
      for await (const commit of readSegment(this.#folderOf(pool), segment)) {
        if (commit.seq <= seq) continue; // Segments may overlap after a crash of the archiver.
        seq = commit.seq;
        yield commit;
      }
    }
  }

  /** Removes segments whose last commit was stored before then. Their commits are gone. */
  async removeOlder(pool: string, storedBefore: number): Promise<void> {
    for (const segment of this.segments(pool))
      if (segment.last.storedAt < storedBefore) await removeSegment(this.#folderOf(pool), segment);
  }

  /** Removes the pool's archive, and what was set aside. */
  async remove(pool: string): Promise<void> {
    const isOf = (name: string): boolean => name === pool || name.startsWith(`${pool}.`);
    for (const name of this.pools().filter(isOf)) await rm(this.#folderOf(name), { recursive: true, force: true });
  }

  /** Keeps segments under another name: they are of a ledger that was deleted or given up, and another one begins. */
  async setAside(pool: string, segments: readonly Manifest[]): Promise<void> {
    if (segments.length === 0) return;
    const aside = this.#folderOf(`${pool}.${Date.now()}`);
    mkdirSync(aside, { recursive: true, mode: 0o700 });
    for (const segment of segments) await moveSegment(segment, this.#folderOf(pool), aside);
    await rmdir(this.#folderOf(pool)).catch(() => {}); // Unless there are others.
  }

  /**
   * The segments that lead to the commit. There may be others: of an earlier ledger of the pool, or of lost commits.
   */
  #chainTo(pool: string, next: Commit, afterSeq: number): Manifest[] {
    const names = this.#names(pool);
    const chain: Manifest[] = [];
    let { n, prev } = headOf(next.bytes) ?? { n: 1, prev: "" };
    while (n > 1) {
      const near = names.filter(({ first, last }) => first < n && last >= n - 1);
      const segments = near.flatMap(({ name }) => this.#manifest(pool, name) ?? []);
      // The hash is certain. The commit itself is in a segment only while the stream is purged.
      const found =
        segments.find(({ last, head }) => last.n === n - 1 && head === prev) ??
        segments.find(({ last }) => last.n >= n);
      if (found === undefined || found.last.sequence <= afterSeq) break;
      chain.push(found);
      if (found.first.sequence <= afterSeq) break;
      n = found.first.n;
      prev = found.prev;
    }
    return chain.reverse();
  }

  /** Of manifests, the newest first. */
  #names(pool: string): { name: string; first: number; last: number }[] {
    const names = filesIn(this.#folderOf(pool)).sort().reverse();
    return names.flatMap((name) => {
      const [, first, last] = nameOfManifest.exec(name) ?? [];
      return first === undefined ? [] : { name, first: Number(first), last: Number(last) };
    });
  }

  #manifest(pool: string, name: string): Manifest | undefined {
    return manifestIn(readIfThere(join(this.#folderOf(pool), name)));
  }

  #folderOf(pool: string): string {
    return join(this.folder, pool);
  }
}

/** Removes what archivers that were killed have left. Another machine's, which is at work, is not that old. */
async function removeLeftovers(folder: string): Promise<void> {
  const names = new Set(filesIn(folder));
  for (const name of names) {
    const isWhole = name.endsWith(fileEnd) && names.has(`${name.slice(0, -fileEnd.length)}${manifestEnd}`);
    if (isWhole || name.endsWith(manifestEnd)) continue;
    const file = join(folder, name);
    const { mtimeMs } = await stat(file).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY })); // Removed meanwhile.
    if (mtimeMs < Date.now() - leftoverMs) await rm(file, { force: true });
  }
}

function filesIn(folder: string): string[] {
  return resultOr(() => readdirSync(folder), []);
}

/** Undefined if it is damaged: then its range is missing, and the reader says so. */
function manifestIn(text: string | undefined): Manifest | undefined {
  const manifest = resultOr(() => JSON.parse(text ?? "") as Manifest, undefined);
  return manifest?.remudaSegment === 1 ? manifest : undefined;
}
