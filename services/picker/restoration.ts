// Restores a backup into an empty installation, before any picker runs. The commits of the backup become the archive.
// The ledgers' stream begins after them, with the commits that say so (lone-commits.ts). So no sequence is used twice.
import { randomBytes } from "node:crypto";
import { cpSync, createReadStream, mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { ledgerStream, ledgerSubject, secretsBucket } from "../../protocol/subjects.ts";
import type { Archive } from "../../runtime/archive/archive.ts";
import type { Bus } from "../../runtime/bus.ts";
import { systemClock } from "../../runtime/clock.ts";
import { Fault } from "../../runtime/fault.ts";
import { whenFormed } from "../../runtime/forming.ts";
import { ifStream, streamInfo } from "../../runtime/jetstream-api.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { atOnce, bucketSettings, type InstallationKey } from "../../runtime/secrets.ts";
import { ensureStream } from "../../runtime/streams.ts";
import { snapshotFile } from "./backup.ts";
import { type BackedUpPool, type BackupManifest, ledgersIn, secretsIn } from "./backup-folder.ts";
import { checkKey, recovered } from "./fold.ts";
import { isUsed, storeSealed } from "./installation.ts";
import { commitRestored } from "./lone-commits.ts";
import { Snapshots } from "./snapshots.ts";
import { ledgerSettings } from "./stream-settings.ts";
import { Witnesses } from "./witness.ts";

interface Given {
  bus: Bus;
  key: InstallationKey;
  /** Of the new installation. */
  archive: Archive;
  ledgerBytesMax: number;
  /** Of Remuda. */
  version: string;
}

export interface RestoredPool {
  pool: string;
  /** Of the backup. */
  commits: number;
  /** When the last of them was stored: later ones are lost. */
  lastAt: number;
  /** Leases that have ended as used. */
  leases: number;
  /** No lease is granted before then. */
  until: number;
  closed: boolean;
  /** Exits with a usage quota. Their uses after the backup are not counted. */
  quotas: number;
}

/** @throws Fault "in-use" if the NATS server has an installation. */
export async function refuseUsed(bus: Bus): Promise<void> {
  const isThere = (await ifStream(streamInfo(bus, ledgerStream))) !== undefined;
  if (!isThere && !(await whenFormed(bus, () => isUsed(bus)))) return;
  throw new Fault("in-use", `The NATS server has a stream ${ledgerStream}. Restore into an empty installation.`);
}

/** @param manifest of the backup in the folder, checked. */
export async function restoreBackup(folder: string, manifest: BackupManifest, given: Given): Promise<RestoredPool[]> {
  const { bus, archive, ledgerBytesMax } = given;
  await refuseUsed(bus);
  const pools = manifest.pools.map(({ pool }) => pool);
  const taken = archive.pools().find((name) => pools.includes(name));
  if (taken !== undefined)
    throw new Fault("in-use", `${archive.folder} has an archive of pool ${taken}. Restore into an empty installation.`);
  mkdirSync(archive.folder, { recursive: true, mode: 0o700 });
  cpSync(ledgersIn(folder), archive.folder, { recursive: true });
  const isSingle = bus.nc.info?.cluster === undefined;
  const settings = ledgerSettings({ isSingle, ledgerBytesMax });
  const first_seq = 1 + Math.max(0, ...manifest.pools.map(({ seq }) => seq));
  await whenFormed(bus, () => ensureStream(bus, { ...settings, initial: { ...settings.initial, first_seq } }));
  await ensureStream(bus, bucketSettings(secretsBucket, { isSingle }));
  await restoreSecrets(folder, given);
  const restored: RestoredPool[] = [];
  for (const pool of manifest.pools) restored.push(await restorePool(pool, folder, { ...given, at: manifest.at }));
  return restored;
}

async function restoreSecrets(folder: string, { bus, key }: Given): Promise<void> {
  const entries: { name: string; sealed: Buffer }[] = [];
  for await (const line of createInterface({ input: createReadStream(secretsIn(folder)) })) {
    const { name, sealed } = JSON.parse(line) as { name: string; sealed: string };
    entries.push({ name, sealed: Buffer.from(sealed, "base64url") });
    key.unseal(entries.at(-1)?.sealed ?? Buffer.of()); // A key of another time would not open it.
  }
  await atOnce(entries, (entry) => storeSealed(bus, entry, 0));
}

async function restorePool(
  { pool, n, seq, hash, storedAt, snapshot }: BackedUpPool,
  folder: string,
  { bus, key, archive, version, at }: Given & { at: number },
): Promise<RestoredPool> {
  const snapshots = new Snapshots(bus);
  if (snapshot !== undefined) await snapshots.copyFrom(snapshotFile(folder, pool), pool, snapshot);
  const archived = { read: (afterSeq: number) => archive.commits(pool, afterSeq) };
  const fold = await recovered({ pool, ledger: archived, snapshots, clock: systemClock });
  const { state } = fold;
  checkKey({ pool, key }, state);
  if (state.commits !== n || fold.hash !== hash)
    throw new Fault("stop-damaged", `The backup of pool ${pool} ends with commit ${state.commits}, and not with ${n}.`);
  const leases = state.opened ? state.leases.size : 0;
  const ledger = new JetStreamLedger({ bus, stream: ledgerStream, subject: ledgerSubject(pool) });
  const leader = `restore-${randomBytes(6).toString("hex")}`;
  const backup = { last: n, sequence: seq, backedUpAt: at };
  const mark = await commitRestored(state, { ledger, leader, version, hash, backup });
  // Pickers elsewhere need not have the archive then, and a start need not fold it.
  await snapshots.save(pool, mark, state);
  await keepWitness(pool, { bus, key, mark, state });
  const quotas = [...state.exits.values()].filter((exit) => exit.limits.usage !== null).length;
  return { pool, commits: n, lastAt: storedAt, leases, until: state.restored.until, closed: !state.opened, quotas };
}

/** The commits after the backup are given up. A picker may have a witness of them. */
async function keepWitness(
  pool: string,
  {
    bus,
    key,
    mark,
    state,
  }: Pick<Given, "bus" | "key"> & {
    mark: Awaited<ReturnType<typeof commitRestored>>;
    state: Awaited<ReturnType<typeof recovered>>["state"];
  },
): Promise<void> {
  const witnesses = new Witnesses({ bus, key, log: { warn() {} }, folder: undefined });
  const forgotten = ((await witnesses.of(pool)).witness?.forgotten ?? 0) + 1;
  const { term, at, openedAt: opened } = state;
  if (!(await witnesses.keep(pool, { ...mark, opened, forgotten, term, at })))
    throw new Fault("retry-later", `The witness of pool ${pool} could not be stored.`);
}
