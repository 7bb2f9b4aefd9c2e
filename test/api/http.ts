// The service over HTTP, as a client without a library uses it. It sends only what a test names, without a default
// content type, and returns the reply unchanged.
import { mkdtemp, rm } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type Environment, type RemudaProcess, startRemuda } from "../kit/process.ts";

export type Headers = Record<string, string>;

/** The body of a reply. The tests expect the fields of the protocol. */
// biome-ignore lint/suspicious/noExplicitAny: each test knows which reply it reads
export type Json = any;

export interface Reply {
  status: number;
  headers: IncomingMessage["headers"];
  text: string;
  /** Undefined if it is not JSON. */
  body: Json;
}

export type Call = (line: string, body?: string | Uint8Array | object, headers?: Headers) => Promise<Reply>;

/** `call("POST /v1/pools", body)`; an object is sent as JSON. */
export function callerOf(url: string): Call {
  return async (line, body, headers = {}) => {
    const [method = "GET", path = "/"] = line.split(" ");
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request(`${url}${path}`, { method, headers, agent: false }, resolve).on("error", reject);
      if (body === undefined) sent.end();
      else sent.end(typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body));
    });
    const content = await text(response);
    return { status: response.statusCode ?? 0, headers: response.headers, text: content, body: jsonIn(content) };
  };
}

function jsonIn(content: string): Json {
  try {
    return JSON.parse(content);
  } catch {
    return undefined;
  }
}

export interface Service {
  url: string;
  call: Call;
  remuda: RemudaProcess;
  dataDir: string;
  /** Opens a separate pool for a test, with these proxies. Returns its path. */
  pool(name: string, lines?: string[], policy?: object): Promise<string>;
  stop(): Promise<void>;
}

let shared: Promise<Service> | undefined;
const taken = new Set<string>();

/**
 * A service that other files use as well: each test has its own pools in it, under names that no other file has. It
 * ends with the test process, and `stop` does nothing.
 */
export async function sharedService(): Promise<Service> {
  shared ??= startService({}, { isShared: true });
  const service = await shared;
  return {
    ...service,
    pool(name, ...more) {
      if (taken.has(name)) throw new Error(`another test has the pool ${name}`);
      taken.add(name);
      return service.pool(name, ...more);
    },
    stop: async () => {},
  };
}

/** A service of its own, for a file that needs other settings, ends it, or counts things of the whole service. */
export async function startService(env: Environment = {}, { isShared = false } = {}): Promise<Service> {
  const dataDir = await mkdtemp(join(tmpdir(), "api-test-"));
  const remove = (): Promise<void> => rm(dataDir, { recursive: true, force: true });
  const remuda = await startRemuda({ dataDir, env, isShared }).catch(async (error: unknown) => {
    await remove();
    throw error;
  });
  const { httpUrl } = remuda;
  if (httpUrl === undefined) throw new Error(`no http:// URL in the ready line: ${remuda.readyLine}`);
  const call = callerOf(httpUrl);
  return {
    url: httpUrl,
    call,
    remuda,
    dataDir,
    async pool(name, lines = [], policy = {}) {
      const path = `/v1/pools/${name}`;
      const opened = await call(`PUT ${path}`, { policy });
      if (opened.status !== 200) throw new Error(opened.text);
      if (lines.length > 0) await call(`POST ${path}/proxies`, lines);
      return path;
    },
    async stop() {
      await remuda.stop();
      await remove();
    },
  };
}

/** This many lines of addresses reserved for documentation and tests. */
export function lines(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}:8080`);
}
