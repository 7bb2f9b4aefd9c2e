// If REMUDA_ALIVE_FILE names a file, its modification time shows that this process is ready and its event loop turns. A
// container's health check reads it, for a service that listens on no port. It says nothing about other processes.
import { writeFileSync } from "node:fs";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";

const everyMs = 5000;

/** @throws Fault "fix-setup" if the file cannot be written at the start. Later failures only let it grow old. */
export function sayAlive({ aliveFile }: Config): void {
  if (aliveFile === undefined) return;
  try {
    writeFileSync(aliveFile, "");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    throw new Fault("fix-setup", `${aliveFile} cannot be written (${code}): see REMUDA_ALIVE_FILE`, { cause });
  }
  setInterval(() => {
    try {
      writeFileSync(aliveFile, "");
    } catch {
      // A health check sees that the file has grown old.
    }
  }, everyMs).unref();
}
