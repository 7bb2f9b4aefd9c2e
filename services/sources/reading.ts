// One look at a source, which gives the source's current list as text. Every kind of look has a bound in time and in
// size. A list that came only in part is not a list: the look throws, and its caller keeps the previous state.
import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { setImmediate as immediately } from "node:timers/promises";
import type { Source } from "../../protocol/source.ts";
import { codeOf, Fault } from "../../runtime/fault.ts";
import { Pieces } from "../../transport/pieces.ts";
import { textBytesMax } from "./room.ts";

/** `mark`: a later look compares with it, so that an unchanged list is not read again. */
export type Reading = { text: string; mark?: string } | "unchanged";

/** Decoded between two pauses: in `up` the picker shares this process. */
const decodedAtOnce = 1024 * 1024;
/** A file that was written to this recently may be incomplete. */
const settledMs = 1000;
/**
 * A file whose last line has no end may stay incomplete longer. The beginning of "10.0.0.1:8080" is another proxy,
 * "10.0.0.1:80".
 */
const unendedMs = 5000;

const newlines = [10, 13];

/** Called for bytes before they are kept. @throws Fault if there is no room for them. */
export type Take = (bytes: number) => void;

export type From<Kind extends Source["from"]["kind"]> = Extract<Source["from"], { kind: Kind }>;

/** Ends soon, and need not be reported. */
export class BeingWritten extends Fault {
  constructor(path: string) {
    super("retry-later", `${path} is being written`);
  }
}

/** @throws BeingWritten; Fault "fix-setup" if the file cannot be read. */
export async function readListFile(
  { path }: From<"file">,
  mark: string | undefined,
  now: number,
  take: Take = () => {},
): Promise<Reading> {
  try {
    const before = await stat(path);
    if (!before.isFile()) throw new Fault("fix-setup", `${path} is not a file`);
    if (before.size > textBytesMax) throw tooLarge(path);
    const seen = `${before.ino}/${before.size}/${before.mtimeMs}`;
    if (seen === mark) return "unchanged";
    const ageMs = now < before.mtimeMs ? Number.POSITIVE_INFINITY : now - before.mtimeMs; // A clock may be set back.
    if (ageMs < settledMs) throw new BeingWritten(path);
    take(before.size);
    const bytes = await readFile(path);
    const after = await stat(path);
    if (after.size !== before.size || after.mtimeMs !== before.mtimeMs) throw new BeingWritten(path);
    if (ageMs < unendedMs && bytes.length > 0 && !newlines.includes(bytes.at(-1) ?? 0)) throw new BeingWritten(path);
    return { text: await textOf([bytes]), mark: seen };
  } catch (error) {
    if (error instanceof Fault) throw error;
    const code = whyOf(error);
    const isNone = code === "ENOENT" || code === "ENOTDIR";
    throw new Fault("fix-setup", `${path} cannot be read (${isNone ? "there is no such file" : code})`);
  }
}

/**
 * The command's output counts only when the command ends well. A command that hangs is killed together with its
 * children. The same happens when this process is killed.
 */
export async function runCommand(
  { command, timeoutMs }: From<"command">,
  signal: AbortSignal,
  take: Take = () => {},
): Promise<Reading> {
  const [program = "", ...args] = command;
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const pieces = new Pieces();
  let noRoom: unknown;
  let endAll = (): void => {};
  try {
    const why = await new Promise<string | undefined>((resolve) => {
      const child = spawn(program, args, { detached: true, stdio: ["ignore", "pipe", "ignore"] });
      const letGo = child.pid === undefined ? () => {} : endWithUs(child.pid);
      endAll = () => {
        letGo();
        child.stdout.destroy(); // A process that has left the group may still hold the other end.
        try {
          if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL"); // Includes a shell's children.
        } catch {
          // They are already gone.
        }
      };
      child.stdout.on("data", (chunk: Buffer) => {
        if (pieces.bytes + chunk.length > textBytesMax) noRoom ??= tooLarge(program);
        try {
          if (noRoom === undefined) take(chunk.length);
        } catch (error) {
          noRoom = error;
        }
        if (noRoom === undefined) pieces.add(chunk);
        else resolve(undefined);
      });
      child.once("error", (error) => resolve(`cannot be started (${whyOf(error)})`));
      child.once("close", (code, by) =>
        resolve(code === 0 ? undefined : by === null ? `ended with ${code}` : `was ended by ${by}`),
      );
      const late = () => resolve(`did not end within ${timeoutMs} ms, and was ended`);
      limited.addEventListener("abort", late, { once: true });
      if (limited.aborted) late();
    });
    if (noRoom !== undefined) throw noRoom;
    if (why !== undefined) throw new Fault("retry-later", `${program} ${why}`);
    return { text: await textOf(pieces.all()) };
  } catch (error) {
    // A command that the system cannot start (an argument is too long) throws at once.
    if (error instanceof Fault) throw error;
    throw new Fault("fix-setup", `${program} cannot be started (${whyOf(error)})`);
  } finally {
    endAll();
  }
}

/**
 * Starts a shell that ends the group when this process ends for any reason: its `read` ends with our end of the pipe.
 * Returns a function that ends the shell.
 */
function endWithUs(group: number): () => void {
  const shell = spawn("sh", ["-c", 'read -r _; kill -s KILL -- "-$1"', "sh", String(group)], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  shell.on("error", () => {}); // Without a shell only this process can end the command.
  return () => void shell.kill("SIGKILL");
}

/** Decodes UTF-8, or UTF-16 as Windows writes it. The first two bytes tell which. */
export async function textOf(chunks: readonly Uint8Array[]): Promise<string> {
  const beginning = Buffer.concat(chunks.slice(0, 2).map((chunk) => chunk.subarray(0, 2)));
  const decoder = new TextDecoder(beginning[0] === 0xff && beginning[1] === 0xfe ? "utf-16le" : "utf-8");
  const texts: string[] = [];
  for (const chunk of chunks) {
    for (let from = 0; from < chunk.length; from += decodedAtOnce) {
      texts.push(decoder.decode(chunk.subarray(from, from + decodedAtOnce), { stream: true }));
      await immediately();
    }
  }
  texts.push(decoder.decode());
  return texts.join("");
}

export function tooLarge(name: string): Fault {
  return new Fault("fix-setup", `${name} gives more than ${textBytesMax >> 20} MB: split it into several sources`);
}

/** Why the system, or fetch, failed: a code, or the name of the error. */
export function whyOf(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return codeOf(cause) || (cause instanceof Error ? cause.name : "unknown");
}
