// A segment: a range of a ledger in a file, one commit on a line, compressed with zstd. A line also has the stream's
// own record of the commit. So the stream can be made again with the same sequences. The manifest is beside the file.
import { createHash, type Hash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { headOf } from "../commit-head.ts";
import { codeOf, Fault, messageOf } from "../fault.ts";
import { replaceFile } from "../files.ts";
import type { StoredCommit } from "../ledger.ts";
import { hashOf } from "../loop.ts";
import { compressed, decompressed, linesOf } from "../zstd.ts";

interface Place {
  n: number;
  /** In the stream. */
  sequence: number;
  /** By the broker's clock, ms. */
  storedAt: number;
}

export interface Manifest {
  remudaSegment: 1;
  pool: string;
  first: Place;
  last: Place;
  /** Of all lines. */
  bytes: number;
  /** Of the file. */
  fileBytes: number;
  /** base64url SHA-256 of all lines. */
  sha256: string;
  /** base64url SHA-256 of the commit before the first, as the first names it; "" if the first is the ledger's first. */
  prev: string;
  /** base64url SHA-256 of the last commit. */
  head: string;
}

const newline = 10;
export const fileEnd = ".ndjson.zst";
export const manifestEnd = ".json";
export const nameOfManifest = /^(\d{12})-(\d{12})-.{8}\.json$/;

/** Names sort in the order of the ledger. */
export function nameOf({ first, last, head }: Manifest): string {
  const [from, to] = [first.n, last.n].map((n) => String(n).padStart(12, "0"));
  return `${from}-${to}-${head.slice(0, 8)}`;
}

/**
 * Writes the commits, up to the sequence `lastSeq` or until there are `bytesMax` bytes of lines. The file is read again
 * and compared before it gets its name. Undefined if there are no such commits.
 * @throws Fault "stop-damaged" if the commits are not a range, "fix-setup" if the file cannot be written.
 */
export async function writeSegment(
  folder: string,
  commits: AsyncIterable<StoredCommit>,
  bounds: { pool: string; lastSeq: number; bytesMax: number },
): Promise<Manifest | undefined> {
  const part = join(folder, `${randomBytes(8).toString("hex")}.part`);
  const range = new Range();
  const lines = async function* (): AsyncGenerator<Buffer> {
    for await (const commit of commits) {
      if (commit.seq > bounds.lastSeq) return;
      const line = lineOf(commit);
      range.add(line, commit);
      yield line;
      if (range.bytes >= bounds.bytesMax) return;
    }
  };
  try {
    const file = createWriteStream(part, { flush: true, mode: 0o600 });
    await pipeline(compressed(lines()), file);
    const manifest = range.manifest({ pool: bounds.pool, fileBytes: file.bytesWritten });
    if (manifest === undefined) return undefined;
    for await (const _ of linesIn(part, manifest)); // Throws if it does not have these lines.
    const name = nameOf(manifest);
    await rename(part, join(folder, `${name}${fileEnd}`));
    // It also brings the name of the other file to the disk.
    replaceFile(join(folder, `${name}${manifestEnd}`), `${JSON.stringify(manifest)}\n`);
    return manifest;
  } finally {
    await rm(part, { force: true });
  }
}

/**
 * @throws Fault "stop-damaged", perhaps only at the end, if the file does not have the lines that its manifest names.
 */
export async function* readSegment(folder: string, manifest: Manifest): AsyncGenerator<StoredCommit> {
  for await (const line of linesIn(join(folder, `${nameOf(manifest)}${fileEnd}`), manifest)) yield commitIn(line);
}

/** It may have been moved meanwhile. */
export async function moveSegment(manifest: Manifest, from: string, to: string): Promise<void> {
  for (const end of [manifestEnd, fileEnd]) {
    const name = `${nameOf(manifest)}${end}`;
    await rename(join(from, name), join(to, name)).catch((error: unknown) => {
      if (codeOf(error) !== "ENOENT") throw error;
    });
  }
}

export async function removeSegment(folder: string, manifest: Manifest): Promise<void> {
  // A file without a manifest is not read.
  for (const end of [manifestEnd, fileEnd]) await rm(join(folder, `${nameOf(manifest)}${end}`), { force: true });
}

/** The known facts about the lines so far. */
class Range {
  readonly #hash: Hash = createHash("sha256");
  bytes = 0;
  first: Place | undefined;
  last: Place = { n: 0, sequence: 0, storedAt: 0 };
  #prev = "";
  #head = "";

  add(line: Buffer, { seq: sequence, storedAt, bytes }: StoredCommit): void {
    const { n = 0, prev = "" } = headOf(bytes) ?? {};
    const place = { n, sequence, storedAt };
    if (n === 0 || (this.first !== undefined && (n !== this.last.n + 1 || prev !== this.#head)))
      throw new Fault("stop-damaged", `The commit at sequence ${sequence} does not follow the one before it.`);
    if (this.first === undefined) this.#prev = prev;
    this.first ??= place;
    this.last = place;
    this.#head = hashOf(bytes);
    this.bytes += line.length;
    this.#hash.update(line);
  }

  manifest(file: { pool: string; fileBytes: number }): Manifest | undefined {
    if (this.first === undefined) return undefined;
    const sha256 = this.#hash.digest("base64url");
    const { first, last, bytes } = this;
    return { remudaSegment: 1, ...file, first, last, bytes, sha256, prev: this.#prev, head: this.#head };
  }
}

/** The commit's own bytes are last, so that they can be cut out again, byte for byte. */
function lineOf({ seq, storedAt, id, bytes }: StoredCommit): Buffer {
  if (bytes.includes(newline)) throw new Fault("stop-damaged", `The commit at sequence ${seq} has a line break.`);
  const head = JSON.stringify({ seq, at: storedAt, id });
  return Buffer.concat([Buffer.from(`${head.slice(0, -1)},"commit":`), bytes, Buffer.from("}\n")]);
}

const lineStart = /^\{"seq":(\d+),"at":(\d+),"id":"([^"\\]*)","commit":/;

function commitIn(line: Buffer): StoredCommit {
  const [start = "", seq, at, id = ""] = lineStart.exec(line.toString("latin1", 0, 200)) ?? [];
  const bytes = line.subarray(start.length, -1);
  return { seq: Number(seq), id, storedAt: Number(at), bytes };
}

async function* linesIn(path: string, { sha256 }: Manifest): AsyncGenerator<Buffer> {
  const hash = createHash("sha256");
  try {
    for await (const line of linesOf(decompressed(createReadStream(path)))) {
      hash.update(line).update("\n");
      yield line;
    }
  } catch (cause) {
    throw new Fault("stop-damaged", `${path} cannot be read: ${messageOf(cause)}. Restore it from a backup.`, {
      cause,
    });
  }
  if (hash.digest("base64url") !== sha256)
    throw new Fault("stop-damaged", `${path} is damaged: its lines are not those that were archived. Restore it.`);
}
