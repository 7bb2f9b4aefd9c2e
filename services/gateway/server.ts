// Listens, and finds the protocol of a client by its first byte: SOCKS 5, or HTTP. Everything behind that is loaded and
// connected with the first client, so that a start costs next to nothing.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Logger } from "pino";
import { boundConnections } from "../../runtime/connections.ts";
import { codeOf, Fault } from "../../runtime/fault.ts";
import { hereOf, inUrl } from "../../runtime/host.ts";
import type { Family } from "../../runtime/prometheus.ts";
import { textOf, unreadable } from "./answer.ts";
import type { Core } from "./core.ts";

export interface GatewayOptions {
  host: string;
  /** 0: the system chooses. */
  port: number;
  log: Logger;
  /** How long a request's head may take. Absent: 30 s. */
  headMsMax?: number | undefined;
  /** The most connections of clients. Absent: a bound that follows from the process's file descriptors. */
  connectionsMax?: number | undefined;
  /** Loads and connects everything else. @param adopt reads HTTP from a client's socket, from its next byte on. */
  open(adopt: (socket: Socket) => void, connectionsMax: number): Promise<Core>;
}

export interface RunningGateway {
  /** The URL at which this machine reaches it. */
  url: string;
  /** Of its metrics; none before the first client. */
  families(): Family[];
  /** Connects now, and not with the first client. @throws as `openBus` does. */
  ready(): Promise<void>;
  stop(): Promise<void>;
}

const firstByteMsMax = 15_000;
/** Requests and tunnels have this long to end when the gateway stops. */
const drainMs = 1000;
const lookMs = 20;

const headMsMaxUsual = 30_000;
const headLookMsMax = 5000;
const limits = {
  /** An upload may take any time, as long as bytes come. */
  requestTimeout: 0,
  keepAliveTimeout: 60_000,
  maxHeaderSize: 64 * 1024,
};

/** @throws Fault "fix-setup" if it cannot listen there. */
export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const { host, log, open, headMsMax = headMsMaxUsual } = options;
  const sockets = new Set<Socket>();
  const headTimes = {
    headersTimeout: headMsMax,
    connectionsCheckingInterval: Math.min(headLookMsMax, headMsMax),
  };
  const server = createServer({ ...limits, ...headTimes });
  boundConnections(server, { log, max: options.connectionsMax, descriptors: 2 });
  // Node's own reader of HTTP, for sockets whose first byte is known.
  const readers = server.listeners("connection") as ((socket: Socket) => void)[];
  server.removeAllListeners("connection");
  const adopt = (socket: Socket): void => {
    for (const read of readers) read.call(server, socket);
    socket.resume();
  };
  let opening: Promise<Core> | undefined;
  let core: Core | undefined;
  const opened = (): Promise<Core> => {
    opening ??= open(adopt, server.maxConnections);
    opening.then(
      (ready) => {
        core = ready;
      },
      () => {
        opening = undefined; // The next client tries again.
      },
    );
    return opening;
  };
  const handled = (work: Promise<void> | undefined, socket: Socket): void => {
    work?.catch((error: unknown) => {
      log.error({ err: error }, "a connection failed because of a bug");
      socket.destroy();
    });
  };
  const answer = (request: IncomingMessage, response: ServerResponse, expects: boolean): void =>
    handled(core?.gateway.request({ request, response, expects }), request.socket);
  server.on("request", (request, response) => answer(request, response, false));
  server.on("checkContinue", (request, response) => answer(request, response, true));
  server.on("connect", (request, socket, head) =>
    handled(core?.gateway.connect(request, socket as Socket, head), socket as Socket),
  );
  server.on("upgrade", (request, socket, head) =>
    handled(core?.gateway.upgrade(request, socket as Socket, head), socket as Socket),
  );
  server.on("clientError", (error, socket) => {
    if (!socket.writable || codeOf(error) === "ECONNRESET") return void socket.destroy();
    socket.end(textOf(unreadable(codeOf(error)), { connection: "close" }));
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    const late = setTimeout(() => socket.destroy(), firstByteMsMax);
    socket.once("close", () => clearTimeout(late));
    socket.once("data", (first: Buffer) => {
      clearTimeout(late);
      socket.pause();
      socket.unshift(first);
      opened().then(
        ({ gateway }) => {
          const [byte] = first;
          if (byte === 5) handled(gateway.socks(socket), socket);
          else if (byte === 4 || byte === 22)
            socket.destroy(); // SOCKS 4 and TLS are not served.
          else adopt(socket);
        },
        (error: unknown) => {
          log.error({ why: error instanceof Error ? error.message : "unknown" }, "the gateway cannot reach NATS");
          socket.destroy();
        },
      );
    });
  });
  const { port } = await listen(server, options);
  const stop = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const deadline = performance.now() + drainMs;
    server.closeIdleConnections();
    while ((core?.gateway.busy ?? 0) > 0 && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, lookMs));
    core?.gateway.cut();
    server.closeAllConnections();
    for (const socket of sockets) socket.destroy();
    await closed;
    await core?.close();
  };
  return {
    url: `http://${inUrl(hereOf(host))}:${port}`,
    families: () => core?.metrics.families() ?? [],
    ready: async () => void (await opened()),
    stop,
  };
}

async function listen(server: ReturnType<typeof createServer>, { host, port }: GatewayOptions): Promise<AddressInfo> {
  try {
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, host, resolve));
    return server.address() as AddressInfo; // It listens on TCP.
  } catch (cause) {
    const code = codeOf(cause);
    const what =
      code === "EADDRINUSE" ? `port ${port} on ${host} is in use` : `nothing can listen on ${host}:${port} (${code})`;
    throw new Fault(
      "fix-setup",
      `${what}: stop the process that listens there, set REMUDA_GATEWAY_PORT to another port (0: any that is free), or REMUDA_GATEWAY_HOST to another address`,
      { cause },
    );
  }
}
