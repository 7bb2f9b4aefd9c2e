// One agent per proxy, for its life: connections through it stay open between leases. The number is bounded. Beyond
// `max`, the least recently used idle agent is closed. An agent that is unused for a minute is closed too.
//
// Plain http:// targets go through http and https proxies in absolute form, as curl does it, because many proxies allow
// CONNECT to port 443 alone. Everything else goes through a tunnel. A forwarding proxy's own answers look like the
// target's, except a 407 and those with `Proxy-Status: …; error=` (RFC 9209).
import { isIP } from "node:net";
import type { Dispatcher } from "undici";
import type { LeaseReply } from "../protocol/wire.ts";
import { agentOf, poolOf } from "./backpressure.ts";
import type { Route } from "./failure.ts";
import { headersOf } from "./head.ts";
import {
  connectorThrough,
  connectorTo,
  type ProxyAddress,
  proxyAuthorization,
  type RouteFilter,
  routed,
  type Tunnelling,
} from "./tunnel.ts";

const idleMs = 60_000;
/** Hosts to which an agent forwards over kept connections of their own. */
const forwardersMax = 64;

export interface AgentsOptions extends Tunnelling {
  max: number;
  headersTimeoutMs: number;
  bodyTimeoutMs: number;
  tunnelHttp: boolean;
}

export interface ProxyAgent {
  readonly proxyId: string;
  /** @param how.fresh on a new connection, which is closed afterwards. */
  send(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
    how?: { fresh: boolean },
  ): { route: Route };
}

interface Kept extends ProxyAgent {
  inFlight: number;
  usedAt: number;
  close(): Promise<void>;
}

/** The proxy of a lease. */
export type LeasedProxy = ProxyAddress & Pick<LeaseReply, "proxyId">;

/** For a single request. Each of its steps may take as long as the whole request. */
export function agentsForOne(timeoutMs: number, outbound: RouteFilter): Agents {
  const timeouts = { connectTimeoutMs: timeoutMs, headersTimeoutMs: timeoutMs, bodyTimeoutMs: timeoutMs };
  return new Agents({ ...timeouts, max: 1, tunnelHttp: false, outbound });
}

export class Agents {
  readonly #options: AgentsOptions;
  /** By proxy, the least recently used first. */
  readonly #kept = new Map<string, Kept>();
  #sweep: NodeJS.Timeout | undefined;

  constructor(options: AgentsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#kept.size;
  }

  /** Release it with `leave`. */
  enter(proxy: LeasedProxy): ProxyAgent {
    const kept = this.#kept.get(proxy.proxyId) ?? openAgent(proxy, this.#options);
    this.#kept.delete(proxy.proxyId);
    this.#kept.set(proxy.proxyId, kept);
    kept.inFlight += 1;
    for (const each of this.#kept.values()) {
      if (this.#kept.size <= this.#options.max) break;
      if (each.inFlight === 0) this.#close(each);
    }
    this.#sweep ??= setInterval(() => this.#closeIdle(), idleMs / 2).unref();
    return kept;
  }

  leave({ proxyId }: ProxyAgent): void {
    const kept = this.#kept.get(proxyId);
    if (kept === undefined) return;
    kept.inFlight -= 1;
    kept.usedAt = performance.now();
  }

  async close(): Promise<void> {
    clearInterval(this.#sweep);
    await Promise.all([...this.#kept.values()].map((each) => this.#close(each)));
  }

  #closeIdle(): void {
    const before = performance.now() - idleMs;
    for (const each of this.#kept.values()) if (each.inFlight === 0 && each.usedAt < before) this.#close(each);
    if (this.#kept.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }

  #close(kept: Kept): Promise<void> {
    this.#kept.delete(kept.proxyId);
    return kept.close().catch(() => {});
  }
}

function openAgent(proxy: LeasedProxy, options: AgentsOptions): Kept {
  const { outbound } = options;
  const timeouts = { headersTimeout: options.headersTimeoutMs, bodyTimeout: options.bodyTimeoutMs };
  const forwards = proxy.scheme === "http" || proxy.scheme === "https";
  const origin = `http://${proxy.host.includes(":") && !proxy.host.startsWith("[") ? `[${proxy.host}]` : proxy.host}:${proxy.port}`;
  const openTunnels = (): Dispatcher => agentOf({ ...timeouts, connect: connectorThrough(proxy, options) });
  const openForwarder = (hostNamed: string): Dispatcher =>
    poolOf(origin, { ...timeouts, connect: connectorTo(proxy, options, hostNamed) });
  const tunnels = openTunnels();
  /** By the host that its requests name to the proxy, where that matters: a connection is checked when it is made. */
  const forwarders = new Map<string, Dispatcher>();
  const forwarderFor = (hostNamed: string): Dispatcher => {
    const key = outbound === undefined || isIP(hostNamed) !== 0 ? "" : hostNamed;
    const known = forwarders.get(key) ?? openForwarder(hostNamed);
    forwarders.delete(key);
    forwarders.set(key, known);
    const [oldest = ""] = forwarders.keys();
    if (forwarders.size > forwardersMax) {
      void forwarders.get(oldest)?.close(); // After its requests.
      forwarders.delete(oldest);
    }
    return known;
  };
  /** For requests on a connection of their own. */
  const single = new Set<Dispatcher>();
  const alone = (opened: Dispatcher): Dispatcher => {
    single.add(opened);
    return opened;
  };
  const authorization = proxyAuthorization(proxy);
  return {
    proxyId: proxy.proxyId,
    inFlight: 0,
    usedAt: performance.now(),
    send(sent, handler, { fresh } = { fresh: false }) {
      const target = new URL(String(sent.origin));
      const dispatch = (through: Dispatcher, options: Dispatcher.DispatchOptions): void => {
        through.dispatch(options, handler);
        if (single.has(through)) void through.close().finally(() => single.delete(through)); // After this request.
      };
      if (!forwards || options.tunnelHttp || target.protocol !== "http:") {
        dispatch(fresh ? alone(openTunnels()) : tunnels, sent);
        return { route: target.protocol === "https:" ? "secure" : "tunnelled" };
      }
      const own = {
        host: target.host,
        ...(authorization === undefined ? {} : { "proxy-authorization": authorization }),
      };
      const headers = withHeaders(sent.headers, own);
      const forward = (host: string, at: string): void => {
        const through = fresh ? alone(openForwarder(host)) : forwarderFor(host);
        dispatch(through, { ...sent, origin, path: `${at}${sent.path}`, headers });
      };
      if (outbound === undefined) forward(target.hostname, target.origin);
      else
        routed(options, proxy, target.hostname).then(
          (host) => forward(host, originAt(target, host)),
          (error) => handler.onError?.(error),
        );
      return { route: "forwarded" };
    },
    close: async () => {
      await Promise.all([tunnels, ...forwarders.values(), ...single].map((each) => each.destroy()));
    },
  };
}

function originAt({ origin }: URL, host: string): string {
  const at = new URL(origin);
  at.hostname = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  return at.origin;
}

/** An existing host header stays. */
function withHeaders(headers: Dispatcher.DispatchOptions["headers"], own: Record<string, string>): string[] {
  const given = [...headersOf(headers)];
  const names = new Set(given.map(([name]) => name.toLowerCase()));
  return [...given, ...Object.entries(own).filter(([name]) => !names.has(name))].flat();
}
