// Folds a pool's ledger from its beginning. The result is its state, and the point at which the pool's time continues.
// Each commit is checked. A ledger that is not whole is never led.
import { decodeCommit } from "../../events/commit.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import { type Ledger, lookAgainMs } from "../../runtime/ledger.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import { foldCommit } from "../../state-machines/fold/evolve.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { goOn, type LastRead, type TimePorts } from "./pool-time.ts";

const lookEveryMs = 500;

export interface FoldPorts extends TimePorts {
  pool: string;
  ledger: Ledger;
  /** Number of a commit whose hash is wanted. */
  witnessed?: number | undefined;
  key: Pick<InstallationKey, "fingerprint">;
}

export interface Folded {
  state: PoolState;
  /** Sequence of the last commit in the stream; 0 if there is none. */
  seq: number;
  /** Hash of its bytes. */
  hash: string;
  /** Of the witnessed commit; undefined if there is no such commit. */
  witnessedHash: string | undefined;
  /** The pool's time from now on. */
  time: () => number;
}

/** @throws Fault "stop-damaged" if the ledger is not whole, "fix-setup" if it belongs to another key. */
export async function foldLedger(ports: FoldPorts): Promise<Folded> {
  const state = new PoolState(ports.pool);
  let last: LastRead | undefined;
  let seq = 0;
  let hash = "";
  let witnessedHash: string | undefined;
  for await (const stored of ports.ledger.read(0)) {
    // Not when the first commit came: the ledger may grow while it is read.
    last = { storedAt: stored.storedAt, on: ports.clock.monotonic() };
    try {
      const commit = decodeCommit(Buffer.from(stored.bytes).toString());
      if (commit.prev !== hash) throw new Error("it does not follow the one before it: the hash chain is broken");
      foldCommit(state, commit);
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
    if (state.commits === ports.witnessed) witnessedHash = hash;
  }
  if (state.keyFingerprint !== "" && state.keyFingerprint !== ports.key.fingerprint) throw foreignKey(ports.pool);
  const time = await goOn(ports, state, last ?? { storedAt: 0, on: ports.clock.monotonic() });
  return { state, seq, hash, witnessedHash, time };
}

/** Waits while reads end before this sequence. They may come from a server that was cut off. */
export async function untilReadTo(
  { ledger, clock }: Pick<FoldPorts, "ledger" | "clock">,
  seq: number,
  signal?: AbortSignal,
): Promise<void> {
  if (ledger.isReplicated !== true) return;
  const since = clock.monotonic();
  while (signal?.aborted !== true && (await ledger.head()).seq < seq) {
    if (clock.monotonic() - since >= lookAgainMs) return;
    await new Promise<void>((resolve) => void clock.after(lookEveryMs, resolve));
  }
}

/** Proxies' ids and sealed passwords depend on the key. With another key no proxy would be found again. */
export function foreignKey(pool: string): Fault {
  const message = `The pool ${pool} was opened with another installation's key. Start with the key file of that data directory.`;
  return new Fault("fix-setup", message);
}
