// Seals a range of a ledger: its raw commits in a file, one per line, and a signed manifest as the last line. A machine
// that knows only this installation's public key can verify the file.
import { createHash, hash } from "node:crypto";
import { Fault } from "../../runtime/fault.ts";
import type { SigningKey } from "../../runtime/signing-key.ts";
import { writeWhole } from "../../runtime/whole-file.ts";
import { decoded, noCommit } from "./history.ts";
import { type Manifest, type ManifestPlace, signManifest } from "./manifest.ts";
import { isAfter, isBefore, type Moment } from "./moment.ts";
import type { LedgerSource } from "./source.ts";

const pieceBytes = 1024 ** 2;
const newline = 10;

export interface Sealing {
  pool: string;
  from?: Moment | undefined;
  to?: Moment | undefined;
  output: string;
  key: SigningKey;
  now: number;
  onProgress?: ((done: number) => void) | undefined;
}

/** @throws Fault "fix-setup" if the range is empty or the file cannot be written. */
export async function seal(source: LedgerSource, sealing: Sealing): Promise<Manifest> {
  const { pool, from, to, output, key, now } = sealing;
  return writeWhole(output, async (file) => {
    const whole = createHash("sha256");
    let pieces: Buffer[] = [];
    let waiting = 0;
    let bytes = 0;
    let commits = 0;
    let events = 0;
    let prev = "";
    let head = "";
    let first: ManifestPlace | undefined;
    let last: ManifestPlace | undefined;
    const flush = async (): Promise<void> => {
      const piece = Buffer.concat(pieces);
      pieces = [];
      waiting = 0;
      whole.update(piece);
      bytes += piece.length;
      await file.writeFile(piece);
    };
    reading: for await (const batch of source.read()) {
      for (const entry of batch) {
        const commit = decoded(source, entry);
        const place = { n: commit.n, sequence: entry.seq, at: commit.at };
        if (to !== undefined && isAfter(to, place)) break reading;
        if (first === undefined && from !== undefined && isBefore(from, place)) continue;
        if (entry.bytes.includes(newline)) {
          const what = `commit ${commit.n} (sequence ${entry.seq}) contains a line break, which no leader writes.`;
          throw new Fault("stop-damaged", `${source.where} cannot be sealed: ${what}`);
        }
        if (first === undefined) prev = commit.prev;
        first ??= place;
        last = place;
        head = hash("sha256", entry.bytes, "base64url");
        commits++;
        events += commit.events.length;
        pieces.push(entry.bytes, Buffer.from("\n"));
        waiting += entry.bytes.length + 1;
        if (waiting >= pieceBytes) await flush();
      }
      sealing.onProgress?.(source.done);
    }
    if (first === undefined || last === undefined) throw noCommit(source);
    await flush();
    const sha256 = whole.digest("base64url");
    const manifest = signManifest(
      { remudaSeal: 1, pool, first, last, commits, events, bytes, sha256, prev, head, sealedAt: now },
      key,
    );
    await file.writeFile(`${JSON.stringify(manifest)}\n`);
    return manifest;
  });
}
