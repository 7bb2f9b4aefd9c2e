// The settings of a process, read once from its environment and then passed on as an argument. An empty variable counts
// as unset, because compose files write them so. An invalid value is a Fault here, at the border, and not an obscure
// failure later. Values of secret variables never enter a message.

import { isIP } from "node:net";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { Fault } from "./fault.ts";

export type Config = {
  /** Absolute. All state that must outlive the process is under it. */
  readonly dataDir: string;
  /** An external NATS. If absent, the process runs its own. */
  readonly natsUrl?: string;
  /** The users file, if it is not in the data directory. */
  readonly natsUsers?: string;
  readonly natsHost: string;
  /** 0: the system chooses. */
  readonly natsPort: number;
  readonly httpHost: string;
  readonly httpPort: number;
  /** The HTTP address, in addition to `natsUrl`, for commands that print it or connect to it. */
  readonly httpUrl?: string;
  /** Names under which other machines reach HTTP, in lower case. */
  readonly httpNames?: readonly string[];
  /** Files with the certificate and key of NATS and HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** A file with the certificates that our own connections trust. */
  readonly tlsCa?: string;
  /** A nats-server executable. If set, none is searched or fetched. */
  readonly natsServer?: string;
  readonly cacheDir: string;
  /** The file of the sources. */
  readonly sourcesFile: string;
  /** A file whose modification time shows that the process is healthy. */
  readonly aliveFile?: string;
  readonly ledgerBytesMax: number;
  /** Hosts and address blocks that our requests may reach though they are not public. */
  readonly outboundAllow: {
    readonly hosts: readonly string[];
    readonly blocks: readonly (readonly [address: string, prefix: number])[];
  };
  readonly logLevel: LogLevel;
};

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

const GiB = 1024 ** 3;

export function readConfig(env: NodeJS.ProcessEnv): Config {
  const natsUrl = readNatsUrl(env);
  const natsServer = env.REMUDA_NATS_SERVER || undefined;
  const natsUsers = env.REMUDA_NATS_USERS || undefined;
  const httpUrl = readHttpUrl(env);
  const httpNames = readNames(env);
  const aliveFile = env.REMUDA_ALIVE_FILE || undefined;
  const tls = readTlsPaths(env);
  const tlsCa = env.REMUDA_TLS_CA || tls?.cert;
  const dataDir = resolve(env.REMUDA_DATA_DIR || ".remuda");
  return {
    dataDir,
    sourcesFile: resolve(env.REMUDA_SOURCES || join(dataDir, "sources.json")),
    ...(natsUrl === undefined ? {} : { natsUrl }),
    ...(natsUsers === undefined ? {} : { natsUsers: resolve(natsUsers) }),
    natsHost: readHost(env, "REMUDA_NATS_HOST"),
    natsPort: readInteger(env, "REMUDA_NATS_PORT", { fallback: 4222, min: 0, max: 65_535 }),
    httpHost: readHost(env, "REMUDA_HTTP_HOST"),
    httpPort: readInteger(env, "REMUDA_HTTP_PORT", { fallback: 7480, min: 0, max: 65_535 }),
    ...(httpUrl === undefined ? {} : { httpUrl }),
    ...(aliveFile === undefined ? {} : { aliveFile: resolve(aliveFile) }),
    ...(httpNames.length === 0 ? {} : { httpNames }),
    ...(tls === undefined ? {} : { tls }),
    ...(tlsCa === undefined ? {} : { tlsCa: resolve(tlsCa) }),
    ...(natsServer === undefined ? {} : { natsServer: resolve(natsServer) }),
    cacheDir: resolve(env.REMUDA_CACHE_DIR || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "remuda")),
    ledgerBytesMax: readInteger(env, "REMUDA_LEDGER_BYTES_MAX", {
      fallback: 8 * GiB,
      // Below this a stream is full before its first snapshot.
      min: 1024 ** 2,
      max: Number.MAX_SAFE_INTEGER,
    }),
    outboundAllow: readOutboundAllow(env),
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
  // Digits only: Number() alone would also read "0x10", "1e3" and " 1 ".
  if (/^\d+$/.test(text) && value >= range.min && value <= range.max) return value;
  throw new Fault(
    "fix-setup",
    `${name} is ${JSON.stringify(text)} (expected a whole number from ${range.min} to ${range.max})`,
  );
}

function readHost(env: NodeJS.ProcessEnv, name: string): string {
  const host = env[name] || "127.0.0.1";
  if (isIP(host) !== 0 || /^(?![\d.]+$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(host)) return host;
  throw new Fault(
    "fix-setup",
    `${name} is ${JSON.stringify(host)} (expected an address of this machine such as 127.0.0.1, 0.0.0.0 for all, or a host name)`,
  );
}

function readNames(env: NodeJS.ProcessEnv): string[] {
  const names = (env.REMUDA_HTTP_NAMES ?? "").split(",").map((name) => name.trim().toLowerCase());
  for (const name of names) {
    if (/^[a-z0-9._-]*$/.test(name)) continue;
    throw new Fault(
      "fix-setup",
      `REMUDA_HTTP_NAMES has ${JSON.stringify(name)} (expected host names without ports, parted by commas)`,
    );
  }
  return names.filter((name) => name !== "");
}

function readOutboundAllow(env: NodeJS.ProcessEnv): Config["outboundAllow"] {
  const hosts: string[] = [];
  const blocks: [string, number][] = [];
  const entries = (env.REMUDA_OUTBOUND_ALLOW ?? "").split(/[\s,]+/).filter((entry) => entry !== "");
  for (const entry of entries) {
    const [, address = "", prefix] = /^([\da-f.:]+)(?:\/(\d{1,3}))?$/i.exec(entry) ?? [];
    const bits = isIP(address) === 4 ? 32 : 128;
    if (isIP(address) !== 0 && Number(prefix ?? bits) <= bits) blocks.push([address, Number(prefix ?? bits)]);
    else if (/^(?:\*\.)?(?![\d.]+$)[a-z\d][a-z\d.-]*$/i.test(entry)) hosts.push(entry.toLowerCase());
    else {
      throw new Fault(
        "fix-setup",
        `REMUDA_OUTBOUND_ALLOW has ${JSON.stringify(entry)} (expected hosts and address blocks, such as *.example.com,10.0.0.0/8)`,
      );
    }
  }
  return { hosts, blocks };
}

function readTlsPaths(env: NodeJS.ProcessEnv): { cert: string; key: string } | undefined {
  const { REMUDA_TLS_CERT: cert = "", REMUDA_TLS_KEY: key = "" } = env;
  if (cert === "" && key === "") return undefined;
  if (cert !== "" && key !== "") return { cert: resolve(cert), key: resolve(key) };
  const [there, missing] = cert === "" ? ["REMUDA_TLS_KEY", "REMUDA_TLS_CERT"] : ["REMUDA_TLS_CERT", "REMUDA_TLS_KEY"];
  throw new Fault("fix-setup", `${there} is set and ${missing} is not (expected both, or neither)`);
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

function readHttpUrl(env: NodeJS.ProcessEnv): string | undefined {
  const text = env.REMUDA_HTTP_URL || undefined;
  if (text === undefined) return undefined;
  const url = URL.parse(text);
  if (url !== null && ["http:", "https:"].includes(url.protocol)) return text.replace(/\/+$/, "");
  const shown = JSON.stringify(text.replace(/[^/]*@/, "***@")); // The user part may hold a password.
  throw new Fault("fix-setup", `REMUDA_HTTP_URL is ${shown} (expected http://host:port)`);
}

function readLogLevel(env: NodeJS.ProcessEnv): LogLevel {
  const text = env.REMUDA_LOG_LEVEL || "warn";
  const level = logLevels.find((one) => one === text);
  if (level !== undefined) return level;
  throw new Fault("fix-setup", `REMUDA_LOG_LEVEL is ${JSON.stringify(text)} (expected one of ${logLevels.join(", ")})`);
}
