// The gateway as part of `remuda up`, with curl.
import { spawn } from "node:child_process";
import { mkdtemp, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, removeAtEnd, startRemuda } from "../kit/process.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";

let remuda: RemudaProcess;
let gateway: string;
let plain: string;
let secure: string;
let megabyte: string;
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
  megabyte = join(dataDir, "megabyte");
  await writeFile(megabyte, Buffer.alloc(1 << 20, "x"));
  remuda = await startRemuda({ dataDir });
  stopping.push(() => removeAtEnd(dataDir));
  gateway = remuda.gatewayUrl ?? "";
  await call("POST", "pools/default/proxies", { proxies: proxies.map(({ url }) => url) });
  await call("PATCH", "pools/default", { policy: { rate: null, usage: null } });
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
  child.stdin.on("error", () => {}).end("a few words"); // A command need not read it.
  const text = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => (text.stdout += chunk));
  child.stderr.on("data", (chunk) => (text.stderr += chunk));
  return new Promise((resolve, reject) => child.on("error", reject).on("close", (code) => resolve({ code, ...text })));
}

const curl = (...args: string[]) => run("curl", "-sS", "-k", "-x", gateway, ...args);

describe("curl", () => {
  /** @param how.isExact so many uses, and not more. */
  const uses = async (count: number, act: () => Promise<unknown>, { isExact = true } = {}): Promise<void> => {
    arrived = [];
    const before = await succeeded();
    await act();
    const made = async (): Promise<number> => (await succeeded()) - before;
    await eventually(async () => expect(await made()).toBeGreaterThanOrEqual(count));
    if (isExact) expect(await made()).toBe(count);
    expect(arrived).toHaveLength(count);
  };
  const answered = async (given: string[]): Promise<void> => {
    const { code, stdout, stderr } = await curl(...given);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/from 127\.0\.0\.[23]\n$|^HTTP\/1\.1 200 OK/)]);
    expect(stderr).toBe("");
  };

  // These come first: an outcome of a test with TLS 1.3 may come late, and would be counted here.
  test.each([
    ["plain", () => [`${plain}/`]],
    ["with TLS 1.2 and HTTP/1.1", () => ["--tls-max", "1.2", "--http1.1", `${secure}/`]],
    ["--proxytunnel", () => ["--proxytunnel", `${plain}/`]],
    ["-U with options", () => ["-U", "alice-session-s1:x", `${plain}/`]],
    ["--proxy-anyauth", () => ["--proxy-anyauth", "-U", "alice:x", `${plain}/`]],
    ["--http1.0", () => ["--http1.0", `${plain}/`]],
    ["HEAD", () => ["-I", `${plain}/`]],
    ["a chunked upload", () => ["-T", "-", `${plain}/`]],
    [
      "a POST of 1 MB that waits for 100 Continue",
      () => ["-d", `@${megabyte}`, "-H", "Expect: 100-continue", `${plain}/`],
    ],
  ])("%s", (_name, given) => uses(1, () => answered(given())));

  test.each(["socks5", "socks5h"])("%s, with a login", (scheme) =>
    uses(1, async () => {
      const through = gateway.replace("http://", `${scheme}://session-s2:x@`);
      expect(await run("curl", "-sS", "-x", through, `${plain}/`)).toMatchObject({ code: 0, stderr: "" });
    }),
  );

  test("several requests over one connection", () =>
    uses(3, () =>
      curl(`${plain}/1`, "--next", "-sS", "-x", gateway, `${plain}/2`, "--next", "-sS", "-x", gateway, `${plain}/3`),
    ));

  test("the reverse path", () => uses(1, () => run("curl", "-sS", `${gateway}/-/http/${new URL(plain).host}/r`)));

  test.each([
    ["TLS", () => [`${secure}/`]],
    ["TLS and a large POST", () => ["-d", "x".repeat(100_000), "-H", "Expect: 100-continue", `${secure}/`]],
    ["TLS and socks5h", () => ["-x", gateway.replace("http:", "socks5h:"), `${secure}/`]],
  ])("%s", (_name, given) => uses(1, () => answered(given()), { isExact: false }));

  test("several requests in a kept tunnel", () =>
    uses(3, () => curl("--http1.1", `${secure}/1`, `${secure}/2`, `${secure}/3`), { isExact: false }));
});

test("the target's host names the pool, a session keeps its proxy, and an unknown pool is answered 502", async () => {
  await call("PUT", "pools/by-host", { policy: { hosts: ["127.0.0.1"], gateway: { tunnelUses: "once" } } });
  await call("POST", "pools/by-host/proxies", { proxies: [proxies[0]?.url ?? ""] });
  // The gateway looks at the pools every few milliseconds.
  await eventually(async () => {
    expect(await curl("-o", "/dev/null", "-w", "%{http_code}", `${plain}/`)).toMatchObject({ stdout: "200" });
    expect(await succeeded("by-host")).toBeGreaterThan(0);
  });
  const named = await curl("-U", "pool-nowhere:", "-w", "%{http_code}", `${plain}/`);
  expect(named.stdout).toMatch(/"unknown-pool"[\s\S]*502$/);
  const texts = await Promise.all([1, 2, 3].map(() => curl("-U", "pool-default-session-one-ttl-60:", `${secure}/`)));
  expect(new Set(texts.map(({ stdout }) => stdout)).size).toBe(1);
  await fetch(`${remuda.httpUrl}/v1/pools/by-host`, { method: "DELETE" });
  await eventually(async () => expect((await curl("-w", "%{http_code}", `${plain}/`)).stdout).toMatch(/200$/));
});

test("metrics are at both ports", async () => {
  for (const url of [gateway, remuda.httpUrl])
    expect(await (await fetch(`${url}/metrics`)).text()).toMatch(
      /^remuda_gateway_requests_total\{.*kind="connect".*\} /m,
    );
});
