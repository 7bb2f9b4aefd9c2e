// Backs an installation up while it runs. Each ledger is read up to its present end, archive and stream as one, and each
// commit must follow the one before it. The secrets come afterwards, because a proxy's are stored before its commit. So
// the backup has all that its ledgers need.
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { chmod } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ledgerStream, ledgerSubject, ledgerSubjects } from "../../protocol/subjects.ts";
import { Archive } from "../../runtime/archive/archive.ts";
import type { Manifest } from "../../runtime/archive/segment.ts";
import type { Bus } from "../../runtime/bus.ts";
import { Fault } from "../../runtime/fault.ts";
import { replaceFile } from "../../runtime/files.ts";
import { brokerNow, ifStream, subjectsOf } from "../../runtime/jetstream-api.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import {
  type BackedUpPool,
  type BackupManifest,
  filesIn,
  hashesIn,
  ledgersIn,
  manifestIn,
  secretsIn,
  snapshotsIn,
} from "./backup-folder.ts";
import { forEachSealed } from "./installation.ts";
import { Snapshots } from "./snapshots.ts";

const segmentBytesMax = 64 * 1024 ** 2;

interface Given {
  bus: Bus;
  archive: Archive;
  version: string;
  keyFingerprint: string;
  /** Files and folders of the installation, by the names that they get. Those that do not exist are left out. */
  files: Readonly<Record<string, string>>;
}

/**
 * @param folder must not exist, or be empty.
 * @throws Fault "stop-damaged" if a ledger is not whole, "fix-setup" if the folder cannot be written.
 */
export async function backUp(folder: string, given: Given): Promise<BackupManifest> {
  if (existsSync(folder) && readdirSync(folder).length > 0)
    throw new Fault("fix-setup", `${folder} is not empty. Name a new folder for the backup.`);
  const part = join(dirname(folder), `.${basename(folder)}.${process.pid}.part`);
  try {
    const manifest = await backUpTo(part, given);
    renameSync(part, folder);
    return manifest;
  } finally {
    rmSync(part, { recursive: true, force: true });
  }
}

async function backUpTo(folder: string, given: Given): Promise<BackupManifest> {
  const { bus, version, keyFingerprint } = given;
  for (const path of [ledgersIn(folder), snapshotsIn(folder), filesIn(folder)])
    mkdirSync(path, { recursive: true, mode: 0o700 });
  const subjects = await ifStream(subjectsOf(bus, ledgerStream, ledgerSubjects));
  if (subjects === undefined)
    throw new Fault("fix-setup", "There is nothing to back up: the NATS server has no ledgers.");
  const at = await brokerNow(bus, ledgerStream);
  const pools: BackedUpPool[] = [];
  for (const subject of subjects.sort()) {
    const backed = await backUpLedger(subject.slice(ledgerSubject("").length), folder, given);
    if (backed !== undefined) pools.push(backed);
  }
  const file = openSync(secretsIn(folder), "wx", 0o600);
  const secrets = await forEachSealed(bus, ({ name, sealed }) => {
    writeSync(file, `${JSON.stringify({ name, sealed: Buffer.from(sealed).toString("base64url") })}\n`);
  });
  closeSync(file);
  for (const [name, path] of Object.entries(given.files))
    if (existsSync(path)) cpSync(path, join(filesIn(folder), name), { recursive: true });
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o700 : 0o600);
  const sha256 = await hashesIn(folder);
  const manifest: BackupManifest = { remudaBackup: 1, version, at, keyFingerprint, pools, secrets, sha256 };
  replaceFile(manifestIn(folder), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

/** Undefined: the pool was deleted meanwhile. */
async function backUpLedger(pool: string, folder: string, given: Given): Promise<BackedUpPool | undefined> {
  const { bus, archive } = given;
  const whole: ConstructorParameters<typeof JetStreamLedger>[0]["whole"] = (...stored) =>
    archive.whole(pool, ...stored);
  const ledger = new JetStreamLedger({ bus, stream: ledgerStream, subject: ledgerSubject(pool), whole });
  const copy = new Archive(ledgersIn(folder));
  const { seq: lastSeq } = await ledger.head();
  let first: Manifest | undefined;
  let last: Manifest | undefined;
  while ((last?.last.sequence ?? 0) < lastSeq) {
    const commits = ledger.read(last?.last.sequence ?? 0, last?.last.n);
    const next = await copy.add(commits, { pool, lastSeq, bytesMax: segmentBytesMax });
    if (next === undefined) break;
    if (last !== undefined && (next.prev !== last.head || next.first.n !== last.last.n + 1))
      throw new Fault("stop-damaged", `The ledger of pool ${pool} is not whole after commit ${last.last.n}.`);
    first ??= next;
    last = next;
  }
  if (first === undefined || last === undefined) return undefined;
  const { n, sequence: seq, storedAt } = last.last;
  const backed: BackedUpPool = { pool, n, seq, hash: last.head, storedAt };
  if (first.first.n === 1) return backed;
  const snapshots = new Snapshots(bus);
  const from = first.first.n - 1;
  const snapshot = (await snapshots.of(pool)).find((mark) => mark.n >= from && mark.n <= n);
  if (snapshot === undefined)
    throw new Fault(
      "stop-damaged",
      `The ledger of pool ${pool} begins with commit ${from + 1}, and no snapshot stands for the ${from} before it. ` +
        "Run this where its archive is, or set REMUDA_ARCHIVE_DIR.",
    );
  await snapshots.copyTo(snapshotFile(folder, pool), pool, snapshot);
  return { ...backed, snapshot };
}

export function snapshotFile(folder: string, pool: string): string {
  return join(snapshotsIn(folder), `${pool}.zst`);
}
