// A forward proxy with a given behaviour: its own address (127.x.y.z) from which its connections leave, so that a
// target can tell proxies apart as real targets do; a delay on each request; and a share of requests that fail.
// Absolute-form HTTP and CONNECT. Linux only: elsewhere there is no 127.0.0.2.
import { Agent, createServer, request as forward, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import type { Duplex } from "node:stream";

export interface Behaviour {
  /** Each request is delayed by at least this, and at most twice this. */
  delayMs: number;
  /** 0 to 1: this share of requests is broken off before it leaves for the target. */
  failing: number;
}

export interface DemoProxy {
  /** `http://127.x.y.z:port` */
  readonly url: string;
  stop(): void;
}

/** @param chance draws from 0 to 1, so that a run can be repeated. */
export async function startDemoProxy(
  address: string,
  { delayMs, failing, chance }: Behaviour & { chance: () => number },
): Promise<DemoProxy> {
  const agent = new Agent({ keepAlive: true, localAddress: address });
  const server = createServer((request, response) => {
    if (chance() < failing) return void request.socket.resetAndDestroy();
    const timer = setTimeout(() => pass(request, response, agent), delayMs * (1 + chance()));
    response.once("close", () => clearTimeout(timer));
  });
  server.on("connect", (request, socket, head) => {
    if (chance() < failing) return void socket.destroy();
    tunnel({ to: request.url ?? "", socket, head, address });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, address, resolve);
  });
  const { port } = server.address() as AddressInfo; // A TCP server has one.
  return {
    url: `http://${address}:${port}`,
    stop() {
      server.close();
      server.closeAllConnections();
      agent.destroy();
    },
  };
}

function pass(request: IncomingMessage, response: ServerResponse, agent: Agent): void {
  const target = URL.parse(request.url ?? "");
  if (target === null || target.protocol !== "http:") {
    response.writeHead(400).end("this is a forward proxy: the request line needs a whole http:// URL\n");
    return;
  }
  const { "proxy-connection": _connection, "proxy-authorization": _login, ...headers } = request.headers;
  const onward = forward(target, { method: request.method, headers, agent }, (reply) => {
    response.writeHead(reply.statusCode ?? 502, reply.headers);
    reply.pipe(response);
  });
  onward.once("error", () => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502).end();
  });
  request.pipe(onward);
  response.once("close", () => onward.destroy());
}

function tunnel({ to, socket, head, address }: { to: string; socket: Duplex; head: Buffer; address: string }): void {
  const target = URL.parse(`tcp://${to}`);
  if (target === null || target.port === "") return void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const onward = connect({ host, port: Number(target.port), localAddress: address }, () => {
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    onward.write(head);
    socket.pipe(onward).pipe(socket);
  });
  for (const [one, other] of [
    [socket, onward],
    [onward, socket],
  ] as const) {
    one.once("error", () => other.destroy());
    one.once("close", () => other.destroy());
  }
}
