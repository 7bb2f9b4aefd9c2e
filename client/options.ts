// The options of `connect`, with every bound and default. They are read once. A mistake is a fault that names the
// option.

import type { Ca } from "../transport/tunnel.ts";
import { RemudaFault } from "./fault.ts";
import { readTokenOptions, type TokenOptions, type TokenUse } from "./token.ts";

export interface PerCall {
  pool?: string | undefined;
  signal?: AbortSignal | undefined;
}

export interface Options {
  /** `nats://…`, `tls://…` (several, separated by commas) or `http(s)://…`. The login of NATS is in the URL. */
  url?: string | undefined;
  natsUrl?: string | undefined;
  httpUrl?: string | undefined;
  /** The bearer key of HTTP. Default: REMUDA_HTTP_KEY, if REMUDA_HTTP_URL is used. */
  key?: string | undefined;
  /** Default: `default`. */
  pool?: string | undefined;
  /** Certificates (PEM) to trust besides the usual ones: of the service, of https proxies, of targets. */
  tls?: { ca?: Ca; proxyCa?: Ca; targetCa?: Ca } | undefined;
  /** The holder of the leases, shown by `leases` lists. */
  holder?: string | undefined;
  /** How long a request is retried while the service is away, in addition to its `waitMs`. Default 5 000. */
  retryMs?: number | undefined;
  fetch?: FetchOptions | undefined;
  /** How requests carry the pool's guest token. */
  token?: TokenOptions | undefined;
  /** Called for problems that fail no call: lost outcomes, a release that failed. */
  onProblem?: ((problem: Error) => void) | undefined;
  /** `close()` takes no longer than this. Default 5 000. */
  closeMs?: number | undefined;
}

export interface FetchOptions {
  /** How long a request waits for a use of a proxy. Default 30 000, at most 60 000. */
  waitMs?: number;
  /** Tries after the first, on other proxies, for idempotent requests. Default 2, at most 10. */
  retries?: number;
  /** TCP, TLS to the proxy and the tunnel through it, together. Default 10 000. */
  connectTimeoutMs?: number;
  /** From the request to the response's head. Default 30 000. */
  headersTimeoutMs?: number;
  /** Between two pieces of the body. Default 30 000. */
  bodyTimeoutMs?: number;
  /** Requests at the same time on one lease. Default 6. */
  parallelMax?: number;
  /** The largest block. Default 64. */
  usesMax?: number;
  /** Leases that this client's `fetch` holds or has requested, over all pools and requests. Default 256. */
  leasesMax?: number;
  /** Requests that wait for a use. Beyond that, the fault `queue-full` at once. Default 10 000. */
  waitingMax?: number;
  /** A lease that is idle for this long is released. Default 1 000. */
  idleMs?: number;
  /** Proxies whose connections are kept. Default 256. */
  agentsMax?: number;
  /** Send plain `http://` targets through a tunnel (CONNECT) instead of forwarding them. Default false. */
  tunnelHttp?: boolean;
}

export type FetchBounds = Required<FetchOptions>;

export interface Settings {
  transport: { kind: "nats"; url: string } | { kind: "http"; url: string; key: string | undefined };
  pool: string;
  tls: { ca?: Ca; proxyCa?: Ca; targetCa?: Ca };
  holder: string | undefined;
  retryMs: number;
  closeMs: number;
  fetch: FetchBounds;
  token: TokenUse | undefined;
  onProblem: (problem: Error) => void;
}

const fetchDefaults: FetchBounds = {
  waitMs: 30_000,
  retries: 2,
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  bodyTimeoutMs: 30_000,
  parallelMax: 6,
  usesMax: 64,
  leasesMax: 256,
  waitingMax: 10_000,
  idleMs: 1000,
  agentsMax: 256,
  tunnelHttp: false,
};
/** The minimum and maximum of each number. */
const fetchRanges: Readonly<Record<string, readonly [number, number]>> = {
  waitMs: [0, 60_000],
  retries: [0, 10],
  parallelMax: [1, 10_000],
  usesMax: [1, 100_000],
  leasesMax: [1, 100_000],
  waitingMax: [1, 1_000_000],
  agentsMax: [1, 10_000],
};
const anyDuration = [1, 3_600_000] as const;

const defaultHttpUrl = "http://127.0.0.1:7480";

type Environment = Readonly<Record<string, string | undefined>>;

/** @throws RemudaFault "wrong-options". */
export function readOptions(options: Options, env: Environment): Settings {
  const fetch = { ...fetchDefaults };
  for (const [name, value] of Object.entries(options.fetch ?? {})) {
    if (value === undefined) continue;
    if (!(name in fetchDefaults)) throw wrong(`fetch.${name}`, "is not an option");
    Object.assign(fetch, {
      [name]: name === "tunnelHttp" ? value : checked(`fetch.${name}`, value, fetchRanges[name]),
    });
  }
  return {
    transport: transportOf(options, env),
    pool: poolName(options.pool ?? "default"),
    tls: options.tls ?? {},
    holder: options.holder,
    retryMs: checked("retryMs", options.retryMs ?? 5000, [0, 600_000]),
    closeMs: checked("closeMs", options.closeMs ?? 5000),
    fetch,
    token: options.token === undefined ? undefined : readTokenOptions(options.token),
    onProblem: options.onProblem ?? (() => {}),
  };
}

/** The name becomes part of a subject and of a path. */
export function poolName(pool: unknown): string {
  if (typeof pool === "string" && /^[a-z0-9][a-z0-9-]{0,62}$/.test(pool)) return pool;
  throw wrong("pool", "must match [a-z0-9][a-z0-9-]{0,62} (lower-case letters, digits, dashes)");
}

function transportOf(options: Options, env: Environment): Settings["transport"] {
  const { url, natsUrl, httpUrl, key } = options;
  const given = [url, natsUrl, httpUrl].filter((each) => each !== undefined);
  if (given.length > 1) throw wrong("url", "give one of url, natsUrl, httpUrl");
  if (natsUrl !== undefined) return { kind: "nats", url: natsUrl };
  if (httpUrl !== undefined) return http(httpUrl, key);
  if (url !== undefined) return /^https?:/i.test(url) ? http(url, key) : { kind: "nats", url };
  const { REMUDA_NATS_URL: nats, REMUDA_HTTP_URL: overHttp, REMUDA_HTTP_KEY: envKey } = env;
  if (nats !== undefined && nats !== "") return { kind: "nats", url: nats };
  return http(overHttp || defaultHttpUrl, key ?? (envKey || undefined));
}

function http(url: string, key: string | undefined): Settings["transport"] {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw wrong("httpUrl", "is not a URL (expected http://host:port)");
  }
  if (!/^https?:$/.test(parsed.protocol)) throw wrong("httpUrl", "must begin with http:// or https://");
  if (parsed.username !== "") throw wrong("httpUrl", "contains a login; over HTTP, use a bearer key (option key)");
  if (key !== undefined && !/^[\x21-\x7e]+$/.test(key)) throw wrong("key", "must be visible ASCII without spaces");
  return { kind: "http", url: parsed.href.replace(/\/+$/, ""), key };
}

function checked(name: string, value: unknown, [least, most]: readonly [number, number] = anyDuration): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw wrong(name, `must be a whole number from ${least} to ${most}`);
}

function wrong(option: string, why: string): RemudaFault {
  return new RemudaFault("wrong-options", `${option}: ${why}.`);
}
