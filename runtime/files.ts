// Files that only their owner may read. Each appears whole: a reader finds the old content or the new one, never half.
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { codeOf, Fault, resultOr } from "./fault.ts";
import { isOnReadOnlyMount } from "./mounts.ts";
import { shellQuoted } from "./text.ts";

/** Undefined if there is no such file. @throws Fault "fix-setup" if it cannot be read. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined;
    throw new Fault("fix-setup", `${path} cannot be read (${codeOf(cause)})`, { cause });
  }
}

/** The same for a file with secrets. Also throws Fault "fix-setup" if other users of this machine may read it. */
export function readSecretIfThere(path: string): string | undefined {
  const text = readIfThere(path);
  if (text !== undefined) refuseOpenFile(path);
  return text;
}

/**
 * @throws Fault "fix-setup" if other users of this machine may read or change the file. A file on a read-only mount,
 * such as a container's secret, is accepted: its mode cannot be changed from here.
 */
export function refuseOpenFile(path: string): void {
  const mode = statSync(path).mode & 0o777;
  // On systems other than Unix the mode says nothing.
  if (process.getuid === undefined || (mode & 0o077) === 0 || isOnReadOnlyMount(realpathSync(path))) return;
  const shown = mode.toString(8).padStart(4, "0");
  throw new Fault(
    "fix-setup",
    `${path}: other users of this machine may read or change it (mode ${shown}), and it holds secrets. ` +
      `Run: chmod 600 ${shellQuoted(path)}`,
  );
}

/** Writes the file, and its folder if there is none. @throws Fault "fix-setup". */
export function replaceFile(path: string, text: string): void {
  putInPlace(path, text, renameSync);
}

/**
 * Writes the file unless there is one. Returns the content that it has now: two processes that start at the same moment
 * must agree. @throws Fault "fix-setup".
 */
export function createFile(path: string, text: string): string {
  putInPlace(path, text, (aside) => {
    try {
      linkSync(aside, path); // Only the first link succeeds.
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
    }
  });
  return readIfThere(path) ?? text;
}

function putInPlace(path: string, text: string, put: (aside: string, path: string) => void): void {
  const aside = `${path}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(aside, text, { mode: 0o600, flush: true }); // A name must not reach the disk before its content.
    put(aside, path);
    flushFolder(dirname(path)); // After a power cut the name must not lead to the old content.
  } catch (cause) {
    throw new Fault("fix-setup", `${path} cannot be written (${codeOf(cause)})`, { cause });
  } finally {
    resultOr(() => rmSync(aside, { force: true }), undefined); // The folder may not exist either.
  }
}

function flushFolder(path: string): void {
  if (process.platform === "win32") return; // It has no such call.
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
