// A site for the client's tests. The path decides the answer. Each request is recorded, with its source address.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { loopbackTls } from "../kit/tls/loopback.ts";

export interface Visit {
  line: string;
  from: string;
  /** `performance.now()` */
  at: number;
  headers: IncomingMessage["headers"];
  body: string;
}

export interface Site {
  url: string;
  visits: Visit[];
  /** Requests that are held until `letGo`. */
  readonly held: number;
  letGo(): void;
  countFrom(exit: string): number;
  stop(): Promise<void>;
}

export async function startSite({ secure = false, host = "127.0.0.1" } = {}): Promise<Site> {
  const visits: Visit[] = [];
  const held: (() => void)[] = [];
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const url = new URL(request.url ?? "/", "http://site");
    const from = request.socket.remoteAddress ?? "gone";
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("error", () => {});
    request.on("end", () => {
      const line = `${request.method} ${url.pathname}`;
      visits.push({ line, from, at: performance.now(), headers: request.headers, body });
      routes(url, response, held);
    });
  };
  const server = secure ? createSecureServer(loopbackTls, answer) : createServer(answer);
  server.keepAliveTimeout = 600_000; // A proxy keeps its connections: none may close while a request is on its way.
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo; // It listens on TCP.
  return {
    url: `${secure ? "https" : "http"}://${host}:${port}`,
    visits,
    get held() {
      return held.length;
    },
    letGo: () => held.splice(0).forEach((go) => void go()),
    countFrom: (exit) => visits.filter(({ from }) => from === exit).length,
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function routes(url: URL, response: ServerResponse, held: (() => void)[]): void {
  const [, what = "", how = ""] = url.pathname.split("/");
  const to = url.searchParams.get("to") ?? "/seen";
  switch (what) {
    case "status":
      if (url.searchParams.has("retryAfter"))
        response.setHeader("retry-after", url.searchParams.get("retryAfter") ?? "");
      response.writeHead(Number(how)).end("so\n");
      return;
    case "redirect":
      response.writeHead(Number(how), { location: to }).end("elsewhere\n");
      return;
    case "loop":
      response.writeHead(302, { location: "/loop" }).end();
      return;
    case "hang":
      held.push(() => void response.end("at last\n"));
      return;
    case "half":
      response.writeHead(200, { "content-length": "2000000" }).write("x".repeat(1000));
      return;
    case "large":
      response.end("x".repeat(Number(how)));
      return;
    default:
      response.end("seen\n");
  }
}
