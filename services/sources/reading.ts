// One look at a source: what it says now, as the text of a list. Every way of looking has a bound in time and in size, and
// a list that came only in part is no list: it throws, and whoever asked keeps what was known.
import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import type { Source } from "../../protocol/source.ts";
import { Fault } from "../../runtime/fault.ts";

/** `mark`: what a later look may be told to compare with, so that what has not changed is not read again. */
export type Reading = { text: string; mark?: string } | "unchanged";

export const textBytesMax = 256 * 1024 * 1024;
/** A file that was written to so lately may be half of what it will be. */
const settledMs = 1000;
/** And one whose last line has no end may be so for longer: "10.0.0.1:80" of "10.0.0.1:8080" is another proxy. */
const unendedMs = 5000;

const newlines = [10, 13];

export type From<Kind extends Source["from"]["kind"]> = Extract<Source["from"], { kind: Kind }>;

/** Soon over, and nothing that anybody need be told of. */
export class BeingWritten extends Fault {
  constructor(path: string) {
    super("retry-later", `${path} is being written`);
  }
}

/** @throws BeingWritten; Fault "fix-setup" where it cannot be read. */
export async function readListFile({ path }: From<"file">, mark: string | undefined, now: number): Promise<Reading> {
  try {
    const before = await stat(path);
    if (!before.isFile()) throw new Fault("fix-setup", `${path} is no file`);
    if (before.size > textBytesMax) throw tooLarge(path);
    const seen = `${before.ino}/${before.size}/${before.mtimeMs}`;
    if (seen === mark) return "unchanged";
    const ageMs = now < before.mtimeMs ? Number.POSITIVE_INFINITY : now - before.mtimeMs; // Clocks are set, too.
    if (ageMs < settledMs) throw new BeingWritten(path);
    const bytes = await readFile(path);
    const after = await stat(path);
    if (after.size !== before.size || after.mtimeMs !== before.mtimeMs) throw new BeingWritten(path);
    if (ageMs < unendedMs && bytes.length > 0 && !newlines.includes(bytes.at(-1) ?? 0)) throw new BeingWritten(path);
    return { text: textOf(bytes), mark: seen };
  } catch (error) {
    if (error instanceof Fault) throw error;
    const code = codeOf(error);
    const isNone = code === "ENOENT" || code === "ENOTDIR";
    throw new Fault("fix-setup", `${path} cannot be read (${isNone ? "there is no such file" : code})`);
  }
}

/** What it prints counts only when it ends well. One that hangs is ended with all that it started, as it is when we are killed. */
export async function runCommand({ command, timeoutMs }: From<"command">, signal: AbortSignal): Promise<Reading> {
  const [program = "", ...args] = command;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const chunks: Buffer[] = [];
  let bytes = 0;
  let endAll = (): void => {};
  try {
    const why = await new Promise<string | undefined>((resolve) => {
      const child = spawn(program, args, { detached: true, stdio: ["ignore", "pipe", "ignore"] });
      const letGo = child.pid === undefined ? () => {} : endWithUs(child.pid);
      endAll = () => {
        letGo();
        child.stdout.destroy(); // Also where something holds the other end that has left the group.
        try {
          if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL"); // A shell's children, too.
        } catch {
          // They are gone.
        }
      };
      child.stdout.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > textBytesMax) resolve(undefined);
        else chunks.push(chunk);
      });
      child.once("error", (error) => resolve(`cannot be started (${codeOf(error)})`));
      child.once("close", (code, by) =>
        resolve(code === 0 ? undefined : by === null ? `ended with ${code}` : `was ended by ${by}`),
      );
      const late = () => resolve(`did not end within ${timeoutMs} ms, and was ended`);
      limited.addEventListener("abort", late, { once: true });
      if (limited.aborted) late();
    });
    if (bytes > textBytesMax) throw tooLarge(program);
    if (why !== undefined) throw new Fault("retry-later", `${program} ${why}`);
    return { text: textOf(Buffer.concat(chunks)) };
  } catch (error) {
    // What the system cannot even try (an argument that is too long) is thrown at once.
    if (error instanceof Fault) throw error;
    throw new Fault("fix-setup", `${program} cannot be started (${codeOf(error)})`);
  } finally {
    endAll();
  }
}

/** A shell that ends the group when we are gone, however we went: its `read` ends with our end of the pipe. Returns what sends it away. */
function endWithUs(group: number): () => void {
  const shell = spawn("sh", ["-c", 'read -r _; kill -s KILL -- "-$1"', "sh", String(group)], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  shell.on("error", () => {}); // Where there is none, a command is ended by us alone.
  return () => void shell.kill("SIGKILL");
}

/** UTF-8, or UTF-16 as Windows writes it, which its first two bytes tell. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder(bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-8").decode(bytes);
}

export function tooLarge(name: string): Fault {
  return new Fault("fix-setup", `${name} gives more than ${textBytesMax >> 20} MB: split it into several sources`);
}

export function codeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (typeof cause === "object" && cause !== null && "code" in cause) return String(cause.code);
  return cause instanceof Error ? cause.name : "unknown";
}
