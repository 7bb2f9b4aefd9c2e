// The promise through the gateway: 24 clients keep TLS tunnels open and ask for more than the limits allow, while the
// service, gateway included, is killed with kill -9. The target counts what arrives from each exit.
import { mkdtemp } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, removeAtEnd, startRemuda } from "../kit/process.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { basic, raw } from "./lab.ts";

const limit = 6;
const windowMs = 2000;
const exits = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"];
const clients = 24;

const arrivals: { exit: string; at: number }[] = [];
const proxies: ForwardProxy[] = [];
let target: ReturnType<typeof createServer>;
let dataDir: string;
let remuda: RemudaProcess;

beforeAll(async () => {
  target = createServer(loopbackTls, (asked, response) => {
    arrivals.push({ exit: asked.socket.remoteAddress ?? "", at: performance.now() });
    response.end("seen\n");
  });
  target.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
  for (const exit of exits) proxies.push(await startForwardProxy({ exit }));
  dataDir = await mkdtemp(join(tmpdir(), "remuda-test-"));
  removeAtEnd(dataDir);
  remuda = await startRemuda({ dataDir });
  const call = async (path: string, method: string, body: object): Promise<void> => {
    const response = await fetch(`${remuda.httpUrl}/v1/pools/default${path}`, { method, body: JSON.stringify(body) });
    expect(response.status).toBe(200);
  };
  const policy = { rate: { limit, windowMs }, concurrency: null, usage: null, failures: null, streak: null };
  await call("", "PATCH", { policy: { ...policy, backoff: { kind: "none" }, lease: { ttlMs: 1500, graceMs: 500 } } });
  await call("/proxies", "POST", { proxies: proxies.map(({ url }) => url) });
}, 150_000);
afterAll(async () => {
  await remuda?.stop();
  target.close().closeAllConnections();
  await Promise.all(proxies.map((each) => each.stop()));
});

const most = (exit: string): number => {
  const times = arrivals.filter((each) => each.exit === exit).map(({ at }) => at);
  return Math.max(0, ...times.map((at) => times.filter((other) => other >= at && other < at + windowMs).length));
};

/** Opens a tunnel and keeps asking in it. When it ends, it opens another one. */
async function keepAsking(nth: number, isOver: () => boolean): Promise<void> {
  const { port } = target.address() as AddressInfo; // It listens on TCP.
  while (!isOver()) {
    let inside: TLSSocket | undefined;
    try {
      const opened = await raw(Number(new URL(remuda.gatewayUrl ?? "").port));
      const login = basic(nth % 2 === 0 ? "wait-2:" : `session-s${nth}-wait-2:`);
      opened.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: ${login}\r\n\r\n`);
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
      await new Promise((resolve) => setTimeout(resolve, 200));
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

test("no window is over the limit at the target, and each exit reaches it, though the service is killed", async () => {
  let isOver = false;
  const asking = Array.from({ length: clients }, (_, nth) => keepAsking(nth, () => isOver));
  const reached = (): void => expect(exits.map(most)).toEqual(exits.map(() => limit));
  await eventually(reached, { timeoutMs: 60_000, everyMs: 100 });
  await remuda.kill9();
  const gatewayPort = new URL(remuda.gatewayUrl ?? "").port;
  const httpPort = new URL(remuda.httpUrl ?? "").port;
  remuda = await startRemuda({ dataDir, env: { REMUDA_GATEWAY_PORT: gatewayPort, REMUDA_HTTP_PORT: httpPort } });
  const before = arrivals.length;
  await eventually(() => expect(arrivals.length).toBeGreaterThan(before + limit * exits.length), {
    timeoutMs: 60_000,
    everyMs: 100,
  });
  isOver = true;
  reached();
  target.closeAllConnections();
  await remuda.interrupt();
  await Promise.all(asking);
}, 180_000);
