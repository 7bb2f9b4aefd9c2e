// Shared by the client's tests: the service of http.ts, and clients over both transports that are closed afterwards.
import { afterAll, beforeAll } from "vitest";
import { type Client, connect, type Options } from "../../client/client.ts";
import type { ProxyReply } from "../../protocol/proxy.ts";
import { type Service, sharedService } from "../api/http.ts";
import { eventually } from "../kit/poll.ts";

export interface Setting {
  readonly service: Service;
  /** Opens a pool with these proxies. */
  open(
    pool: string,
    proxies: (string | { url: string; labels?: Record<string, string> })[],
    policy?: object,
  ): Promise<void>;
  /** Closed after the file, if not before. */
  client(over: "nats" | "http", options?: Options): Promise<Client>;
  proxies(pool: string): Promise<ProxyReply[]>;
  stats(pool: string): Promise<{
    leases: { open: number; granted: number; expired: number };
    outcomes: { succeeded: number; failed: number; neutral: number; ignored: number };
    waiting: number;
  }>;
  /** Every use in the pool's ledger, as reported, once there are this many. */
  reports(pool: string, count: number): Promise<Report[]>;
}

export interface Report {
  class: string;
  n: number;
  leaseId: string;
  status?: number;
  error?: string;
  bytes?: number;
  latencyMs?: number;
  target?: string;
  retryAfterMs?: number;
}

export function setting(): Setting {
  let service: Service | undefined;
  const clients: Client[] = [];
  const started = (): Service => {
    if (service === undefined) throw new Error("the service is started before the first test");
    return service;
  };
  beforeAll(async () => {
    service = await sharedService();
  }, 150_000);
  afterAll(async () => {
    await Promise.all(clients.map((each) => each.close()));
  });
  const get = async (path: string) => (await started().call(`GET /v1/pools/${path}`)).body;
  return {
    get service() {
      return started();
    },
    async open(pool, proxies, policy = {}) {
      await started().pool(pool, [], policy);
      const { body } = await started().call(`POST /v1/pools/${pool}/proxies`, { proxies });
      if (body.added !== proxies.length) throw new Error(JSON.stringify(body));
    },
    async client(over, options = {}) {
      const { url, remuda } = started();
      const client = await connect({ url: over === "nats" ? remuda.natsUrl : url, ...options });
      clients.push(client);
      return client;
    },
    proxies: async (pool) => (await get(`${pool}/proxies`)).proxies,
    stats: (pool) => get(`${pool}/stats`),
    reports: (pool, count) =>
      eventually(async () => {
        const found = await reportsIn(`${started().url}/v1/pools/${pool}/events?from=1`, count);
        if (found.length < count) throw new Error(`${found.length} of ${count}: ${JSON.stringify(found)}`);
        return found;
      }),
  };
}

/** Reads the events until there are enough, or none has come for a moment. */
async function reportsIn(url: string, count: number): Promise<Report[]> {
  const found: Report[] = [];
  const over = new AbortController();
  const response = await fetch(url, { signal: over.signal });
  const timer = setTimeout(() => over.abort(), 500);
  let text = "";
  try {
    for await (const chunk of response.body!) {
      text += Buffer.from(chunk).toString();
      const messages = text.split("\n\n");
      text = messages.pop() ?? "";
      for (const message of messages) {
        const line = /^data: ?(.*)$/m.exec(message)?.[1];
        if (line === undefined) continue;
        const { events = [] } = JSON.parse(line) as { events?: (Report & { type: string })[] };
        found.push(...events.filter(({ type }) => type === "UseReported"));
      }
      if (found.length >= count) break;
    }
  } catch (error) {
    if (!over.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    over.abort();
  }
  return found;
}
