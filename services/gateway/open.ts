// Opens a tunnel to the target through a leased proxy. If it fails, another proxy is tried. Each try has its own lease
// and its own outcome. The target is never dialled without a proxy.
import type { Socket } from "node:net";
import type { Use } from "../../client/block.ts";
import { outcomeOf } from "../../transport/classify.ts";
import { connectorThrough, type ProxyAddress, type Tunnelling } from "../../transport/tunnel.ts";
import { verdictOf } from "../../transport/verdict.ts";
import type { Target } from "./address.ts";
import { throughPool } from "./forward.ts";
import type { Inside } from "./inside.ts";
import type { GatewayPorts, Routed } from "./ports.ts";

export interface Opened {
  use: Use;
  socket: Socket;
  /** `performance.now()` */
  startedAt: number;
}

/** @param signal the client has left. @throws the last try's error; errors of leasing. */
export async function open(ports: GatewayPorts, routed: Routed, signal: AbortSignal): Promise<Opened> {
  const { leasing, target, kind } = routed;
  const { take, tries } = throughPool(ports, routed);
  const avoid = new Set<string>();
  for (let left = tries, earlier: unknown; ; left -= 1) {
    let use: Use;
    try {
      use = await take(avoid, signal);
    } catch (error) {
      throw earlier ?? error;
    }
    const startedAt = performance.now();
    const { leaseId, proxyId } = use.block.lease;
    const counted = kind === "connect" || kind === "socks5" ? "tunnel" : "request";
    const isLeft = { leaseId, n: use.n, target: target.host, reason: "client-abort", counted } as const;
    let socket: Socket;
    try {
      socket = await dial(use.block.lease, ports.tunnelling, {
        ...target,
        isSecure: kind === "reverse" && target.scheme === "https",
      });
    } catch (error) {
      const failure = error as Error; // Only Errors are thrown there.
      const latencyMs = performance.now() - startedAt;
      const about = { leaseId, n: use.n, target: target.host, route: "tunnelled", bytes: 0, latencyMs } as const;
      void leasing.ended(use, signal.aborted ? isLeft : { ...outcomeOf({ ...about, error: failure }), counted });
      const { next } = verdictOf(failure, { route: "tunnelled", headed: false });
      if (signal.aborted || next !== "another" || left <= 0) throw error;
      earlier = error;
      avoid.add(proxyId);
      continue;
    }
    ports.metrics.connected(performance.now() - startedAt);
    if (!signal.aborted) return { use, socket, startedAt };
    socket.destroy();
    void leasing.ended(use, isLeft);
    throw signal.reason;
  }
}

/** Through the proxy of a tunnel, whose requests are seen. */
export async function openInside(
  { routed, through }: Inside,
  ports: GatewayPorts,
  signal: AbortSignal,
): Promise<Opened> {
  const use = await through.take(new Set(), signal);
  const startedAt = performance.now();
  try {
    const socket = await dial(use.block.lease, ports.tunnelling, { ...routed.target, isSecure: false });
    return { use, socket, startedAt };
  } catch (error) {
    const about = { leaseId: use.block.lease.leaseId, n: use.n, target: routed.target.host } as const;
    const ended = { ...about, route: "tunnelled", bytes: 0, latencyMs: performance.now() - startedAt } as const;
    void routed.leasing.ended(use, { ...outcomeOf({ ...ended, error: error as Error }), counted: "request" }); // Only Errors.
    throw error;
  }
}

/**
 * A connection to the target, through the proxy.
 * @param to.isSecure TLS to the target is set up here. In a tunnel it is the client's own business.
 */
export function dial(
  proxy: ProxyAddress,
  tunnelling: Tunnelling,
  { host, port, isSecure }: Pick<Target, "host" | "port"> & { isSecure: boolean },
): Promise<Socket> {
  const connector = connectorThrough(proxy, { ...tunnelling, halfOpen: true });
  const target = { protocol: isSecure ? "https:" : "http:", hostname: host, port: String(port) };
  return new Promise((resolve, reject) => {
    connector(target, (error, socket) => {
      if (error === null) resolve(socket);
      else reject(error);
    });
  });
}
