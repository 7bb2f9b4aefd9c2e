// The settings of a process, read once from its environment and then passed on as an argument. An empty variable counts
// as unset (compose files write them so). A value that cannot be right is a Fault here, at the border, and not a riddle
// later. Values of secret variables never enter a message.

import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { Fault } from "./fault.ts";

export type Config = {
  /** Absolute. Everything that must outlive the process is under it. */
  readonly dataDir: string;
  /** A NATS that somebody else runs; without it the process runs its own. */
  readonly natsUrl?: string;
  readonly natsHost: string;
  /** 0: the system chooses. */
  readonly natsPort: number;
  readonly httpHost: string;
  readonly httpPort: number;
  /** A nats-server executable, instead of the one that would be found or fetched. */
  readonly natsServer?: string;
  readonly cacheDir: string;
  readonly ledgerBytesMax: number;
  readonly logLevel: LogLevel;
};

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

const GiB = 1024 ** 3;

export function readConfig(env: NodeJS.ProcessEnv): Config {
  const natsUrl = readNatsUrl(env);
  const natsServer = env.REMUDA_NATS_SERVER || undefined;
  return {
    dataDir: resolve(env.REMUDA_DATA_DIR || ".remuda"),
    ...(natsUrl === undefined ? {} : { natsUrl }),
    natsHost: readNatsHost(env),
    natsPort: readInteger(env, "REMUDA_NATS_PORT", { fallback: 4222, min: 0, max: 65_535 }),
    httpHost: env.REMUDA_HTTP_HOST || "127.0.0.1",
    httpPort: readInteger(env, "REMUDA_HTTP_PORT", { fallback: 7480, min: 0, max: 65_535 }),
    ...(natsServer === undefined ? {} : { natsServer: resolve(natsServer) }),
    cacheDir: resolve(env.REMUDA_CACHE_DIR || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "remuda")),
    ledgerBytesMax: readInteger(env, "REMUDA_LEDGER_BYTES_MAX", {
      fallback: 8 * GiB,
      // Below this a stream is full before its first snapshot.
      min: 1024 ** 2,
      max: Number.MAX_SAFE_INTEGER,
    }),
    logLevel: readLogLevel(env),
  };
}

function readInteger(
  env: NodeJS.ProcessEnv,
  name: string,
  range: { readonly fallback: number; readonly min: number; readonly max: number },
): number {
  const text = env[name];
  if (text === undefined || text === "") return range.fallback;
  const value = Number(text);
  // Digits only: Number() alone would read "0x10", "1e3" and " 1 " as well.
  if (/^\d+$/.test(text) && value >= range.min && value <= range.max) return value;
  throw new Fault(
    "fix-setup",
    `${name} is ${JSON.stringify(text)} (expected a whole number from ${range.min} to ${range.max})`,
  );
}

function readNatsHost(env: NodeJS.ProcessEnv): string {
  const host = env.REMUDA_NATS_HOST || "127.0.0.1";
  if (host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host)) return host;
  throw new Fault(
    "fix-setup",
    `REMUDA_NATS_HOST is ${JSON.stringify(host)} (expected a loopback address such as 127.0.0.1): the managed NATS has no ` +
      "credentials yet, so it listens on loopback only; for other machines run NATS yourself and set REMUDA_NATS_URL",
  );
}

function readNatsUrl(env: NodeJS.ProcessEnv): string | undefined {
  const text = env.REMUDA_NATS_URL || undefined;
  for (const part of text?.split(",") ?? []) {
    const withScheme = part.includes("://") ? part : `nats://${part}`;
    const url = URL.parse(withScheme);
    if (url !== null && url.hostname !== "" && ["nats:", "tls:"].includes(url.protocol)) continue;
    // The user part may hold a password.
    const shown = JSON.stringify(part.replace(/[^/]*@/, "***@"));
    throw new Fault("fix-setup", `REMUDA_NATS_URL has ${shown} (expected nats://host:port or tls://host:port)`);
  }
  return text;
}

function readLogLevel(env: NodeJS.ProcessEnv): LogLevel {
  const text = env.REMUDA_LOG_LEVEL || "warn";
  const level = logLevels.find((one) => one === text);
  if (level !== undefined) return level;
  throw new Fault("fix-setup", `REMUDA_LOG_LEVEL is ${JSON.stringify(text)} (expected one of ${logLevels.join(", ")})`);
}
