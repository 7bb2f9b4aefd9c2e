// The beginning of a commit, read without parsing all of it: its number, and the hash of the commit before it.
const begins = /^\{"v":\d+,"n":(\d{1,16}),"prev":"([\w-]*)"/;

/** Undefined: these are not the bytes of a commit. */
export function headOf(bytes: Uint8Array): { n: number; prev: string } | undefined {
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 120)).toString("latin1");
  const [, n, prev] = begins.exec(start) ?? [];
  return prev === undefined ? undefined : { n: Number(n), prev };
}
