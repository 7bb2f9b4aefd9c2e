// The site. It counts its visitors by address, and permanently bans an address at the first request beyond the limit
// within any window. The site's view defines the meaning of a limit.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface Limit {
  limit: number;
  windowMs: number;
}

export interface TargetCounts {
  /** Requests answered with the page. */
  served: number;
  /** Requests answered 403, including the one that caused a ban. */
  rejected: number;
  /** Addresses banned. */
  bans: number;
  /** By address, the most requests in any window. */
  maxima: ReadonlyMap<string, number>;
}

export interface DemoTarget {
  /** `http://127.0.0.1:port/` */
  readonly url: string;
  seen(): TargetCounts;
  stop(): void;
}

export async function startDemoTarget({ limit, windowMs }: Limit): Promise<DemoTarget> {
  const visitors = new Map<string, { recent: number[]; most: number; banned: boolean }>();
  let served = 0;
  let rejected = 0;
  const server = createServer((request, response) => {
    const at = performance.now();
    const address = request.socket.remoteAddress ?? "";
    const visitor = visitors.get(address) ?? { recent: [], most: 0, banned: false };
    visitors.set(address, visitor);
    visitor.recent.push(at);
    while ((visitor.recent[0] ?? at) <= at - windowMs) visitor.recent.shift();
    visitor.most = Math.max(visitor.most, visitor.recent.length);
    if (visitor.recent.length > limit) visitor.banned = true;
    if (visitor.banned) rejected += 1;
    else served += 1;
    response.writeHead(visitor.banned ? 403 : 200, { "content-type": "text/html" });
    request
      .resume()
      .once("end", () => response.end(visitor.banned ? "banned\n" : `<title>A page for ${address}</title>\n`));
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo; // A TCP server has one.
  return {
    url: `http://127.0.0.1:${port}/`,
    seen() {
      const all = [...visitors];
      const maxima = new Map(all.map(([address, { most }]) => [address, most]));
      return { served, rejected, bans: all.filter(([, { banned }]) => banned).length, maxima };
    },
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}
