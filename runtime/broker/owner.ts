// One owner per data directory. A small shell process, the watchdog, holds the kernel's lock for the owner (see
// lock.ts). When the owner dies in any way, the watchdog ends the broker, waits until it is gone, and exits, which
// frees the lock. So the broker outlives its owner only briefly, and no process can take the directory while the old
// broker still writes.

import type { ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../fault.ts";
import { releaseLock, takeLock } from "../lock.ts";
import type { BrokerFiles } from "./files.ts";
import { birthOf, isAlive, readBrokerRecord, readProcessRecord, writeRecord } from "./record.ts";

/** The watchdog of a dead owner needs up to 5 s if the broker ignores its SIGTERM. */
const waitMsMax = 10_000;

// $1 is the broker's lock file. While it is locked the broker lives, even if its pid is a zombie that is never reaped.
// SIGKILL comes after 5 s, and after 30 s the watchdog gives up.
const watchdogScript = `
trap "" INT TERM HUP
echo held
broker=0
while read -r pid; do broker=$pid; done
[ "$broker" -gt 0 ] || exit 0
kill -TERM "$broker" 2>/dev/null
flock --wait 5 --conflict-exit-code 75 "$1" true
[ $? -eq 75 ] || exit 0
kill -KILL "$broker" 2>/dev/null
flock --wait 25 "$1" true
`;

/**
 * Throws a Fault "in-use" if another process owns the directory. `onLost` is called when ownership passes to another.
 */
export async function takeOwnership(files: BrokerFiles, onLost: (fault: Fault) => void) {
  let watchdog = await startWatchdog(files);
  let brokerPid = 0;
  let released = false;
  writeRecord(files.ownerRecord, { pid: process.pid, birth: birthOf(process.pid) ?? "" });

  const tell = () =>
    new Promise<void>((told) => {
      watchdog.stdin?.write(`${brokerPid}\n`, () => told());
    });
  const keepWatch = () =>
    watchdog.once("exit", async () => {
      if (released) return;
      // The watchdog alone was killed. Our record is still there, so no other process has taken the directory
      // meanwhile.
      try {
        watchdog = await startWatchdog(files, { isOwner: true });
        keepWatch();
        await (released ? releaseLock(watchdog) : tell());
      } catch (error) {
        onLost(error instanceof Fault ? error : new Fault("in-use", `the lock of ${files.dataDir} is lost: ${error}`));
      }
    });
  keepWatch();

  return {
    /** Tells the watchdog which process to end if this process dies. 0: none. */
    async guard(pid: number): Promise<void> {
      brokerPid = pid;
      await tell();
    },
    async release(): Promise<void> {
      if (released) return;
      released = true;
      // If ownership was lost, the record is the new owner's.
      if (readProcessRecord(files.ownerRecord)?.pid === process.pid) rmSync(files.ownerRecord, { force: true });
      await releaseLock(watchdog);
    },
  };
}

async function startWatchdog(files: BrokerFiles, { isOwner = false } = {}): Promise<ChildProcess> {
  const deadline = performance.now() + waitMsMax;
  for (;;) {
    const watchdog = await takeLock(files.ownerLock, { script: [watchdogScript, "watchdog", files.lock] });
    const recorded = isOwner ? undefined : readProcessRecord(files.ownerRecord);
    const living = recorded !== undefined && isAlive(recorded) ? recorded : undefined;
    if (watchdog !== undefined && living === undefined) return watchdog;
    if (watchdog !== undefined) await releaseLock(watchdog);
    if (living !== undefined) throw inUse(files, `process ${living.pid}`);
    if (performance.now() > deadline) throw inUse(files, "a process that is not visible from here");
    // The lock is held, but its owner is dead or not yet recorded: it is ending, or just starting.
    await sleep(50);
  }
}

function inUse(files: BrokerFiles, owner: string): Fault {
  const broker = readBrokerRecord(files.record);
  const where =
    broker === undefined || broker.port === 0 ? "" : `, its NATS is at nats://${broker.host}:${broker.port}`;
  return new Fault(
    "in-use",
    `the data directory ${files.dataDir} belongs to ${owner}${where}; ` +
      "stop that process, or set REMUDA_DATA_DIR to another directory",
  );
}
