// A backup: a folder that its owner alone may read. It has the ledgers as segments of an archive, the sealed secrets, and
// files of the data directory, but not the key. The manifest is written last, so a folder with one is whole.
import { createHash } from "node:crypto";
import { createReadStream, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { z } from "zod";
import { Fault, messageOf, resultOr } from "../../runtime/fault.ts";
import { readIfThere } from "../../runtime/files.ts";

export const ledgersIn = (folder: string): string => join(folder, "ledgers");
export const snapshotsIn = (folder: string): string => join(folder, "snapshots");
export const secretsIn = (folder: string): string => join(folder, "secrets.ndjson");
export const filesIn = (folder: string): string => join(folder, "files");
export const manifestIn = (folder: string): string => join(folder, "manifest.json");

const poolSchema = z.strictObject({
  pool: z.string(),
  /** Of its last commit: number, place in the stream, hash, and when it was stored. */
  n: z.int(),
  seq: z.int(),
  hash: z.string(),
  storedAt: z.int(),
  /** The ledger's beginning is gone, and this snapshot stands for it. */
  snapshot: z.strictObject({ n: z.int(), seq: z.int(), hash: z.string() }).exactOptional(),
});
export type BackedUpPool = z.infer<typeof poolSchema>;

const manifestSchema = z.strictObject({
  remudaBackup: z.literal(1),
  /** Of Remuda. */
  version: z.string(),
  /** By the broker's clock, ms: when it began. */
  at: z.int(),
  keyFingerprint: z.string(),
  pools: z.array(poolSchema),
  secrets: z.int(),
  /** base64url SHA-256 of each other file, by its path in the folder. */
  sha256: z.record(z.string(), z.string()),
});
export type BackupManifest = z.infer<typeof manifestSchema>;

/** Of all files in the folder but the manifest. */
export async function hashesIn(folder: string): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || path === manifestIn(folder)) continue;
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    hashes[relative(folder, path)] = hash.digest("base64url");
  }
  return hashes;
}

/** @throws Fault "fix-setup" if it is not a backup that this program can read, "stop-damaged" if a file was changed. */
export async function readBackup(folder: string): Promise<BackupManifest> {
  const path = manifestIn(folder);
  const text = readIfThere(path);
  if (text === undefined) throw new Fault("fix-setup", `${folder} is not a whole backup: it has no manifest.json.`);
  const document = resultOr(() => JSON.parse(text) as { remudaBackup?: unknown }, {});
  if (Number.isSafeInteger(document.remudaBackup) && document.remudaBackup !== 1)
    throw new Fault(
      "fix-setup",
      `${path} is of version ${String(document.remudaBackup)}. Restore it with a newer Remuda.`,
    );
  const read = manifestSchema.safeParse(document);
  if (!read.success) throw new Fault("stop-damaged", `${path} is damaged: it is not the manifest of a backup.`);
  const found = await hashesIn(folder).catch((cause: unknown) => {
    throw new Fault("fix-setup", `${folder} cannot be read: ${messageOf(cause)}`, { cause });
  });
  for (const [name, hash] of Object.entries(read.data.sha256)) {
    if (found[name] === hash) continue;
    throw new Fault(
      "stop-damaged",
      `${join(folder, name)} is ${name in found ? "damaged" : "missing"}. Use another backup.`,
    );
  }
  return read.data;
}
