// The stage of the gateway's exactness: a target that counts what arrives from each exit, a proxy for each exit, the
// service with its gateway, and, where it is wanted, a second gateway in a process of its own. Clients keep TLS tunnels
// open and ask for more than the limits allow.
import { mkdtemp } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { freePort } from "../../demo/free-port.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type RemudaProcess, removeAtEnd, startRemuda } from "../kit/process.ts";
import { maxInAnyWindow } from "../kit/target.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { basic, raw } from "./lab.ts";

export interface Stage {
  /** By exit: the most arrivals in any window. */
  most(): number[];
  arrivals(): number;
  /** Opens tunnels and asks in them until the end. */
  ask(clients: number): void;
  /** SIGKILL to the picker, the API and their gateway, which are started again. */
  killService(): Promise<void>;
  /** SIGKILL to the second gateway, which is started again. */
  killGateway(): Promise<void>;
  /** The clients end, and then the service, in an orderly way. */
  end(): Promise<void>;
  stop(): Promise<void>;
}

export interface StageOptions {
  exits: readonly string[];
  limit: number;
  windowMs: number;
  withSecondGateway?: boolean;
}

const retryMs = 200;

export async function openStage({ exits, limit, windowMs, withSecondGateway = false }: StageOptions): Promise<Stage> {
  const arrivals = new Map<string, number[]>(exits.map((exit) => [exit, []]));
  const target = createServer(loopbackTls, (asked, response) => {
    arrivals.get(asked.socket.remoteAddress ?? "")?.push(performance.now());
    response.end("seen\n");
  });
  target.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
  const proxies: ForwardProxy[] = [];
  for (const exit of exits) proxies.push(await startForwardProxy({ exit }));
  const dataDir = await mkdtemp(join(tmpdir(), "remuda-test-"));
  removeAtEnd(dataDir);
  // Killed processes come back at their ports.
  const env: Record<string, string> = {};
  for (const name of ["NATS", "HTTP", "GATEWAY"]) env[`REMUDA_${name}_PORT`] = String(await freePort());
  const secondPort = String(await freePort());
  let service = await startRemuda({ dataDir, env });
  const alone = async (): Promise<RemudaProcess> => {
    const own = { REMUDA_NATS_URL: service.bareNatsUrl, REMUDA_GATEWAY_PORT: secondPort };
    return startRemuda({ dataDir, env: own, args: ["run", "gateway"] });
  };
  let second = withSecondGateway ? await alone() : undefined;
  await openPool(service, {
    policy: { rate: { limit, windowMs }, lease: { ttlMs: 1500, graceMs: 500 }, ...unlimited },
    proxies: proxies.map(({ url }) => url),
  });
  const gatewayUrls = [service.gatewayUrl ?? "", ...(second?.httpUrl === undefined ? [] : [second.httpUrl])];
  const ports = gatewayUrls.map((url) => Number(new URL(url).port));
  const targetPort = (target.address() as AddressInfo).port; // It listens on TCP.
  const asking: Promise<void>[] = [];
  let isOver = false;
  return {
    most: () => [...arrivals.values()].map((times) => maxInAnyWindow(times, windowMs)),
    arrivals: () => [...arrivals.values()].reduce((sum, times) => sum + times.length, 0),
    ask(clients) {
      for (let nth = 0; nth < clients; nth++)
        asking.push(keepAsking(nth, { port: ports[nth % ports.length] ?? 0, targetPort }, () => isOver));
    },
    async killService() {
      await service.kill9();
      service = await startRemuda({ dataDir, env });
    },
    async killGateway() {
      await second?.kill9();
      second = await alone();
    },
    async end() {
      isOver = true;
      target.closeAllConnections();
      await second?.interrupt();
      await service.interrupt();
      await Promise.all(asking);
    },
    async stop() {
      isOver = true;
      await second?.stop();
      await service.stop();
      target.close().closeAllConnections();
      await Promise.all(proxies.map((each) => each.stop()));
    },
  };
}

const unlimited = { concurrency: null, usage: null, failures: null, streak: null, backoff: { kind: "none" } };

async function openPool({ httpUrl }: RemudaProcess, given: { policy: object; proxies: string[] }): Promise<void> {
  const call = async (path: string, method: string, body: object): Promise<void> => {
    const response = await fetch(`${httpUrl}/v1/pools/default${path}`, { method, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await response.text());
  };
  await call("", "PATCH", { policy: given.policy });
  await call("/proxies", "POST", { proxies: given.proxies });
}

/** Opens a tunnel and keeps asking in it. When it ends, it opens another one. */
async function keepAsking(
  nth: number,
  { port, targetPort }: { port: number; targetPort: number },
  isOver: () => boolean,
): Promise<void> {
  while (!isOver()) {
    let inside: TLSSocket | undefined;
    try {
      const opened = await raw(port);
      const login = basic(nth % 4 < 2 ? "wait-2:" : `session-s${nth}-wait-2:`);
      opened.write(`CONNECT 127.0.0.1:${targetPort} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: ${login}\r\n\r\n`);
      const text = await opened.until(/\r\n\r\n/);
      if (text.startsWith("HTTP/1.1 200")) {
        opened.socket.removeAllListeners("data");
        inside = connectTls({
          socket: opened.socket,
          rejectUnauthorized: false,
          ...(nth % 3 === 0 && { maxVersion: "TLSv1.2" }),
        });
        await ask(inside, isOver);
      }
      opened.socket.destroy();
    } catch {
      inside?.destroy(); // The gateway is away, or the tunnel was closed.
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }
}

async function ask(inside: TLSSocket, isOver: () => boolean): Promise<void> {
  let answered = (): void => {};
  const closed = new Promise<void>((_resolve, reject) => {
    inside
      .on("error", reject)
      .on("end", () => reject(new Error("ended")))
      .on("close", () => reject(new Error("closed")));
  });
  closed.catch(() => {});
  inside.on("data", (chunk: Buffer) => {
    if (chunk.includes("seen")) answered();
  });
  while (!isOver()) {
    const answer = new Promise<void>((resolve) => {
      answered = resolve;
    });
    inside.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await Promise.race([answer, closed]);
  }
}
