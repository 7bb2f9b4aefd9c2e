// Folds a pool's ledger: from the newest snapshot that is good, or from its beginning. The result is its state, and the
// point at which the pool's time continues. Each commit is checked. A ledger that is not whole is never led.
import { decodeCommit, NewerFormat } from "../../events/commit.ts";
import { Fault, messageOf } from "../../runtime/fault.ts";
import { type Ledger, lookAgainMs, type StoredCommit } from "../../runtime/ledger.ts";
import { hashOf } from "../../runtime/loop.ts";
import type { InstallationKey } from "../../runtime/secrets.ts";
import type { Candidates } from "../../state-machines/candidates/candidates.ts";
import { foldCommit } from "../../state-machines/fold/evolve.ts";
import { PoolState } from "../../state-machines/fold/state.ts";
import { goOn, type LastRead, type TimePorts } from "./pool-time.ts";
import type { Mark, Snapshots } from "./snapshots.ts";

const lookEveryMs = 500;
/** In events: reading a commit takes as long. */
export const commitWork = 5;

export interface FoldPorts extends TimePorts {
  pool: string;
  ledger: Ledger;
  /** Absent: the whole ledger is folded. */
  snapshots?: Pick<Snapshots, "of" | "load"> | undefined;
  /** Called with a sentence about a snapshot that cannot be used. Another one is tried, or the whole ledger folded. */
  onBadSnapshot?: ((why: string) => void) | undefined;
  /** A commit whose hash is wanted. */
  witnessed?: (Pick<Mark, "n" | "seq"> & Partial<Mark>) | undefined;
  key: Pick<InstallationKey, "fingerprint">;
}

type RecoveryPorts = Omit<FoldPorts, "key" | "ledger"> & { ledger: Pick<Ledger, "read"> };

export interface Folded {
  state: PoolState;
  /** Sequence of the last commit in the stream; 0 if there is none. */
  seq: number;
  /** Hash of its bytes. */
  hash: string;
  /** Of the witnessed commit; undefined if there is no such commit. */
  witnessedHash: string | undefined;
  /** How much was folded, since the snapshot if there was one. */
  work: number;
  /** The pool's time from now on. */
  time: () => number;
  /** Kept in step with the state. Absent: the leader makes them. */
  candidates?: Candidates | undefined;
}

/** In events. Reading a commit takes as long as folding a few of them. */
export function workOf(done: { commits: number; events: number }): number {
  return done.events + commitWork * done.commits;
}

/** @throws Fault "stop-damaged" if the ledger is not whole, "fix-setup" if it belongs to another key. */
export async function foldLedger(ports: FoldPorts): Promise<Folded> {
  const fold = await recovered(ports);
  checkKey(ports, fold.state);
  return goOnFrom(ports, fold, await hashOfWitnessed(ports, fold));
}

/** Advances the pool's time. No further commit can be folded then. */
export async function goOnFrom(
  ports: TimePorts,
  { state, seq, hash, last, work }: Fold,
  witnessedHash: string | undefined,
): Promise<Folded> {
  const time = await goOn(ports, state, last ?? { storedAt: 0, on: ports.clock.monotonic() });
  return { state, seq, hash, witnessedHash, work, time };
}

/** A snapshot is only a cache: if anything is wrong with it, the ledger decides. */
export async function recovered(ports: RecoveryPorts): Promise<Fold> {
  const { pool, snapshots } = ports;
  const tried = new Set<string>();
  let damage: unknown;
  for (let wasWhole = false; ; ) {
    // Asked again each time: a ledger's beginning may be archived while it is folded, but only after a newer snapshot.
    const { marks, unlisted } = await listed(ports);
    const mark = marks.find(({ hash }) => !tried.has(hash));
    // Without a snapshot, a ledger whose beginning is elsewhere looks damaged.
    if (mark === undefined && wasWhole) throw unlisted ?? damage;
    wasWhole = mark === undefined;
    if (mark !== undefined) tried.add(mark.hash);
    try {
      const start = mark && { ...mark, state: await snapshots!.load(pool, mark) }; // They have named it.
      const fold = await foldFrom(ports, start);
      if (fold !== undefined) return fold;
      throw new Error("the ledger does not have its last commit");
    } catch (error) {
      if (saysNothing(error)) throw error;
      if (mark !== undefined)
        ports.onBadSnapshot?.(`the snapshot of pool ${pool} at commit ${mark.n} is not used: ${messageOf(error)}`);
      else damage = error;
    }
  }
}

/** The stream of snapshots may have no leader while that of ledgers has one. Then the whole ledger is folded. */
async function listed({ pool, snapshots, onBadSnapshot }: RecoveryPorts): Promise<{ marks: Mark[]; unlisted?: Fault }> {
  try {
    return { marks: (await snapshots?.of(pool)) ?? [] };
  } catch (cause) {
    const message = `the snapshots of pool ${pool} cannot be listed: ${messageOf(cause)}`;
    onBadSnapshot?.(message);
    return { marks: [], unlisted: new Fault("retry-later", message, { cause }) };
  }
}

/** Undefined if the ledger does not have the snapshot's last commit. */
async function foldFrom(ports: RecoveryPorts, start?: Start): Promise<Fold | undefined> {
  const fold = new Fold(ports, start);
  let isThere = start === undefined;
  for await (const stored of ports.ledger.read(Math.max(0, fold.seq - 1))) {
    if (isThere) fold.add(stored);
    else if (stored.seq !== fold.seq || hashOf(stored.bytes) !== fold.hash) return undefined;
    else {
      isThere = true;
      fold.saw(stored);
    }
  }
  return isThere ? fold : undefined;
}

interface Start extends Mark {
  state: PoolState;
}

/** A ledger's state so far. */
export class Fold {
  readonly state: PoolState;
  seq: number;
  hash: string;
  last: LastRead | undefined;
  witnessedHash: string | undefined;
  work = 0;
  readonly #ports: Pick<FoldPorts, "pool" | "clock" | "witnessed">;

  #reading: Promise<void> = Promise.resolve();

  constructor(ports: Pick<FoldPorts, "pool" | "clock" | "witnessed">, start?: Start) {
    this.#ports = ports;
    this.state = start?.state ?? new PoolState(ports.pool);
    this.seq = start?.seq ?? 0;
    this.hash = start?.hash ?? "";
  }

  /** Folds what has been stored since. Calls take turns. @throws Fault "stop-damaged" if the ledger is not whole. */
  readOn(ledger: Pick<Ledger, "read">): Promise<void> {
    const reading = this.#reading.then(async () => {
      for await (const stored of ledger.read(this.seq, this.state.commits)) this.add(stored);
    });
    this.#reading = reading.catch(() => {});
    return reading;
  }

  /** Resolves when nothing is being read. */
  get isRead(): Promise<void> {
    return this.#reading;
  }

  add(stored: StoredCommit): void {
    try {
      const commit = decodeCommit(Buffer.from(stored.bytes).toString());
      const next = this.state.commits + 1;
      if (commit.n > next) throw new Error(`expected commit ${next}, found ${commit.n} (${commit.n - next} missing)`);
      if (commit.prev !== this.hash) throw new Error("it does not follow the one before it: the hash chain is broken");
      foldCommit(this.state, commit);
      this.work += workOf({ commits: 1, events: commit.events.length });
    } catch (cause) {
      if (cause instanceof NewerFormat)
        throw newer(this.#ports.pool, { cause, seq: stored.seq, by: this.state.writtenBy });
      const where = `The ledger of pool ${this.#ports.pool} is damaged at sequence ${stored.seq}`;
      const message = `${where}: ${messageOf(cause)}. The pool is not served. ${cure(this.#ports.pool)}`;
      throw new Fault("stop-damaged", message, { cause });
    }
    this.seq = stored.seq;
    this.hash = hashOf(stored.bytes);
    this.saw(stored);
  }

  /** This commit is in the state. */
  saw({ storedAt }: StoredCommit): void {
    // Not when the first commit came: the ledger may grow while it is read.
    this.last = { storedAt, on: this.#ports.clock.monotonic() };
    if (this.state.commits === this.#ports.witnessed?.n) this.witnessedHash = this.hash;
  }
}

/** If it is older than the snapshot, it is not among the commits that were folded. */
export async function hashOfWitnessed({ ledger, witnessed }: FoldPorts, fold: Fold): Promise<string | undefined> {
  if (witnessed === undefined || witnessed.n === 0 || fold.witnessedHash !== undefined) return fold.witnessedHash;
  if (witnessed.n > fold.state.commits) return undefined;
  for await (const stored of ledger.read(witnessed.seq - 1)) {
    if (stored.seq === witnessed.seq) return hashOf(stored.bytes);
    // The ledger says that it is archived, and the archive is on another machine. So nothing contradicts the witness.
    const { archived } = fold.state;
    const isElsewhere =
      archived.n >= witnessed.n && archived.sequence >= witnessed.seq && stored.seq > archived.sequence;
    return isElsewhere ? witnessed.hash : undefined;
  }
  return undefined;
}

function cure(pool: string): string {
  const look = `npx remuda audit verify --pool ${pool}`;
  return `Keep the stream as it is ("${look}" lists the damage), and restore a backup ("npx remuda restore").`;
}

/** @param by the version that wrote it; "": not known. */
function newer(pool: string, { cause, seq, by }: { cause: Error; seq: number; by: string }): Fault {
  const writer = by === "" ? "A newer version of Remuda" : `Version ${by} of Remuda`;
  const message = `${writer} wrote the ledger of pool ${pool}, and this picker cannot read it: at sequence ${seq}, ${cause.message}.`;
  return new Fault("stop-newer", `${message} The pool is not served here. Update this picker.`, { cause });
}

/** It says nothing about a snapshot or a ledger. */
function saysNothing(error: unknown): boolean {
  return error instanceof Fault && (error.code === "retry-later" || error.code === "stop-newer");
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

/** The installation's key is another one, so none of its pools can be led. */
export class ForeignKey extends Fault {}

/** @throws ForeignKey */
export function checkKey({ pool, key }: Pick<FoldPorts, "pool" | "key">, { keyFingerprint }: PoolState): void {
  if (keyFingerprint !== "" && keyFingerprint !== key.fingerprint) throw foreignKey(pool);
}

/** Proxies' ids and sealed passwords depend on the key. With another key no proxy would be found again. */
export function foreignKey(pool: string): ForeignKey {
  const message = `The pool ${pool} was opened with another installation's key. Start with the key file of that data directory.`;
  return new ForeignKey("fix-setup", message);
}
