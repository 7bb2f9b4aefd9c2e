// A ledger in a file: one commit on each line, as `audit seal` writes them, and the manifest as the last line. It is
// read in large pieces, never as a whole.
import { type FileHandle, open } from "node:fs/promises";
import { cannotRead, Fault } from "../../runtime/fault.ts";
import { type Manifest, manifestIn } from "./manifest.ts";
import type { Entry, LedgerSource } from "./source.ts";

const pieceBytes = 1024 ** 2;
/** Most lines are shorter. */
const roomBytes = 64 * 1024;
/** A commit has a few hundred kilobytes at most. A line without an end must not fill the memory. */
const lineBytesMax = 64 * 1024 ** 2;
const newline = 10;

export interface FileSource extends LedgerSource {
  /** Of a sealed file. */
  readonly manifest: Manifest | undefined;
}

/** @throws Fault "fix-setup" if the file cannot be read. */
export async function openFileSource(path: string): Promise<FileSource> {
  const file = await openFile(path);
  const { size } = await file.stat();
  const manifest = await manifestOf(file, size);
  let done = 0;
  const source: FileSource = {
    where: path,
    manifest,
    get done() {
      return done;
    },
    size: async () => size,
    async *read() {
      done = 0;
      let line = 0;
      let rest: Buffer = Buffer.alloc(0);
      // Leaves room before the piece for the unfinished last line of the previous piece.
      const readAt = (from: number): Promise<{ bytesRead: number; buffer: Buffer }> => {
        const length = Math.max(1, Math.min(pieceBytes, size - from));
        return file.read(Buffer.allocUnsafe(roomBytes + length), roomBytes, length, from);
      };
      for (let next = readAt(0); done < size; ) {
        const { bytesRead, buffer: piece } = await next;
        if (bytesRead === 0) break;
        done += bytesRead;
        const bytes = joined(rest, piece, bytesRead);
        next = readAt(done); // Read while the caller checks this piece.
        next.catch(() => {}); // Awaited above, unless the reading ends here.
        const batch: Entry[] = [];
        let start = 0;
        for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
          line++;
          batch.push({ seq: 0, storedAt: 0, line, bytes: bytes.subarray(start, end) });
          start = end + 1;
        }
        rest = bytes.subarray(start);
        if (rest.length > lineBytesMax)
          throw new Fault("fix-setup", `${path}:${line + 1}: the line is longer than any commit. Give a ledger.`);
        if (done >= size && rest.length > 0) batch.push({ seq: 0, storedAt: 0, line: line + 1, bytes: rest });
        if (done >= size && manifest !== undefined) batch.pop(); // The manifest's own line.
        yield batch;
      }
    },
    async last() {
      let last: Entry | undefined;
      for await (const batch of source.read()) last = batch.at(-1) ?? last;
      return last;
    },
    close: () => file.close(),
  };
  return source;
}

/** The remainder of the previous piece, followed by this piece, which begins after its room. */
function joined(rest: Buffer, piece: Buffer, length: number): Buffer {
  if (rest.length > roomBytes) return Buffer.concat([rest, piece.subarray(roomBytes, roomBytes + length)]);
  rest.copy(piece, roomBytes - rest.length);
  return piece.subarray(roomBytes - rest.length, roomBytes + length);
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    const file = await open(path);
    if ((await file.stat()).isFile()) return file;
    await file.close();
    throw new Fault("fix-setup", `${path} is not a file. Name a sealed file.`);
  } catch (cause) {
    throw cause instanceof Fault ? cause : cannotRead(path, cause);
  }
}

/** A manifest is short, and the last line. */
async function manifestOf(file: FileHandle, size: number): Promise<Manifest | undefined> {
  const length = Math.min(size, 64 * 1024);
  const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
  const text = buffer.toString("utf8").replace(/\n$/, "");
  return manifestIn(text.slice(text.lastIndexOf("\n") + 1));
}
