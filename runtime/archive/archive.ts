// The archive: the past of ledgers in files, in a folder for each pool. Only ranges that are verified get a manifest,
// and only ranges with a manifest are read.
import { mkdirSync, readdirSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { headOf } from "../commit-head.ts";
import { resultOr } from "../fault.ts";
import { readIfThere } from "../files.ts";
import type { StoredCommit } from "../ledger.ts";
import { type Manifest, manifestEnd, readSegment, removeSegment, writeSegment } from "./segment.ts";

type Commit = Pick<StoredCommit, "seq" | "bytes">;

export class Archive {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Pools that have an archive, and archives that were set aside. */
  pools(): string[] {
    return resultOr(() => readdirSync(this.folder), []);
  }

  /** In the order of the ledger. */
  segments(pool: string): Manifest[] {
    const folder = this.#folderOf(pool);
    const names = resultOr(() => readdirSync(folder), []).filter((name) => name.endsWith(manifestEnd));
    return names.sort().flatMap((name) => manifestIn(readIfThere(join(folder, name))) ?? []);
  }

  /** @throws as `writeSegment` does. */
  async add(
    commits: AsyncIterable<StoredCommit>,
    bounds: Parameters<typeof writeSegment>[2],
  ): Promise<Manifest | undefined> {
    const folder = this.#folderOf(bounds.pool);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return writeSegment(folder, commits, bounds);
  }

  /**
   * The commits of a pool's stream, with the archived ones where any are missing: before the first, or in the middle
   * because they were purged meanwhile. If the archive does not have them either, the chain is broken, as the reader
   * finds.
   * @param afterSeq of the last commit that the reader knows; 0: none.
   */
  async *whole<Each extends Commit>(
    pool: string,
    stored: AsyncIterable<Each>,
    afterSeq: number,
  ): AsyncGenerator<Each | StoredCommit> {
    let seq = afterSeq;
    let n = afterSeq === 0 ? 0 : undefined;
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
    for (const segment of chainTo(this.segments(pool), next)) {
      if (segment.last.sequence <= afterSeq) continue;
      for await (const commit of readSegment(this.#folderOf(pool), segment)) {
        if (commit.seq >= next.seq) return;
        const number = headOf(commit.bytes)?.n ?? 0;
        if (commit.seq <= afterSeq || number <= n) continue; // Segments may overlap after a crash of the archiver.
        n = number;
        yield commit;
      }
    }
  }

  /** The commit with this sequence; undefined if it is not archived. @throws as `before` does. */
  async at(pool: string, seq: number): Promise<StoredCommit | undefined> {
    for (const segment of this.segments(pool)) {
      if (segment.first.sequence > seq || segment.last.sequence < seq) continue;
      for await (const commit of readSegment(this.#folderOf(pool), segment)) if (commit.seq === seq) return commit;
    }
    return undefined;
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

  /** Keeps it under another name: it is of a ledger that was deleted or given up, and another one begins. */
  async setAside(pool: string): Promise<void> {
    if (this.segments(pool).length > 0) await rename(this.#folderOf(pool), this.#folderOf(`${pool}.${Date.now()}`));
  }

  #folderOf(pool: string): string {
    return join(this.folder, pool);
  }
}

/** The segments that lead to the commit. There may be others: of an earlier ledger of the pool. */
function chainTo(segments: readonly Manifest[], next: Commit): Manifest[] {
  const chain: Manifest[] = [];
  let { n, prev } = headOf(next.bytes) ?? { n: 1, prev: "" };
  while (n > 1) {
    const leads = ({ first, last, head }: Manifest): boolean =>
      first.n < n && (last.n >= n || (last.n === n - 1 && head === prev));
    const found = segments.findLast(leads);
    if (found === undefined) break;
    chain.unshift(found);
    n = found.first.n;
    prev = found.prev;
  }
  return chain;
}

/** Undefined if it is damaged: then its range is missing, and the reader says so. */
function manifestIn(text: string | undefined): Manifest | undefined {
  const manifest = resultOr(() => JSON.parse(text ?? "") as Manifest, undefined);
  return manifest?.remudaSegment === 1 ? manifest : undefined;
}
