// `remuda up --demo`, as its user sees it: proxies and a site that work at once, and no trace of them afterwards.
import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkDemo } from "../../cli/demo.ts";
import { runCommand } from "../kit/command.ts";
import { type RemudaProcess, runCli, startRemuda, stopAllRemudas } from "../kit/process.ts";

const exits = Array.from({ length: 10 }, (_, i) => `127.0.20.${11 + i}`);
let dataDir: string;
let remuda: RemudaProcess;
let site: string;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "demo-up-test-"));
  await start();
}, 150_000);
afterAll(async () => {
  await stopAllRemudas();
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20 });
});

async function start(): Promise<void> {
  remuda = await startRemuda({ dataDir, args: ["up", "--demo"] });
  site = /exec --pool demo -- curl -s (http:\S+)/.exec(remuda.readyLine)?.[1] ?? "";
}

async function proxies(): Promise<{ url: string; host: string; state: string; labels: Record<string, string> }[]> {
  const { stdout } = await runCommand(["proxies", "list", "--json", "--pool", "demo"], { dataDir });
  return (JSON.parse(stdout) as { proxies: { host: string; state: string }[] }).proxies as never; // The protocol's.
}

function through(proxy: string, url: string): Promise<{ status: number; body: string }> {
  const { hostname: host, port } = new URL(proxy);
  return new Promise((resolve, reject) => {
    const asked = request({ host, port, path: url, headers: { host: new URL(url).host } }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk) => (body += chunk));
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked.once("error", reject).end();
  });
}

test("puts ten proxies into a pool of their own, and prints the commands to type", async () => {
  const all = await proxies();
  expect(all.map(({ host }) => host).sort()).toEqual(exits);
  expect(all.every(({ state, labels }) => state === "available" && labels.demo === "true")).toBe(true);
  expect(site).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  expect(remuda.output()).toContain("npx remuda lease --pool demo\n");
  const others = await fetch(`${remuda.httpUrl}/v1/pools/default/proxies`);
  expect(await others.json()).toEqual({ proxies: [] });
});

test("a leased proxy leads to the site, which sees the proxy's own address, over HTTP too", async () => {
  const { stdout } = await runCommand(["lease", "--json", "--pool", "demo"], { dataDir });
  const overHttp = await fetch(`${remuda.httpUrl}/v1/pools/demo/leases`, { method: "POST" });
  for (const lease of [JSON.parse(stdout), await overHttp.json()] as { url: string; host: string }[]) {
    expect(exits).toContain(lease.host);
    expect(await through(lease.url, site)).toEqual({ status: 200, body: `<title>A page for ${lease.host}</title>\n` });
  }
});

test("the suggested command works unchanged", async () => {
  const { code, stdout } = await runCli(["exec", "--pool", "demo", "--", "curl", "-s", site], { dataDir });
  expect(stdout).toMatch(/^<title>A page for 127\.0\.20\.\d+<\/title>$/m);
  expect(code).toBe(0);
});

test("everything ends with the process, and a start without --demo leaves its pool closed", async () => {
  await remuda.interrupt();
  await expect(fetch(site)).rejects.toThrow();
  await remuda.stop();
  remuda = await startRemuda({ dataDir });
  expect(remuda.readyLine).toMatch(/Next: npx remuda proxies add/);
  const { code, stderr } = await runCommand(["lease", "--pool", "demo"], { dataDir });
  expect(stderr).toMatch(/^remuda: unknown-pool: The pool demo is not open\./);
  expect(code).toBe(1);
  await remuda.stop();
});

test("after a kill, the next start retires the demo's proxies, and no other of its pool", async () => {
  await start();
  const ours = await proxies();
  expect(ours.filter(({ state }) => state === "available")).toHaveLength(10);
  const other = await runCommand(["proxies", "add", "-", "--pool", "demo"], {
    dataDir,
    stdin: '["http://127.0.0.9:3128"]',
  });
  expect(other.code).toBe(0);
  await remuda.kill9();
  await remuda.stop();
  remuda = await startRemuda({ dataDir });
  const left = (await proxies()).filter(({ state }) => state !== "retired");
  expect(left.map(({ host }) => host)).toEqual(["127.0.0.9"]);
});

test("reports in one sentence that it needs Linux", () => {
  expect(() => checkDemo("linux")).not.toThrow();
  expect(() => checkDemo("darwin")).toThrow(/^--demo needs Linux: /);
});
