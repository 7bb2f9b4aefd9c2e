// One look at a source: what it says now, as the text of a list. Every way of looking has a bound in time and in size, and
// a list that came only in part is no list: it throws, and whoever asked keeps what was known.
import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { Source } from "../../events/source.ts";
import { Fault } from "../../runtime/fault.ts";

/** `mark`: what a later look may be told to compare with, so that what has not changed is not read again. */
export type Reading = { text: string; mark?: string } | "unchanged";

export const textBytesMax = 256 * 1024 * 1024;
/** A file that was written to so lately may be half of what it will be. */
const settledMs = 250;

type From<Kind extends Source["from"]["kind"]> = Extract<Source["from"], { kind: Kind }>;

/** @throws Fault "retry-later" while it is being written, "fix-setup" where it cannot be read. */
export async function readListFile({ path }: From<"file">, mark: string | undefined, now: number): Promise<Reading> {
  try {
    const before = await stat(path);
    if (!before.isFile()) throw new Fault("fix-setup", `${path} is no file`);
    if (before.size > textBytesMax) throw tooLarge(path);
    const seen = `${before.ino}/${before.size}/${before.mtimeMs}`;
    if (seen === mark) return "unchanged";
    if (now - before.mtimeMs < settledMs && now >= before.mtimeMs) throw beingWritten(path);
    const bytes = await readFile(path);
    const after = await stat(path);
    if (after.size !== before.size || after.mtimeMs !== before.mtimeMs || after.ino !== before.ino)
      throw beingWritten(path);
    return { text: decoded(bytes), mark: seen };
  } catch (error) {
    if (error instanceof Fault) throw error;
    const code = codeOf(error);
    throw new Fault("fix-setup", `${path} cannot be read (${code === "ENOENT" ? "there is no such file" : code})`);
  }
}

/** A conditional request, where the last answer gave something to be conditional on. */
export async function readUrl(
  { url, headers, timeoutMs }: From<"url">,
  mark: string | undefined,
  signal: AbortSignal,
): Promise<Reading> {
  const { host } = new URL(url); // The rest of it may be a secret.
  const conditions = mark === undefined ? {} : (JSON.parse(mark) as Record<string, string>);
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  try {
    const reply = await fetch(url, { headers: { accept: "*/*", ...headers, ...conditions }, signal: limited });
    if (reply.status === 304 && mark !== undefined) return "unchanged";
    if (!reply.ok || reply.status === 204) throw new Fault("retry-later", `${host} answers ${reply.status}`);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of reply.body ?? []) {
      bytes += chunk.byteLength;
      if (bytes > textBytesMax) throw tooLarge(host);
      chunks.push(chunk);
    }
    const etag = reply.headers.get("etag");
    const modified = reply.headers.get("last-modified");
    const later = {
      ...(etag ? { "if-none-match": etag } : {}),
      ...(modified ? { "if-modified-since": modified } : {}),
    };
    const text = decoded(Buffer.concat(chunks));
    return Object.keys(later).length === 0 ? { text } : { text, mark: JSON.stringify(later) };
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (limited.aborted && !signal.aborted)
      throw new Fault("retry-later", `${host} did not answer within ${timeoutMs} ms`);
    throw new Fault("retry-later", `${host} cannot be read (${codeOf(error)})`);
  }
}

/** What it prints counts only when it ends well. One that hangs is ended with all that it started. */
export async function runCommand({ command, timeoutMs }: From<"command">, signal: AbortSignal): Promise<Reading> {
  const [program = "", ...args] = command;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const child = spawn(program, args, { detached: true, stdio: ["ignore", "pipe", "ignore"] });
  const endAll = () => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, "SIGKILL"); // Its group: a shell's children hold the pipe open as well.
    } catch {
      // They are gone.
    }
  };
  limited.addEventListener("abort", endAll, { once: true });
  try {
    const ended = new Promise<string | undefined>((resolve) => {
      child.once("error", (error) => resolve(`cannot be started (${codeOf(error)})`));
      child.once("close", (code, by) =>
        resolve(code === 0 ? undefined : by === null ? `ended with ${code}` : `was ended by ${by}`),
      );
    });
    const bytes = await allOf(child.stdout, program, endAll);
    const why = await ended;
    if (limited.aborted) throw new Fault("retry-later", `${program} did not end within ${timeoutMs} ms, and was ended`);
    if (why !== undefined) throw new Fault("retry-later", `${program} ${why}`);
    return { text: decoded(bytes) };
  } finally {
    limited.removeEventListener("abort", endAll);
    endAll();
  }
}

async function allOf(stream: Readable, name: string, endAll: () => void): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > textBytesMax) {
      endAll();
      throw tooLarge(name);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** UTF-8, or UTF-16 as Windows writes it, which its first two bytes tell. */
function decoded(bytes: Uint8Array): string {
  return new TextDecoder(bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-8").decode(bytes);
}

function beingWritten(path: string): Fault {
  return new Fault("retry-later", `${path} is being written`);
}

function tooLarge(name: string): Fault {
  return new Fault("fix-setup", `${name} gives more than ${textBytesMax >> 20} MB: split it into several sources`);
}

function codeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (typeof cause === "object" && cause !== null && "code" in cause) return String(cause.code);
  return cause instanceof Error ? cause.name : "unknown";
}
