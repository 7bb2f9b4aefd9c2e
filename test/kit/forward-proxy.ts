// A real HTTP forward proxy with its own address. It listens on its exit (127.0.0.x), and its connections leave from
// there, so that a target can tell proxies apart by address, as real targets do. Linux only: elsewhere 127.0.0.2 and
// above do not exist.

import { Agent, type IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { RequestError, Server } from "proxy-chain";

/** How a proxy fails a request: it answers with its own status, breaks the connection, or never answers. */
export type ProxyFailure = { readonly status: number } | "reset" | "hang";

export type ForwardProxy = {
  /** `http(s)://[user:password@]host:port`, percent-encoded, as a proxy list would have it. */
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly exit: string;
  /**
   * Requests and tunnels that came with the right credentials, failed ones included. Requests inside a tunnel are not
   * listed.
   */
  readonly requests: number;
  /** Breaks all its connections. From then on a connection to it is refused. */
  stop(): Promise<void>;
};

/**
 * Starts a proxy for absolute-form HTTP and CONNECT. `delayMs` and `failWith` are asked once per request (per tunnel,
 * for CONNECT); a request waits first and fails then. A request whose client leaves during the wait goes nowhere.
 */
export async function startForwardProxy({
  exit,
  credentials,
  tls,
  delayMs = () => 0,
  failWith = () => undefined,
}: {
  exit: string;
  /** An https proxy: clients speak TLS to it. */
  tls?: { key: string; cert: string };
  credentials?: { username: string; password: string };
  delayMs?: () => number;
  failWith?: () => ProxyFailure | undefined;
}): Promise<ForwardProxy> {
  let requests = 0;
  const stopped = new AbortController();
  const httpAgent = new Agent({ keepAlive: true });
  const server = new Server({
    ...(tls === undefined ? { serverType: "http" as const } : { serverType: "https" as const, httpsOptions: tls }),
    host: exit,
    port: 0,
    prepareRequestFunction: async ({ request, username, password }) => {
      if (credentials && (username !== credentials.username || password !== credentials.password)) {
        return { requestAuthentication: true };
      }
      requests += 1;
      const waitMs = delayMs();
      if (waitMs > 0) await sleep(waitMs, undefined, { signal: stopped.signal });
      const failure = failWith();
      if (failure !== undefined) await letDown(request, failure);
      if (request.socket.destroyed) throw new RequestError("the client left", 400);
      return { localAddress: exit, httpAgent };
    },
  });
  server.server.keepAliveTimeout = 600_000; // No connection may close while a request is on its way to it.
  await server.listen();

  const login = credentials
    ? `${encodeURIComponent(credentials.username)}:${encodeURIComponent(credentials.password)}@`
    : "";
  const { port } = server;
  return {
    url: `${tls === undefined ? "http" : "https"}://${login}${exit}:${port}`,
    host: exit,
    port,
    exit,
    get requests() {
      return requests;
    },
    stop: async () => {
      stopped.abort();
      await server.close(true);
      httpAgent.destroy();
    },
  };
}

/** Never returns to the code that would forward the request. */
async function letDown(request: IncomingMessage, failure: ProxyFailure): Promise<never> {
  if (failure === "hang") return new Promise<never>(() => {}); // until the client leaves or the proxy is stopped
  if (failure === "reset") {
    request.socket.resetAndDestroy();
    throw new RequestError("reset on purpose", 502); // not delivered: the connection is gone
  }
  throw new RequestError("failed on purpose", failure.status);
}
