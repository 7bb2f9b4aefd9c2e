// Lines of text, compressed and read again piece by piece, so that they may exceed the memory.
import { pipeline, Readable } from "node:stream";
import { createZstdCompress, createZstdDecompress } from "node:zlib";

type Pieces = Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

const newline = 10;

/** @throws errors of the source. */
export function compressed(pieces: Pieces): AsyncIterable<Buffer> {
  return pipeline(Readable.from(pieces), createZstdCompress(), () => {}); // The reader gets the error.
}

/** @throws errors of the source, or if it is not compressed. */
export function decompressed(pieces: Pieces): AsyncIterable<Buffer> {
  return pipeline(Readable.from(pieces), createZstdDecompress(), () => {}); // Likewise.
}

/** Without their ends. A text after the last end is a line, too. */
export async function* linesOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let begun: Buffer[] = [];
  for await (const piece of pieces) {
    let start = 0;
    for (let end = piece.indexOf(newline); end >= 0; end = piece.indexOf(newline, start)) {
      const part = piece.subarray(start, end);
      yield begun.length === 0 ? part : Buffer.concat([...begun, part]);
      begun = [];
      start = end + 1;
    }
    if (start < piece.length) begun.push(piece.subarray(start));
  }
  if (begun.length > 0) yield Buffer.concat(begun);
}
