// Plain HTTP inside a tunnel: each request is seen, and is one use of the tunnel's proxy. The first goes over the
// tunnel's own connection; when the target closes it, a new one is made through the same proxy.
import type { Socket } from "node:net";
import type { Dispatcher } from "undici";
import type { Use } from "../../client/block.ts";
import { poolOf } from "../../transport/backpressure.ts";
import { connectorThrough } from "../../transport/tunnel.ts";
import { originOf } from "./address.ts";
import type { Through } from "./forward.ts";
import type { GatewayPorts, Routed } from "./ports.ts";
import type { TunnelParts } from "./tunnel.ts";

/** As of requests through kept connections (leasing.ts). */
const timeouts = { headersTimeout: 60_000, bodyTimeout: 300_000 };

export interface Inside {
  routed: Routed;
  through: Through;
  /** The last use that the client asked for has been taken: its answer closes the connection. */
  readonly isSpent: boolean;
  /** The proxy that the tunnel goes through. */
  readonly use: Use;
}

export function insideOf({ tunnelling }: GatewayPorts, outer: Routed, { client, upstream, use }: TunnelParts): Inside {
  const { leasing, options } = outer;
  const target = { ...outer.target, scheme: "http" as const };
  const routed: Routed = { ...outer, kind: "http", target };
  let last = use;
  let taken = 0;
  let first: Socket | undefined = upstream;
  const anew = connectorThrough(use.block.lease, tunnelling);
  const connections = poolOf(originOf(target), {
    ...timeouts,
    connections: 1,
    connect(asked, callback) {
      const own = first;
      first = undefined;
      if (own === undefined || own.destroyed || !own.readable) anew(asked, callback);
      else queueMicrotask(() => callback(null, own)); // undici does not go on after a call at once.
    },
  });
  client.once("close", () => {
    void connections.destroy();
    upstream.destroy();
    if (taken > 0) return;
    const { leaseId } = use.block.lease;
    const outcome = { leaseId, n: use.n, target: target.host, reason: "client-abort", counted: "request" } as const;
    void leasing.ended(use, outcome);
  });
  const agent = {
    proxyId: use.block.lease.proxyId,
    send(sent: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler) {
      connections.dispatch(sent, handler);
      return { route: "tunnelled" } as const;
    },
  };
  return {
    routed,
    through: {
      agents: { enter: () => agent, leave: () => {} },
      tries: 0,
      async take(_avoid, signal) {
        taken += 1;
        if (taken > 1) last = await leasing.takeAlso(last, { waitMs: options.waitMs, signal });
        return last;
      },
    },
    get isSpent() {
      return taken + 1 >= (options.uses ?? Number.POSITIVE_INFINITY);
    },
    get use() {
      return last;
    },
  };
}
