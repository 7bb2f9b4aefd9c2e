// The managed broker: a nats-server that lives exactly as long as this process. One store never has two. If the server
// dies alone, it is restarted on the same port. If this process dies in any way, the server is ended (see owner.ts).

import { statfs } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../fault.ts";
import { hereOf, inUrl } from "../host.ts";
import { adoptServer, runsAsConfigured } from "./adopt.ts";
import { type BrokerFiles, openFiles } from "./files.ts";
import { takeOwnership } from "./owner.ts";
import { reloadServer } from "./reload.ts";
import { type BrokerSettings, type BrokerUsers, type Server, startServer } from "./server.ts";

export type BrokerOptions = {
  readonly dataDir: string;
  readonly host: string;
  /** 0: the system chooses. The broker keeps that port for as long as it has this owner. */
  readonly port: number;
  readonly tls?: BrokerSettings["tls"];
  readonly users?: BrokerUsers;
  /** The executable, or how to find it. Called once, and only if a server must be started. */
  readonly binary: string | (() => Promise<string>);
  readonly say: (line: string) => void;
  /** A server that is not ready, and does nothing for this long, is given up. Default: 20 s. */
  readonly idleMsMax?: number;
  /** Free bytes on the disk of a path. Absent: the system is asked. */
  readonly freeBytes?: (path: string) => Promise<number>;
  /** The server died and runs again, on the same port. */
  readonly onRestart?: () => void;
  /** Either the restart failed (we keep trying), or another owner took the data directory (we stop trying). */
  readonly onFault?: (fault: Fault) => void;
};

export type Broker = {
  /** Where this machine reaches it, without a login. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** Of the server that runs now. It changes with a restart. */
  readonly pid: number;
  readonly version: string;
  readonly how: "started" | "adopted";
  /**
   * A stream that could not be written, because the disk was full, takes no messages until the server restarts.
   * Restarts it if there is room now. Resolves with whether it did, once the server has ended.
   */
  thaw(): Promise<boolean>;
  /** Settles when the server is gone and the data directory is free. May be called repeatedly. */
  stop(): Promise<void>;
};

/** With less, the next message or two would freeze the stream again. */
const roomBytesMin = 16 * 1024 ** 2;
const backoffMs = { first: 100, max: 5_000 };
/** A server that ran this long is restarted without a wait. */
const settledMs = 10_000;

export async function openBroker(options: BrokerOptions): Promise<Broker> {
  const { host, say, idleMsMax, onRestart = () => {}, onFault = () => {} } = options;
  const settings = { tls: options.tls, users: options.users };
  const files = openFiles(resolve(options.dataDir));
  const stopping = new AbortController();
  const ownership = await takeOwnership(files, (fault) => {
    // The store may have a new writer, so our server must not be restarted.
    stopping.abort();
    onFault(fault);
  });
  const { guard } = ownership;
  const { signal } = stopping;
  const findBinary = options.binary;
  let binary: string | undefined;
  const start = async (port: number) => {
    binary ??= typeof findBinary === "string" ? findBinary : await findBinary();
    return startServer({ files, binary, host, port, settings, guard, signal, say, idleMsMax });
  };

  let server: Server;
  let how: Broker["how"] = "adopted";
  try {
    const found = await adopt(files, options, settings);
    if (found === undefined) how = "started";
    else await guard(found.pid);
    server = found ?? (await start(options.port));
  } catch (error) {
    await ownership.release();
    throw error;
  }
  const { port } = server;
  const url = `${options.tls === undefined ? "nats" : "tls"}://${inUrl(hereOf(host))}:${port}`;
  say(`nats-server ${server.version} ${how}, pid ${server.pid}, at ${url}, data in ${files.store}`);

  async function keepRunning(): Promise<void> {
    let waitMs = 0;
    while (!signal.aborted) {
      const since = performance.now();
      const ended = await server.gone;
      if (signal.aborted) return;
      say(`nats-server ${server.pid} died (${ended}); starting it again`);
      await guard(0);
      if (performance.now() - since > settledMs) waitMs = 0;
      for (let back = false; !back && !signal.aborted; ) {
        await sleep(waitMs, undefined, { signal }).catch(() => {});
        waitMs = Math.min(Math.max(waitMs * 2, backoffMs.first), backoffMs.max);
        try {
          if (!signal.aborted) server = await start(port);
          back = true;
        } catch (error) {
          if (!signal.aborted) onFault(asFault(error));
        }
      }
      if (signal.aborted) return;
      say(`nats-server is back, pid ${server.pid}, at ${url}`);
      onRestart();
    }
  }
  const kept = keepRunning();

  let thawing = false;
  async function thaw(): Promise<boolean> {
    const { freeBytes = bytesFreeAt } = options;
    if (thawing || (await freeBytes(files.store)) < roomBytesMin || signal.aborted) return false;
    thawing = true;
    say("a stream was frozen, because the disk was full. There is room now, so nats-server is restarted");
    await server.end().finally(() => (thawing = false));
    return true;
  }

  let stopped: Promise<void> | undefined;
  async function stop(): Promise<void> {
    stopping.abort();
    await server.end();
    await kept;
    // A restart in progress may have started another server.
    await server.end();
    await guard(0);
    await ownership.release();
  }

  return {
    url,
    host,
    port,
    how,
    thaw,
    get pid() {
      return server.pid;
    },
    get version() {
      return server.version;
    },
    stop() {
      stopped ??= stop();
      return stopped;
    },
  };
}

async function adopt(
  files: BrokerFiles,
  { host, port, say }: BrokerOptions,
  settings: BrokerSettings,
): Promise<Server | undefined> {
  const found = await adoptServer(files, say);
  if (found === undefined) return undefined;
  const isSame = found.host === host && (port === 0 || port === found.port) && runsAsConfigured(files, found, settings);
  if (isSame) {
    // Its users may be those of an earlier start.
    await settings.users?.writeConf(files.usersConf);
    if (settings.users !== undefined) await reloadServer(files);
    return found;
  }
  say(
    `the nats-server found running (pid ${found.pid}) has other settings; ending it to start one with the current settings`,
  );
  await found.end();
  return undefined;
}

/** 0 if the system does not tell. */
async function bytesFreeAt(path: string): Promise<number> {
  const free = await statfs(path).catch(() => undefined);
  return free === undefined ? 0 : free.bavail * free.bsize;
}

function asFault(error: unknown): Fault {
  return error instanceof Fault ? error : new Fault("retry-later", `nats-server: ${error}`, { cause: error });
}
