// The gateway as part of `remuda up`, with the clients of this machine.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import axios from "axios";
import { ProxyAgent, fetch as undiciFetch } from "undici";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
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
  const uses = async (count: number, act: () => Promise<unknown>): Promise<void> => {
    arrived = [];
    const before = await succeeded();
    await act();
    await eventually(async () => expect(await succeeded()).toBeGreaterThanOrEqual(before + count));
    expect(arrived).toHaveLength(count);
  };

  test.each([
    ["plain", () => [`${plain}/`]],
    ["with TLS", () => [`${secure}/`]],
    ["with TLS 1.2 and HTTP/1.1", () => ["--tls-max", "1.2", "--http1.1", `${secure}/`]],
    ["--proxytunnel", () => ["--proxytunnel", `${plain}/`]],
    ["-U with options", () => ["-U", "alice-session-s1:x", `${plain}/`]],
    ["--proxy-anyauth", () => ["--proxy-anyauth", "-U", "alice:x", `${plain}/`]],
    ["--http1.0", () => ["--http1.0", `${plain}/`]],
    ["HEAD", () => ["-I", `${plain}/`]],
    ["a chunked upload", () => ["-T", "-", `${plain}/`]],
    [
      "a large POST that waits for 100 Continue",
      () => ["-d", "x".repeat(100_000), "-H", "Expect: 100-continue", `${secure}/`],
    ],
  ])("%s", (_name, given) =>
    uses(1, async () => {
      const { code, stdout, stderr } = await curl(...given());
      expect([code, stdout]).toEqual([0, expect.stringMatching(/from 127\.0\.0\.[23]\n$|^HTTP\/1\.1 200 OK/)]);
      expect(stderr).toBe("");
    }),
  );

  test.each(["socks5", "socks5h"])("%s", (scheme) =>
    uses(2, async () => {
      const through = gateway.replace("http:", `${scheme}:`);
      for (const url of [`${plain}/`, `${secure}/`])
        expect(await run("curl", "-sS", "-k", "-x", through, url)).toMatchObject({ code: 0, stderr: "" });
    }),
  );

  test("several requests over one connection, plain and in a kept tunnel", async () => {
    await uses(3, () =>
      curl(`${plain}/1`, "--next", "-sS", "-x", gateway, `${plain}/2`, "--next", "-sS", "-x", gateway, `${plain}/3`),
    );
    await uses(3, () => curl("--http1.1", `${secure}/1`, `${secure}/2`, `${secure}/3`));
  });

  test("the reverse path", () => uses(1, () => run("curl", "-sS", `${gateway}/-/http/${new URL(plain).host}/r`)));
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

describe("other clients", () => {
  async function counted(act: () => Promise<void>): Promise<void> {
    arrived = [];
    const before = await succeeded();
    await act();
    const requests = arrived.length;
    expect(requests).toBeGreaterThan(0);
    await eventually(async () => expect(await succeeded()).toBeGreaterThanOrEqual(before + requests));
  }

  test("Python's requests", () =>
    counted(async () => {
      const script = `
import requests, sys
requests.packages.urllib3.disable_warnings()
session = requests.Session()
session.trust_env = False
session.proxies = {"http": sys.argv[1], "https": sys.argv[1]}
for url in sys.argv[2:]:
    for _ in range(3):
        assert session.get(url, verify=False, timeout=30).text.startswith("from 127.0.0."), url
`;
      expect(await run("/usr/bin/python3", "-c", script, gateway, plain, secure)).toEqual({
        code: 0,
        stdout: "",
        stderr: "",
      });
      expect(arrived).toHaveLength(6);
    }));

  test("undici", () =>
    counted(async () => {
      const agent = new ProxyAgent({ uri: gateway, requestTls: { ca: loopbackTls.cert } });
      for (const url of [plain, plain, secure, secure]) {
        const response = await undiciFetch(url, { dispatcher: agent });
        expect(await response.text()).toMatch(/^from 127\.0\.0\.[23]\n$/);
      }
      await agent.close();
    }));

  test("axios", () =>
    counted(async () => {
      const { hostname: host, port } = new URL(gateway);
      for (const _ of [1, 2]) {
        const { data } = await axios.get(plain, { proxy: { protocol: "http", host, port: Number(port) } });
        expect(data).toMatch(/^from 127\.0\.0\.[23]\n$/);
      }
    }));

  test("Chromium", () =>
    counted(async () => {
      const folder = await mkdtemp(join(tmpdir(), "remuda-chromium-"));
      const flags = [
        "--no-sandbox",
        "--ignore-certificate-errors",
        `--user-data-dir=${folder}`,
        "--virtual-time-budget=5000",
      ];
      const proxy = [`--proxy-server=${gateway}`, "--proxy-bypass-list=<-loopback>"];
      const { stdout } = await run("/usr/bin/chromium-headless-shell", ...flags, ...proxy, "--dump-dom", secure);
      await rm(folder, { recursive: true, force: true });
      expect(stdout).toMatch(/from 127\.0\.0\.[23]/);
    }));
});
