// A pool's ledger, folded from its beginning: the state that it says, and where the pool's time goes on. Whether it is whole
// is judged here, commit by commit; one that is not is never led.
import { decodeCommit } from "../../events/commit.ts";
import { type Clock, termTime } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
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
  /** Of the last commit, in the stream; 0: there is none. */
  seq: number;
  /** Of its bytes. */
  hash: string;
  /** The pool's time from now on. */
  time: () => number;
}

/** @throws Fault "stop-damaged" where the ledger is not whole, "fix-setup" where it belongs to another key. */
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
      const why = cause instanceof Error ? cause.message : String(cause);
      const where = `The ledger of pool ${ports.pool} is damaged at sequence ${stored.seq}`;
      throw new Fault("stop-damaged", `${where}: ${why}. The pool is not served; keep the stream as it is.`, {
        cause,
      });
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
 * Where the pool's time goes on: as long after its last commit as that was stored ago by the broker's clock, and no
 * earlier than that. The clock of this machine has no say: one that is ahead would open windows early. The pool's time is
 * behind the broker's by what that commit took to be stored, and by what the last leader's machine has slept; it catches
 * up when nothing is left that time is to end.
 */
function goOn(state: PoolState, { brokerAt, lagMs }: { brokerAt: number; lagMs: number }): number {
  advance(state, Math.max(state.at, brokerAt - Math.max(0, lagMs)));
  return isIdle(state) ? Math.max(state.at, brokerAt) : state.at;
}

/** Proxies' ids and sealed passwords depend on the key: with another one nothing would be found again. */
export function foreignKey(pool: string): Fault {
  const message = `The pool ${pool} was opened under another installation's key. Start with the key file of that data directory.`;
  return new Fault("fix-setup", message);
}
