// Plain HTTP inside a tunnel: each request is seen, and is one use of the tunnel's proxy. The first goes over the
// tunnel's own connection; when the target closes it, a new one is made through the same proxy.
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Dispatcher } from "undici";
import type { Use } from "../../client/block.ts";
import { poolOf } from "../../transport/backpressure.ts";
import { connectorThrough } from "../../transport/tunnel.ts";
import { originOf } from "./address.ts";
import type { Through } from "./forward.ts";
import type { ClosedBy } from "./metrics.ts";
import type { GatewayPorts, Routed } from "./ports.ts";
import type { TunnelParts } from "./tunnel.ts";

/** As of requests through kept connections (leasing.ts). */
const timeouts = { headersTimeout: 60_000, bodyTimeout: 300_000 };

export interface Inside {
  routed: Routed;
  through: Through;
  /**
   * A request has come. `last`: its answer closes the connection, because the client asked for no more uses. `over`: it
   * came after that one, and must not be sent.
   */
  begin(response: ServerResponse): "more" | "last" | "over";
  /** Its connection has become a websocket, which has time limits of its own. */
  upgraded(): void;
  /** The proxy that the tunnel goes through. */
  readonly use: Use;
}

/** @param beganAt `performance.now()` at which the tunnel was opened. */
export function insideOf(
  { tunnelling, metrics }: GatewayPorts,
  outer: Routed,
  { client, upstream, use }: TunnelParts,
  beganAt = performance.now(),
): Inside {
  const { leasing, options } = outer;
  const { idleMs, ageMsMax } = outer.policy.gateway;
  const target = { ...outer.target, scheme: "http" as const };
  const routed: Routed = { ...outer, kind: "http", target };
  let last = use;
  let taken = 0;
  let begun = 0;
  let underWay = 0;
  let lastAt = performance.now();
  let closedBy: ClosedBy = "client";
  metrics.tunnels += 1;
  const close = (by: ClosedBy): void => {
    closedBy = by;
    client.destroy();
  };
  const age = setTimeout(() => close("age"), Math.max(1, beganAt + ageMsMax - performance.now())).unref();
  // A request that is under way has time limits of its own.
  const look = (): void => {
    const leftMs = underWay > 0 ? idleMs : lastAt + idleMs - performance.now();
    if (leftMs <= 0) return close("idle");
    idle = setTimeout(look, Math.max(leftMs, 1)).unref();
  };
  let idle = setTimeout(look, idleMs).unref();
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
  let isOver = false;
  const over = (): void => {
    if (!isOver) metrics.tunnels -= 1;
    isOver = true;
    clearTimeout(age);
    clearTimeout(idle);
  };
  client.once("close", () => {
    if (!isOver) metrics.closed(closedBy);
    over();
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
    begin(response) {
      // At its arrival: of requests that come together, none has taken its use yet.
      begun += 1;
      underWay += 1;
      response.once("close", () => {
        underWay -= 1;
        lastAt = performance.now();
      });
      const most = options.uses ?? Number.POSITIVE_INFINITY;
      return begun < most ? "more" : begun === most ? "last" : "over";
    },
    upgraded: over,
    get use() {
      return last;
    },
  };
}
