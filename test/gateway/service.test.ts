// The gateway as part of `remuda up`, with the clients of this machine.
import { spawn } from "node:child_process";
import { mkdtemp } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, removeAtEnd, startRemuda } from "../kit/process.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";

let remuda: RemudaProcess;
let gateway: string;
let plain: string;
let secure: string;
let arrived: string[] = [];
const proxies: ForwardProxy[] = [];
const stopping: (() => void)[] = [];

beforeAll(async () => {
  const answer: Parameters<typeof createServer>[1] = (request, response) => {
    arrived.push(`${request.method} ${request.url} ${request.socket.remoteAddress}`);
    request.resume().on("end", () => response.end(`from ${request.socket.remoteAddress}\n`));
  };
  const listening = async (server: ReturnType<typeof createServer>): Promise<number> => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    stopping.push(() => void server.close().closeAllConnections());
    return (server.address() as AddressInfo).port; // It listens on TCP.
  };
  plain = `http://127.0.0.1:${await listening(createServer(answer))}`;
  secure = `https://127.0.0.1:${await listening(createSecureServer(loopbackTls, answer))}`;
  for (const exit of ["127.0.0.2", "127.0.0.3"]) proxies.push(await startForwardProxy({ exit }));
  const dataDir = await mkdtemp(join(tmpdir(), "remuda-test-"));
  remuda = await startRemuda({ dataDir });
  stopping.push(() => removeAtEnd(dataDir));
  gateway = remuda.gatewayUrl ?? "";
  await call("POST", "pools/default/proxies", { proxies: proxies.map(({ url }) => url) });
}, 150_000);
afterAll(async () => {
  await remuda?.stop();
  for (const stop of stopping) stop();
  await Promise.all(proxies.map((each) => each.stop()));
});

async function call(method: string, path: string, body?: object): Promise<Record<string, Record<string, number>>> {
  const given = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await fetch(`${remuda.httpUrl}/v1/${path}`, { method, ...given });
  return response.json() as Promise<Record<string, Record<string, number>>>;
}

const succeeded = async (pool = "default"): Promise<number> =>
  (await call("GET", `pools/${pool}/stats`))["outcomes"]?.["succeeded"] ?? 0;

function run(command: string, ...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(command, args, { env: { PATH: process.env.PATH } });
  const text = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => (text.stdout += chunk));
  child.stderr.on("data", (chunk) => (text.stderr += chunk));
  return new Promise((resolve, reject) => child.on("error", reject).on("close", (code) => resolve({ code, ...text })));
}

const curl = (...args: string[]) => run("curl", "-sS", "-k", "-x", gateway, ...args);

test("curl goes through a leased proxy, plain and with TLS, and each use is in the ledger", async () => {
  arrived = [];
  const before = await succeeded();
  const http = await curl(`${plain}/1`);
  const https = await curl(`${secure}/2`);
  expect([http, https]).toMatchObject([
    { code: 0, stdout: expect.stringMatching(/^from 127\.0\.0\.[23]\n$/) },
    { code: 0, stdout: expect.stringMatching(/^from 127\.0\.0\.[23]\n$/) },
  ]);
  await eventually(async () => expect(await succeeded()).toBeGreaterThanOrEqual(before + 2));
  expect(arrived).toHaveLength(2);
});
