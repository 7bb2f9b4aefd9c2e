// The gateway beside proxy-chain with a parent, and squid where it is installed: `npm run bench -- gateway`. All go
// through the same proxy to the same target, one after the other in one run. The gateway leases from a real service.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, createServer, type Server as HttpServer, request } from "node:http";
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer, type Socket } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { Server } from "proxy-chain";
import { freePort, ServiceProcess } from "../demo/service.ts";

const roundMs = 3000;
const connectionCounts = [1, 64, 512];
const tunnelBytes = 1024 ** 3;

interface Contender {
  name: string;
  port: number;
}

export async function benchGateway(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), "remuda-bench-"));
  const service = await ServiceProcess.at(dataDir, { REMUDA_OUTBOUND_ALLOW: "127.0.0.0/8" });
  const target = createServer((_request, response) => response.end("x".repeat(1000)));
  target.keepAliveTimeout = 600_000;
  const source = createTcpServer((socket) => sendMuch(socket));
  const proxy = new Server({ port: 0, host: "127.0.0.1" });
  const chain = new Server({
    port: 0,
    host: "127.0.0.1",
    prepareRequestFunction: () => ({ upstreamProxyUrl: `http://127.0.0.1:${proxy.port}` }),
  });
  const stopping: (() => void)[] = [];
  try {
    const at = await listening(target);
    const from = await listening(source);
    await Promise.all([proxy.listen(), chain.listen()]);
    await service.start();
    const call = (method: string, path: string, body: object) =>
      fetch(`${service.httpUrl}/v1/pools/default${path}`, { method, body: JSON.stringify(body) });
    const policy = { rate: null, usage: null, concurrency: null, failures: null, streak: null };
    await call("PATCH", "", { policy: { ...policy, gateway: { tunnelUses: "once" } } });
    await call("POST", "/proxies", { proxies: [`127.0.0.1:${proxy.port}`] });
    const contenders: Contender[] = [
      { name: "gateway", port: Number(new URL(service.gatewayUrl).port) },
      { name: "proxy-chain", port: chain.port },
    ];
    const squid = await startSquid(dataDir, proxy.port);
    if (squid === undefined) console.log("squid is not installed: it is left out (apt install squid)");
    else {
      contenders.push({ name: "squid", port: squid.port });
      stopping.push(squid.stop);
    }
    console.log(`${cpus()[0]?.model ?? "?"}, ${cpus().length} cores, node ${process.version}, fsync per commit`);
    for (const each of contenders) await round(each, 8, 500, (port, agent) => plain(port, at, agent)); // Warm.
    for (const connections of connectionCounts) {
      for (const each of contenders) {
        await report(each, `plain HTTP, ${connections}`, connections, (port, agent) => plain(port, at, agent));
        await report(each, `CONNECT per request, ${connections}`, connections, (port) => tunnelled(port, at));
      }
    }
    for (const each of contenders) await throughput(each, from);
  } finally {
    for (const stop of stopping) stop();
    await service.stop();
    target.close();
    target.closeAllConnections();
    source.close();
    await Promise.all([proxy.close(true), chain.close(true)]);
    rmSync(dataDir, { recursive: true, force: true });
  }
}

type Ask = (port: number, agent: Agent) => Promise<void>;

async function report(contender: Contender, what: string, connections: number, ask: Ask): Promise<void> {
  const { count, p50, failed } = await round(contender, connections, roundMs, ask);
  const perSecond = Math.round((1000 * count) / roundMs);
  const trouble = failed > 0 ? `   ${failed} failed` : "";
  console.log(`${contender.name.padEnd(12)} ${what.padEnd(28)} ${perSecond}/s   p50 ${p50.toFixed(2)} ms${trouble}`);
}

async function round({ port }: Contender, connections: number, ms: number, ask: Ask) {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const until = performance.now() + ms;
  const times: number[] = [];
  let failed = 0;
  const one = async (): Promise<void> => {
    while (performance.now() < until) {
      const startedAt = performance.now();
      await ask(port, agent).then(
        () => times.push(performance.now() - startedAt),
        () => {
          failed += 1;
        },
      );
    }
  };
  await Promise.all(Array.from({ length: connections }, one));
  agent.destroy();
  times.sort((a, b) => a - b);
  return { count: times.length, p50: times[Math.floor(times.length / 2)] ?? 0, failed };
}

function plain(port: number, at: number, agent: Agent): Promise<void> {
  const path = `http://127.0.0.1:${at}/`;
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", port, path, agent }, (response) => {
      response.resume().on("end", resolve).on("error", reject);
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
    })
      .on("error", reject)
      .end();
  });
}

function tunnelled(port: number, at: number): Promise<void> {
  return new Promise((resolve, reject) => {
    opened(port, at).then((socket) => {
      let bytes = 0;
      socket.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes < 1000) return;
        socket.destroy();
        resolve();
      });
      socket.on("close", () => reject(new Error("closed"))).on("error", reject);
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }, reject);
  });
}

function opened(port: number, at: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ port, host: "127.0.0.1", noDelay: true });
    socket.on("error", reject).on("close", () => reject(new Error("closed")));
    socket.once("data", (head: Buffer) => {
      if (head.toString("latin1").startsWith("HTTP/1.1 200")) resolve(socket);
      else socket.destroy();
    });
    socket.write(`CONNECT 127.0.0.1:${at} HTTP/1.1\r\nHost: 127.0.0.1:${at}\r\n\r\n`);
  });
}

async function throughput({ name, port }: Contender, at: number): Promise<void> {
  const socket = await opened(port, at);
  const startedAt = performance.now();
  let bytes = 0;
  await new Promise<void>((resolve, reject) => {
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes >= tunnelBytes) resolve();
    });
    socket.on("error", reject).on("close", () => reject(new Error(`${name} closed the tunnel after ${bytes} bytes`)));
    socket.write("go");
  });
  socket.removeAllListeners("close").destroy();
  const seconds = (performance.now() - startedAt) / 1000;
  console.log(
    `${name.padEnd(12)} ${"1 GB through one tunnel".padEnd(28)} ${Math.round(bytes / seconds / 1024 ** 2)} MiB/s`,
  );
}

function sendMuch(socket: Socket): void {
  const chunk = Buffer.alloc(256 * 1024);
  let left = tunnelBytes;
  const send = (): void => {
    while (left > 0) {
      left -= chunk.length;
      if (!socket.write(chunk)) return void socket.once("drain", send);
    }
  };
  socket.on("error", () => {}).once("data", send);
}

async function listening(server: HttpServer | ReturnType<typeof createTcpServer>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port; // It listens on TCP.
}

/** Undefined: it is not installed. */
async function startSquid(folder: string, parent: number): Promise<{ port: number; stop(): void } | undefined> {
  if (spawnSync("squid", ["-v"]).status !== 0) return undefined;
  const port = await freePort();
  const lines = [
    `http_port 127.0.0.1:${port}`,
    `cache_peer 127.0.0.1 parent ${parent} 0 round-robin no-query no-digest`,
    ...["never_direct allow all", "cache deny all", "http_access allow all", "access_log none"],
    ...[`pid_filename ${folder}/squid.pid`, `cache_log ${folder}/squid.log`, "shutdown_lifetime 0 seconds"],
  ];
  writeFileSync(join(folder, "squid.conf"), lines.join("\n"));
  const child = spawn("squid", ["-N", "-f", join(folder, "squid.conf")], { stdio: "ignore" });
  for (let tried = 0; tried < 100; tried++) {
    const isUp = await new Promise<boolean>((resolve) => {
      const socket = connectTcp({ port, host: "127.0.0.1" });
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      socket.unref();
    });
    if (isUp) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { port, stop: () => void child.kill("SIGKILL") };
}
