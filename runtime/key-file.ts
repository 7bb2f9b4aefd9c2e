// The file of the installation's key, in the data directory. It is made once. Ledgers and sealed secrets cannot be used
// without it, so a lost one is never replaced.
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { createFile, readSecretIfThere, replaceFile } from "./files.ts";
import { type InstallationKey, keyOf } from "./secrets.ts";

export function keyFileOf(dataDir: string): string {
  return join(dataDir, "key");
}

/** Undefined if there is no such file. */
export function readKey(dataDir: string): InstallationKey | undefined {
  const path = keyFileOf(dataDir);
  const text = readSecretIfThere(path);
  return text === undefined ? undefined : keyOf(text, path);
}

/** If two processes make it at the same moment, both get the same. */
export function makeKey(dataDir: string): InstallationKey {
  const path = keyFileOf(dataDir);
  return keyOf(createFile(path, `${newSecret()}\n`), path);
}

/**
 * Adds a line that seals from now on. A rotation that was interrupted is continued with its line. Returns a function
 * that removes the lines that no secret is sealed under any more.
 */
export function addSeal(dataDir: string): { key: InstallationKey; finish: () => void } {
  const path = keyFileOf(dataDir);
  const [first = "", ...seals] = (readSecretIfThere(path) ?? "").split("\n").filter((line) => line.trim() !== "");
  const isInterrupted = seals.length > 1;
  // Without a second line, the first one has sealed until now.
  const before = seals.length === 0 ? [first] : seals;
  const all = isInterrupted ? seals : [...before, newSecret()];
  const write = (lines: readonly string[]): string => `${lines.join("\n")}\n`;
  if (!isInterrupted) replaceFile(path, write([first, ...all]));
  return {
    key: keyOf(write([first, ...all]), path),
    finish: () => replaceFile(path, write([first, ...all.slice(-1)])),
  };
}

function newSecret(): string {
  return randomBytes(32).toString("base64url");
}
