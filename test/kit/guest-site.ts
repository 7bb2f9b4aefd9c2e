// A site that issues guest tokens and accepts only requests with a token that it still knows. It records every token
// that it gave, and how many were fetched at the same time. It checks nothing itself.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setImmediate as immediately, setTimeout as sleep } from "node:timers/promises";

export interface GuestSite {
  readonly url: string;
  /** Monotonic instants at which a token was requested and given. */
  readonly minted: readonly { value: string; askedAt: number; givenAt: number; exit: string }[];
  /** The most tokens that were being fetched at the same time, by clients that had not hung up. */
  readonly atOnce: number;
  /** Now. */
  readonly fetching: number;
  readonly taken: number;
  /** Requests with a token that it did not know when they arrived. */
  readonly rejected: readonly { value: string; at: number }[];
  /** Would it accept a request with this token now? */
  knows(value: string): boolean;
  /** Invalidates every token that was given so far. */
  invalidate(): void;
  /** How it answers a client that fetches a token. If absent: with a token. */
  answer: ((response: ServerResponse, value: string) => void) | undefined;
  delayMs: number;
  stop(): Promise<void>;
}

export async function startGuestSite({ onMinted }: { onMinted?: (value: string) => void } = {}): Promise<GuestSite> {
  const minted: { value: string; askedAt: number; givenAt: number; exit: string }[] = [];
  const rejected: { value: string; at: number }[] = [];
  const good = new Set<string>();
  const site = { answer: undefined as GuestSite["answer"], delayMs: 0, atOnce: 0, fetching: 0, taken: 0 };
  const server = createServer((request, response) => {
    request.resume();
    void (request.url === "/guest" ? give(request, response) : check(request, response));
  });
  async function give(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const askedAt = performance.now();
    const { socket } = request;
    // A request that was given up on its way is read one turn before the end of its connection.
    for (let turns = 0; turns < 3; turns++) await immediately();
    if (!socket.readableEnded && !socket.destroyed) {
      site.fetching++;
      site.atOnce = Math.max(site.atOnce, site.fetching);
      let isFetching = true;
      const leave = (): void => {
        if (isFetching) site.fetching--;
        isFetching = false;
      };
      for (const end of ["end", "close"]) socket.once(end, leave);
      if (site.delayMs > 0) await sleep(site.delayMs);
      for (const end of ["end", "close"]) socket.off(end, leave);
      leave();
    }
    const value = `secret-guest-${minted.length + 1}`;
    if (site.answer !== undefined) return site.answer(response, value);
    minted.push({ value, askedAt, givenAt: performance.now(), exit: request.socket.remoteAddress ?? "gone" });
    good.add(value);
    onMinted?.(value);
    response.setHeader("content-type", "application/json");
    response.setHeader("x-life", "60");
    response.end(JSON.stringify({ guest_token: value, expires_in: 60 }));
  }
  function check(request: IncomingMessage, response: ServerResponse): void {
    const value = String(request.headers["x-guest-token"] ?? "");
    response.statusCode = good.has(value) ? 200 : 401;
    if (good.has(value)) site.taken++;
    else rejected.push({ value, at: performance.now() });
    response.end("seen\n");
  }
  server.keepAliveTimeout = 600_000; // No connection may close while a request is on its way to it.
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // It listens on TCP.
  return Object.assign(site, {
    url: `http://127.0.0.1:${port}`,
    minted,
    rejected,
    knows: (value: string) => good.has(value),
    invalidate: () => good.clear(),
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  });
}
