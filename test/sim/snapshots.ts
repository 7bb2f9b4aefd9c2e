// Snapshots in the simulator. About half of the leaders start from one, which was made at any commit. All checks of a
// run then also check the effects of snapshots.
import { decodeCommit } from "../../events/commit.ts";
import type { StoredCommit } from "../../runtime/ledger.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { Mark } from "../../services/picker/snapshots.ts";
import { foldCommit } from "../../state-machines/fold/evolve.ts";
import { SnapshotReader, snapshotLines } from "../../state-machines/fold/snapshot-lines.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import type { Seeded } from "../kit/seed.ts";

export class SimSnapshots {
  used = 0;
  readonly #chance: Seeded;
  readonly #share: number;
  readonly #commits: () => readonly StoredCommit[];

  /** @param given.share of the leaders that start from one. */
  constructor(given: { chance: Seeded; share: number; commits: () => readonly StoredCommit[] }) {
    this.#chance = given.chance;
    this.#share = given.share;
    this.#commits = given.commits;
  }

  async of(): Promise<Mark[]> {
    const commits = this.#commits();
    if (commits.length === 0 || !this.#chance.chance(this.#share)) return [];
    const n = this.#chance.int(1, commits.length);
    const { seq, bytes } = commits[n - 1]!; // It is within the ledger.
    return [{ n, seq, hash: hashOf(bytes) }];
  }

  async load(pool: string, { n }: Mark): Promise<PoolState> {
    this.used++;
    const state = new PoolState(pool);
    for (const { bytes } of this.#commits().slice(0, n)) foldCommit(state, decodeCommit(Buffer.from(bytes).toString()));
    return loaded(snapshotLines(state));
  }
}

/** The state again, from its lines. */
export function loaded(lines: Iterable<string>): PoolState {
  const reader = new SnapshotReader();
  for (const line of lines) reader.add(line);
  const restoring = reader.state();
  for (;;) {
    const step = restoring.next();
    if (step.done) return step.value;
  }
}
