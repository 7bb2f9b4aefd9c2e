// A broker that has lost its owner and its watchdog may still run on the store. It is adopted; a second one is never
// started. The kernel's lock tells whether a broker runs. The record tells which process it may be. The broker's own
// greeting proves it.
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../fault.ts";
import { releaseLock, takeLock } from "../lock.ts";
import { type BrokerFiles, confText } from "./files.ts";
import { greetingOf } from "./info.ts";
import { type BrokerRecord, isAlive, readBrokerRecord, writeRecord } from "./record.ts";
import { Recovery, type Work, workOf } from "./recovery.ts";
import { type BrokerSettings, chosenPort, endProcess, type Server } from "./server.ts";

/** How long to wait for a broker that is starting or ending, and does nothing. */
const idleMsMax = 5_000;
const watchMs = 100;

/** The broker that runs on this store, or undefined if none runs. The caller must own the directory. */
export async function adoptServer(files: BrokerFiles, say: (line: string) => void): Promise<Server | undefined> {
  const recovery = new Recovery(idleMsMax, performance.now());
  while (await isLocked(files.lock)) {
    const server = await verify(files);
    if (server !== undefined) return server;
    const look = recovery.look(workOfRecorded(files), performance.now());
    if (look.say !== undefined) say(look.say);
    if (look.isOver) {
      const pid = readBrokerRecord(files.record)?.pid;
      throw new Fault(
        "in-use",
        `a process${pid === undefined ? "" : ` (${pid}, as recorded)`} holds ${files.lock}, but does not answer as the ` +
          `broker of this store; find it with "fuser ${files.lock}", stop it, and start again`,
      );
    }
    await sleep(watchMs);
  }
  return undefined;
}

/** Whether the server runs with the settings that we would give it. The port may differ. */
export function runsAsConfigured(files: BrokerFiles, server: Server, { tls, users }: BrokerSettings): boolean {
  const { host } = server;
  const hasUsers = users !== undefined;
  const actual = existsSync(files.conf) ? readFileSync(files.conf, "utf8") : "";
  return [server.port, 0].some((port) => actual === confText(files, { host, port, tls, hasUsers }));
}

function workOfRecorded(files: BrokerFiles): Work {
  const record = readBrokerRecord(files.record);
  return record !== undefined && isAlive(record) ? workOf(record.pid) : { cpuMs: 0, bytes: 0 };
}

async function verify(files: BrokerFiles): Promise<Server | undefined> {
  const record = readBrokerRecord(files.record);
  if (record === undefined || !isAlive(record)) return undefined;
  const { pid, host } = record;
  const port = record.port || chosenPort(files, pid);
  const info = await greetingOf({ host, port, serverName: files.serverName });
  if (port === undefined || info === undefined || !info.jetstream) return undefined;
  writeRecord(files.record, { ...record, port });
  const gone = untilGone(record);
  const end = () => endProcess((signal) => kill(record, signal), gone);
  return { pid, host, port, version: info.version, gone, end };
}

/** The server is not our child process, so no exit event arrives. We poll. */
async function untilGone(record: BrokerRecord): Promise<string> {
  while (isAlive(record)) await sleep(watchMs);
  return "another process started it, so the reason is unknown";
}

function kill(record: BrokerRecord, signal: NodeJS.Signals): void {
  // The pid may belong to another process by now.
  if (isAlive(record)) process.kill(record.pid, signal);
}

async function isLocked(path: string): Promise<boolean> {
  const holder = await takeLock(path);
  if (holder !== undefined) await releaseLock(holder);
  return holder === undefined;
}
