// Writes a file that appears under its name only when it is whole. Only its owner can read it.
import { existsSync, statSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { cannotWrite, Fault } from "./fault.ts";

/**
 * @param write gets the file, and the name that the file has until it is whole.
 * @throws Fault "fix-setup" if the file cannot be written, and whatever `write` throws.
 */
export async function writeWhole<T>(path: string, write: (file: FileHandle, part: string) => Promise<T>): Promise<T> {
  if (existsSync(path) && !statSync(path).isFile()) throw new Fault("fix-setup", `${path} is not a file. Name a file.`);
  const part = `${path}.part`;
  let file: FileHandle | undefined;
  try {
    await rm(part, { force: true });
    file = await open(part, "wx", 0o600);
    const result = await write(file, part);
    await file.sync();
    await rename(part, path);
    return result;
  } catch (error) {
    await rm(part, { force: true }).catch(() => {});
    const isOfSystem = error instanceof Error && "syscall" in error && !(error instanceof Fault);
    throw isOfSystem ? cannotWrite(path, error) : error;
  } finally {
    await file?.close();
  }
}
