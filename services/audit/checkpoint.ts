// Checkpoints: states along a ledger, kept so that any moment is a few seconds away. The ledger must have exactly the
// commit that a checkpoint names, by number, sequence and hash. The checkpoint also has the hash of its own bytes. If
// anything is wrong with it, it is deleted.
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { deflateSync, inflateSync } from "node:zlib";
import { resultOr } from "../../runtime/fault.ts";
import { restore, type Snapshot, snapshotOf, snapshotVersion as version } from "../../state-machines/fold/snapshot.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";

export interface Mark {
  /** The last commit in the state. */
  n: number;
  sequence: number;
  /** base64url SHA-256 of its bytes. */
  hash: string;
  at: number;
}

export interface Checkpoints {
  /** In the order of the ledger. */
  marks(): Mark[];
  /** The state after this mark; undefined if the file is not whole. */
  load(mark: Mark): PoolState | undefined;
  save(mark: Mark, state: PoolState): void;
  drop(mark: Mark): void;
}

/** Of one pool. At least the last checkpoint is kept. */
const usualBounds = { files: 64, bytes: 1024 ** 3 };

/**
 * If there are too many, the ones closest to their neighbours are deleted. So every moment stays near a checkpoint.
 * @param folder of this pool's checkpoints. It is created for the first one.
 */
export function checkpointsIn(folder: string, bounds: { files: number; bytes: number } = usualBounds): Checkpoints {
  const nameOf = ({ n, sequence, at, hash }: Mark): string => `${version}-${n}-${sequence}-${at}-${hash}.state`;
  const sizeOf = (mark: Mark): number => resultOr(() => statSync(join(folder, nameOf(mark))).size, 0);
  const keepFew = (): void => {
    const kept = checkpoints.marks().map((mark) => ({ mark, bytes: sizeOf(mark) }));
    let bytes = kept.reduce((sum, each) => sum + each.bytes, 0);
    while (kept.length > 1 && (kept.length > bounds.files || bytes > bounds.bytes)) {
      const gap = (i: number): number => (kept[i + 1]?.mark.n ?? Infinity) - (kept[i - 1]?.mark.n ?? 0);
      const least = kept.reduce((best, _, i) => (gap(i) < gap(best) ? i : best), 0);
      for (const dropped of kept.splice(least, 1)) {
        checkpoints.drop(dropped.mark);
        bytes -= dropped.bytes;
      }
    }
  };
  const checkpoints: Checkpoints = {
    marks() {
      const found = resultOr(() => readdirSync(folder), []).flatMap((name) => {
        const [, made, n, sequence, at, hash] = /^(\d+)-(\d+)-(\d+)-(\d+)-([\w-]{43})\.state$/.exec(name) ?? [];
        if (hash === undefined) return [];
        if (Number(made) === version) return [{ n: Number(n), sequence: Number(sequence), at: Number(at), hash }];
        rmSync(join(folder, name), { force: true });
        return [];
      });
      return found.sort((a, b) => a.n - b.n);
    },
    load(mark) {
      return resultOr(() => {
        const bytes = readFileSync(join(folder, nameOf(mark)));
        const body = bytes.subarray(32);
        if (!createHash("sha256").update(body).digest().equals(bytes.subarray(0, 32))) return undefined;
        // `save` has written it. The hash shows that it is whole.
        const state = restore(deserialize(inflateSync(body)) as Snapshot);
        return state.commits === mark.n && state.at === mark.at ? state : undefined;
      }, undefined);
    },
    save(mark, state) {
      const body = deflateSync(serialize(snapshotOf(state)), { level: 1 });
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const path = join(folder, nameOf(mark));
      // Written under another name first, so that no incomplete file is ever loaded.
      const aside = `${path}.${process.pid}`;
      writeFileSync(aside, Buffer.concat([createHash("sha256").update(body).digest(), body]), { mode: 0o600 });
      renameSync(aside, path);
      keepFew();
    },
    drop(mark) {
      rmSync(join(folder, nameOf(mark)), { force: true });
    },
  };
  return checkpoints;
}
