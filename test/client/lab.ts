// A lab on loopback for outcomes.test.ts: targets and proxies that go wrong in one way each. They pass bytes on as they
// are, so that the target's behaviour reaches the client over every transport.
import { randomInt } from "node:crypto";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { loopbackTls } from "../kit/tls/loopback.ts";

/** Answers the nth request for a path (from 0), on a connection that carried `before` requests. */
export type Play = (socket: Socket, told: { nth: number; before: number }) => void;

export interface Target {
  url: string;
  /** Heads of the requests that have arrived. */
  arrived: string[];
  plays: Map<string, Play>;
  stop(): Promise<void>;
}

const lastChunk = "\r\n0\r\n\r\n";

export async function startTarget({ secure }: { secure: boolean }): Promise<Target> {
  const arrived: string[] = [];
  const plays = new Map<string, Play>();
  const visits = new Map<string, number>();
  const serve = (socket: Socket): void => {
    let text = "";
    let before = 0;
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
        const head = text.slice(0, end);
        const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0);
        const isChunked = /\r\ntransfer-encoding: chunked/i.test(head);
        const next = isChunked ? text.indexOf(lastChunk, end) + lastChunk.length : end + 4 + length;
        if (text.length < next || next < end) return;
        text = text.slice(next);
        arrived.push(head);
        const path = new URL(head.split(" ")[1] ?? "/", "http://target").pathname;
        const nth = visits.get(path) ?? 0;
        visits.set(path, nth + 1);
        (plays.get(path) ?? ok)(socket, { nth, before });
        before += 1;
      }
    });
  };
  const server = secure ? createTlsServer(loopbackTls, serve) : createServer(serve);
  if (secure) server.on("tlsClientError", () => {});
  const { port, stop } = await listening(server);
  return { url: `${secure ? "https" : "http"}://127.0.0.1:${port}`, arrived, plays, stop };
}

export const ok: Play = (socket) => void socket.write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");

/** Only the first request for the path goes wrong. */
export const firstly =
  (wrong: Play): Play =>
  (socket, told) =>
    (told.nth === 0 ? wrong : ok)(socket, told);

export interface LabProxy {
  port: number;
  connections: number;
  /** Begins a tunnel. Default: correctly. */
  tunnel: ((socket: Socket, kind: "connect" | "socks") => void) | undefined;
  /** Handles the bytes in the tunnel. Default: passes them on. */
  inside: ((socket: Socket) => void) | undefined;
  /** Answers a forwarded request. Default: with the target's answer. */
  forward: ((socket: Socket) => void) | undefined;
  stop(): Promise<void>;
}

/** It speaks HTTP and SOCKS 5 on one port. */
export async function startLabProxy(): Promise<LabProxy> {
  const server = createServer((socket) => {
    proxy.connections += 1;
    socket.on("error", () => {});
    socket.once("data", (first) => void (first[0] === 5 ? socks(socket) : http(socket, first.toString("latin1"))));
  });
  const { port, stop } = await listening(server);
  const proxy: LabProxy = { port, connections: 0, tunnel: undefined, inside: undefined, forward: undefined, stop };

  function http(socket: Socket, head: string): void {
    const [, method = "", asked = ""] = /^(\S+) (\S+)/.exec(head) ?? [];
    if (method !== "CONNECT") {
      if (proxy.forward !== undefined) return proxy.forward(socket);
      return onward(socket, Number(new URL(asked).port), (target) => void target.write(head, "latin1"));
    }
    if (proxy.tunnel !== undefined) return proxy.tunnel(socket, "connect");
    begin(socket, Number(asked.split(":").at(-1)), Buffer.from("HTTP/1.1 200 OK\r\n\r\n"));
  }

  function socks(socket: Socket): void {
    if (proxy.tunnel !== undefined) return proxy.tunnel(socket, "socks");
    socket.write(Buffer.of(5, 0));
    socket.once("data", (asked) => begin(socket, asked.readUInt16BE(8), Buffer.of(5, 0, 0, 1, 127, 0, 0, 1, 0, 80)));
  }

  function begin(socket: Socket, targetPort: number, answer: Buffer): void {
    socket.write(answer);
    if (proxy.inside !== undefined) return proxy.inside(socket);
    onward(socket, targetPort, () => {});
  }

  return proxy;
}

function onward(socket: Socket, port: number, begun: (target: Socket) => void): void {
  const target = connect({ port, host: "127.0.0.1", noDelay: true });
  target.on("error", () => socket.destroy());
  target.on("close", () => socket.destroy());
  socket.on("close", () => target.destroy());
  begun(target);
  socket.pipe(target);
  target.pipe(socket);
}

/** A port at which nothing listens, now or later: the system gives no port below 32768 to a server that asks for any. */
export async function deadPort(): Promise<number> {
  const found = await listening(createServer(), randomInt(10_000, 20_000)).catch(() => undefined);
  await found?.stop();
  return found?.port ?? (await deadPort());
}

async function listening(server: Server, wanted = 0): Promise<{ port: number; stop(): Promise<void> }> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(wanted, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo; // It listens on TCP.
  return {
    port,
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
