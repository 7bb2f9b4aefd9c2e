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
  readonly natsUrl?: string | undefined;
  /** The users file, if it is not in the data directory. */
  readonly natsUsers?: string | undefined;
  readonly natsHost: string;
  /** 0: the system chooses. */
  readonly natsPort: number;
  readonly httpHost: string;
  readonly httpPort: number;
  readonly gatewayHost: string;
  readonly gatewayPort: number;
  /** The pseudonym that the gateway names in `Via`. Absent: it adds none. */
  readonly gatewayVia?: string | undefined;
  /** The HTTP address, in addition to `natsUrl`, for commands that print it or connect to it. */
  readonly httpUrl?: string | undefined;
  /** Names under which other machines reach HTTP, in lower case. */
  readonly httpNames?: readonly string[] | undefined;
  /** HTTP asks for keys on loopback, too. */
  readonly httpKeys?: "always" | undefined;
  /** Files with the certificate and key of NATS and HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** A file with the certificates that our own connections trust. */
  readonly tlsCa?: string | undefined;
  /** A nats-server executable. If set, none is searched or fetched. */
  readonly natsServer?: string | undefined;
  readonly cacheDir: string;
  /** The file of the sources. */
  readonly sourcesFile: string;
  /** A file whose modification time shows that the process is healthy. */
  readonly aliveFile?: string | undefined;
  readonly ledgerBytesMax: number;
  /** How many servers of a cluster keep each stream. Absent: three. */
  readonly replicas?: number | undefined;
  /** The part of ledgers that the stream keeps. Older commits are in the archive. */
  readonly ledgerKeepBytes: number;
  readonly ledgerKeepDays: number;
  /** A folder. */
  readonly archive: string;
  /** How long it keeps commits. Absent: for ever. */
  readonly archiveKeepDays?: number | undefined;
  /** The most pools that may have a ledger, closed ones included. */
  readonly poolsMax: number;
  /** The most proxies of one pool, retired ones included. */
  readonly proxiesMax: number;
  /** Hosts and address blocks that our requests may reach though they are not public. */
  readonly outboundAllow: {
    readonly hosts: readonly string[];
    readonly blocks: readonly (readonly [address: string, prefix: number])[];
  };
  readonly logLevel: LogLevel;
};

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
type LogLevel = (typeof logLevels)[number];

const GiB = 1024 ** 3;

export function readConfig(env: NodeJS.ProcessEnv): Config {
  const pathIn = (name: string): string | undefined => (env[name] ? resolve(env[name]) : undefined);
  const tls = readTlsPaths(env);
  const dataDir = pathIn("REMUDA_DATA_DIR") ?? resolve(".remuda");
  return {
    dataDir,
    sourcesFile: pathIn("REMUDA_SOURCES") ?? join(dataDir, "sources.json"),
    natsUrl: readNatsUrl(env),
    natsUsers: pathIn("REMUDA_NATS_USERS"),
    natsHost: readHost(env, "REMUDA_NATS_HOST"),
    natsPort: readInteger(env, "REMUDA_NATS_PORT", { fallback: 4222, min: 0, max: 65_535 }),
    httpHost: readHost(env, "REMUDA_HTTP_HOST"),
    httpPort: readInteger(env, "REMUDA_HTTP_PORT", { fallback: 7480, min: 0, max: 65_535 }),
    gatewayHost: readHost(env, "REMUDA_GATEWAY_HOST"),
    gatewayPort: readGatewayPort(env),
    gatewayVia: readVia(env),
    httpUrl: readHttpUrl(env),
    aliveFile: pathIn("REMUDA_ALIVE_FILE"),
    httpNames: readNames(env),
    httpKeys: readHttpKeys(env),
    tls,
    tlsCa: pathIn("REMUDA_TLS_CA") ?? tls?.cert,
    natsServer: pathIn("REMUDA_NATS_SERVER"),
    cacheDir: pathIn("REMUDA_CACHE_DIR") ?? resolve(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "remuda"),
    ledgerBytesMax: readInteger(env, "REMUDA_LEDGER_BYTES_MAX", {
      fallback: 8 * GiB,
      // Below this a stream is full before its first snapshot.
      min: 1024 ** 2,
      max: Number.MAX_SAFE_INTEGER,
    }),
    replicas: env.REMUDA_REPLICAS ? readInteger(env, "REMUDA_REPLICAS", { fallback: 3, min: 1, max: 5 }) : undefined,
    ledgerKeepBytes: readInteger(env, "REMUDA_LEDGER_KEEP_BYTES", {
      fallback: GiB,
      min: 1024 ** 2,
      max: Number.MAX_SAFE_INTEGER,
    }),
    ledgerKeepDays: readInteger(env, "REMUDA_LEDGER_KEEP_DAYS", { fallback: 7, min: 1, max: 36_500 }),
    archive: pathIn("REMUDA_ARCHIVE_DIR") ?? join(dataDir, "archive"),
    archiveKeepDays: env.REMUDA_ARCHIVE_KEEP_DAYS
      ? readInteger(env, "REMUDA_ARCHIVE_KEEP_DAYS", { fallback: 0, min: 1, max: 36_500 })
      : undefined,
    poolsMax: readInteger(env, "REMUDA_POOLS_MAX", { fallback: 5000, min: 1, max: 100_000 }),
    // A proxy takes about 1 kB of the picker's memory.
    proxiesMax: readInteger(env, "REMUDA_PROXIES_MAX", { fallback: 1_000_000, min: 1, max: 100_000_000 }),
    outboundAllow: readOutboundAllow(env),
    logLevel: readLogLevel(env),
  };
}

function wrong(name: string, value: string, expected: string): Fault {
  return new Fault("fix-setup", `${name} is ${JSON.stringify(value)} (expected ${expected})`);
}

/** The user part may hold a password. */
function withoutLogin(url: string): string {
  return url.replace(/[^/]*@/, "***@");
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
  throw wrong(name, text, `a whole number from ${range.min} to ${range.max}`);
}

function readHost(env: NodeJS.ProcessEnv, name: string): string {
  const host = env[name] || "127.0.0.1";
  if (isIP(host) !== 0 || /^(?![\d.]+$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(host)) return host;
  throw wrong(name, host, "an address of this machine such as 127.0.0.1, 0.0.0.0 for all, or a host name");
}

/** A process whose HTTP port the system chooses is one of several on this machine. */
function readGatewayPort(env: NodeJS.ProcessEnv): number {
  const fallback = env.REMUDA_HTTP_PORT === "0" ? 0 : 7481;
  return readInteger(env, "REMUDA_GATEWAY_PORT", { fallback, min: 0, max: 65_535 });
}

function readVia(env: NodeJS.ProcessEnv): string | undefined {
  const text = env.REMUDA_GATEWAY_VIA || undefined;
  if (text === undefined || /^[\w.-]{1,64}$/.test(text)) return text;
  throw wrong("REMUDA_GATEWAY_VIA", text, "a name of letters, digits, _ . -, such as remuda");
}

function readHttpKeys(env: NodeJS.ProcessEnv): "always" | undefined {
  const text = env.REMUDA_HTTP_KEYS || undefined;
  if (text === undefined || text === "always") return text;
  throw wrong("REMUDA_HTTP_KEYS", text, "always, or nothing: then loopback needs no key");
}

function readNames(env: NodeJS.ProcessEnv): string[] | undefined {
  const names = (env.REMUDA_HTTP_NAMES ?? "").split(",").map((name) => name.trim().toLowerCase());
  const bad = names.find((name) => !/^[a-z0-9._-]*$/.test(name));
  if (bad !== undefined) throw wrong("REMUDA_HTTP_NAMES", bad, "host names without ports, separated by commas");
  const given = names.filter((name) => name !== "");
  return given.length === 0 ? undefined : given;
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
    throw wrong("REMUDA_NATS_URL", withoutLogin(part), "nats://host:port or tls://host:port");
  }
  return text;
}

function readHttpUrl(env: NodeJS.ProcessEnv): string | undefined {
  const text = env.REMUDA_HTTP_URL || undefined;
  if (text === undefined) return undefined;
  const url = URL.parse(text);
  if (url !== null && ["http:", "https:"].includes(url.protocol)) return text.replace(/\/+$/, "");
  throw wrong("REMUDA_HTTP_URL", withoutLogin(text), "http://host:port");
}

function readLogLevel(env: NodeJS.ProcessEnv): LogLevel {
  const text = env.REMUDA_LOG_LEVEL || "warn";
  const level = logLevels.find((each) => each === text);
  if (level !== undefined) return level;
  throw wrong("REMUDA_LOG_LEVEL", text, `one of ${logLevels.join(", ")}`);
}
