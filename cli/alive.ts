// Where REMUDA_ALIVE_FILE names a file, its time says that this process is ready and its event loop turns: what a
// container's health check looks at, for a service that listens on no port. It says nothing of others.
import { writeFileSync } from "node:fs";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";

const everyMs = 5000;

/** @throws Fault "fix-setup" where the file cannot be written; later it just grows old. */
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
      // Whoever looks at it sees that it has grown old.
    }
  }, everyMs).unref();
}
