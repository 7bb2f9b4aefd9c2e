// Folds a pool's ledger from its beginning. The result is its state, and the point at which the pool's time continues.
// Each commit is checked. A ledger that is not whole is never led.
import { decodeCommit } from "../../events/commit.ts";
import { type Clock, termTime } from "../../runtime/clock.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import { isIdle } from "../../state-machines/decide/pool.ts";
import { advance, foldCommit } from "../../state-machines/fold/evolve.ts";
import { PoolState } from "../../state-machines/fold/state.ts";

export interface FoldPorts {
  pool: string;
  ledger: Ledger;
  clock: Clock;
  key: Pick<InstallationKey, "fingerprint">;
}

export interface Folded {
  state: PoolState;
  /** Sequence of the last commit in the stream; 0 if there is none. */
  seq: number;
  /** Hash of its bytes. */
  hash: string;
  /** The pool's time from now on. */
  time: () => number;
}

/** @throws Fault "stop-damaged" if the ledger is not whole, "fix-setup" if it belongs to another key. */
export async function foldLedger(ports: FoldPorts): Promise<Folded> {
  const state = new PoolState(ports.pool);
  let lagMs = 0;
  let seq = 0;
  let hash = "";
  for await (const stored of ports.ledger.read(0)) {
    try {
      const commit = decodeCommit(Buffer.from(stored.bytes).toString());
      if (commit.prev !== hash) throw new Error("it does not follow the one before it: the hash chain is broken");
      foldCommit(state, commit);
      lagMs = stored.storedAt - commit.at;
    } catch (cause) {
      const where = `The ledger of pool ${ports.pool} is damaged at sequence ${stored.seq}`;
      throw new Fault(
        "stop-damaged",
        `${where}: ${messageOf(cause)}. The pool is not served. Keep the stream as it is.`,
        {
          cause,
        },
      );
    }
    seq = stored.seq;
    hash = hashOf(stored.bytes);
  }
  if (state.keyFingerprint !== "" && state.keyFingerprint !== ports.key.fingerprint) throw foreignKey(ports.pool);
  const brokerAt = await ports.ledger.now();
  const on = ports.clock.monotonic();
  const time = termTime(ports.clock, { at: goOn(state, { brokerAt, lagMs }), on });
  return { state, seq, hash, time };
}

/**
 * Where the pool's time continues: at the last commit's time, plus the time since it was stored by the broker's clock,
 * and never earlier than the last commit. This machine's clock is not used: a clock that is ahead would open windows
 * early. The pool's time is behind the broker's by the time that it took to store that commit, and by the time that the
 * last leader's machine has slept. It catches up when no timed end is pending any more.
 */
function goOn(state: PoolState, { brokerAt, lagMs }: { brokerAt: number; lagMs: number }): number {
  advance(state, Math.max(state.at, brokerAt - Math.max(0, lagMs)));
  return isIdle(state) ? Math.max(state.at, brokerAt) : state.at;
}

/** Proxies' ids and sealed passwords depend on the key. With another key no proxy would be found again. */
export function foreignKey(pool: string): Fault {
  const message = `The pool ${pool} was opened with another installation's key. Start with the key file of that data directory.`;
  return new Fault("fix-setup", message);
}
