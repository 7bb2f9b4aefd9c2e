// The target: the site that counts its visitors by address. It is a real HTTP server that records the origin and the
// time of every request. With that a test can tell whether a limit was kept from the target's point of view. It checks
// nothing itself.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export type Arrival = {
  /** The address that the request came from: the proxy's exit. */
  readonly exit: string;
  /** Monotonic milliseconds (`performance.now()` of this process) at which the request's head had been read. */
  readonly at: number;
};

export type Target = {
  readonly url: string;
  readonly port: number;
  /** In order of arrival. */
  readonly arrivals: readonly Arrival[];
  countByExit(): Map<string, number>;
  /** For each exit the most arrivals in any window of this width. */
  maxInWindow(windowMs: number): Map<string, number>;
  stop(): Promise<void>;
};

/**
 * Starts a target on 127.0.0.1, which on Linux is reached from every 127.x.x.x. It answers 200, or as the request's
 * query says: `?status=429`, `?retryAfter=120` (the header's value, seconds or a date).
 */
export async function startTarget(): Promise<Target> {
  const arrivals: Arrival[] = [];
  const server = createServer((request, response) => {
    arrivals.push({ exit: request.socket.remoteAddress ?? "gone", at: performance.now() });
    const wanted = new URL(request.url ?? "/", "http://target").searchParams;
    const retryAfter = wanted.get("retryAfter");
    if (retryAfter !== null) response.setHeader("Retry-After", retryAfter);
    response.statusCode = Number(wanted.get("status") ?? 200);
    // An answer before the body is read would break the connection for a client that is still sending.
    request.resume().on("end", () => response.end("seen\n"));
  });
  server.keepAliveTimeout = 600_000; // A proxy keeps its connections. None may close while a request is on its way.
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo; // it listens on TCP, so this is never a string or null

  const instantsByExit = (): Map<string, number[]> => {
    const byExit = new Map<string, number[]>();
    for (const { exit, at } of arrivals) {
      const instants = byExit.get(exit);
      if (instants === undefined) byExit.set(exit, [at]);
      else instants.push(at);
    }
    return byExit;
  };
  return {
    url: `http://127.0.0.1:${port}/`,
    port,
    arrivals,
    countByExit: () => new Map([...instantsByExit()].map(([exit, instants]) => [exit, instants.length])),
    maxInWindow: (windowMs) =>
      new Map([...instantsByExit()].map(([exit, instants]) => [exit, maxInAnyWindow(instants, windowMs)])),
    stop: async () => {
      if (!server.listening) return;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/**
 * The most instants in any half-open window (t, t + windowMs], over all real t; the order given does not matter. Two
 * instants share such a window exactly when they are less than `windowMs` apart.
 */
export function maxInAnyWindow(instants: readonly number[], windowMs: number): number {
  const inOrder = [...instants].sort((a, b) => a - b);
  let most = 0;
  let first = 0;
  for (const [last, at] of inOrder.entries()) {
    // first ≤ last, so there is an element; an instant is 0 apart from itself, so only a window of 0 passes `last`.
    while (first <= last && at - inOrder[first]! >= windowMs) first += 1;
    most = Math.max(most, last - first + 1);
  }
  return most;
}
