// Makes a running server read its configuration again. Connections stay, except those of deleted users.
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../fault.ts";
import type { BrokerFiles } from "./files.ts";
import { greetingOf } from "./info.ts";
import { isAlive, readBrokerRecord } from "./record.ts";
import { chosenPort } from "./server.ts";

const startMsMax = 20_000;

/** @returns whether a server runs. */
export async function reloadServer(files: Pick<BrokerFiles, "record" | "folder">): Promise<boolean> {
  const deadline = performance.now() + startMsMax;
  for (;;) {
    const record = readBrokerRecord(files.record);
    if (record === undefined || !isAlive(record)) return false;
    const info = await greetingOf({ ...record, port: record.port || chosenPort(files, record.pid) });
    // Only a server that answers handles the signal. A server that is still starting would die of it.
    if (info !== undefined && isAlive(record)) {
      process.kill(record.pid, "SIGHUP");
      return true;
    }
    if (performance.now() > deadline)
      throw new Fault("retry-later", `the NATS server ${record.pid} does not answer, so the change has no effect yet`);
    await sleep(50);
  }
}
