// The file in REMUDA_ALIVE_FILE is touched every few seconds. So the health check of a container sees that this process
// is ready and its event loop turns, even if the service listens on no port.
import { writeFileSync } from "node:fs";
import type { Config } from "../runtime/config.ts";
import { cannotWrite, Fault, resultOr } from "../runtime/fault.ts";

const everyMs = 5000;

/** @throws Fault "fix-setup" if the file cannot be written at the start. */
export function sayAlive({ aliveFile }: Config): void {
  if (aliveFile === undefined) return;
  try {
    writeFileSync(aliveFile, "");
  } catch (cause) {
    throw new Fault("fix-setup", `${cannotWrite(aliveFile, cause).message} REMUDA_ALIVE_FILE names it.`, { cause });
  }
  setInterval(() => {
    // If it fails, the health check sees that the file has grown old.
    resultOr(() => writeFileSync(aliveFile, ""), undefined);
  }, everyMs).unref();
}
