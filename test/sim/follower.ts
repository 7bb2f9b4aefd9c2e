// A follower in the simulator: it folds each commit as it is stored, and keeps the index of the proxies. When a leader
// starts from it, its state must equal the fold of the whole ledger.
import { isDeepStrictEqual } from "node:util";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { Fold, type Folded } from "../../services/picker/fold.ts";
import { Candidates, commonest } from "../../state-machines/candidates/candidates.ts";
import { advance } from "../../state-machines/fold/evolve.ts";
import { snapshotOf } from "../../state-machines/fold/snapshot.ts";
import type { PoolState } from "../../state-machines/fold/state.ts";

export class SimFollower {
  readonly #fold: Fold;
  readonly #candidates: Candidates;

  /** @param commits those that are stored already. */
  constructor(pool: string, commits: readonly StoredCommit[]) {
    // The leader goes on by what the last one said of the time, so no clock is needed here.
    this.#fold = new Fold({ pool, clock: { monotonic: () => 0 } as never });
    this.#candidates = new Candidates(this.#fold.state);
    for (const commit of commits) this.add(commit);
  }

  add(commit: StoredCommit): void {
    this.#fold.add(commit);
    const { state } = this.#fold;
    if (state.opened) this.#candidates.indexFor(commonest(state));
  }

  /**
   * The same from here, with the indexes. Undefined if a commit has been stored since it was folded there.
   * @throws if the two states differ.
   */
  instead(of: Folded): Folded | undefined {
    const { state, seq, hash } = this.#fold;
    if (seq !== of.seq) return undefined;
    advance(state, of.state.at);
    if (!isDeepStrictEqual(plain(state), plain(of.state)))
      throw new Error(`a follower's state after commit ${state.commits} differs from the ledger's fold`);
    return { ...of, state, hash, candidates: this.#candidates };
  }
}

/** A state that comes from a snapshot lacks fields that are undefined in another one. */
function plain(state: PoolState): unknown {
  return JSON.parse(JSON.stringify(snapshotOf(state)));
}
