// Runs every recipe of docs/recipes.md as written, through real proxies and with the real tool. It must get its pages,
// which are more than a window holds. Each request that reaches the target must be a use of a lease. Every lease must
// be closed with its outcome known.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";

const root = new URL("../..", import.meta.url).pathname;
const recipes = readFileSync(join(root, "docs/recipes.md"), "utf8");
/** The tools that are not npm packages, and their Debian packages. */
const debian = ["curl", "python3-requests", "python3-scrapy", "chromium-headless-shell"];
const python = "/usr/bin/python3";
const browser = "/usr/bin/chromium-headless-shell";
/** Fails without them. To import them would take a second. */
const findModules = "import importlib.util as u; [u.find_spec(name).origin for name in ('requests', 'scrapy')]";
const windowMs = 500;

let folder: string;
let remuda: RemudaProcess;
let proxies: ForwardProxy[];
let target: Server;
let targetUrl: string;
let arrivals: { path: string; exit: string }[] = [];

beforeAll(async () => {
  installTools();
  folder = mkdtempSync(join(tmpdir(), "remuda-recipes-"));
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  for (const [, name, code] of recipes.matchAll(/```\w+ (\S+)\n([\s\S]*?)```/g)) {
    if (name === undefined || code === undefined) continue;
    // As written, except for the browser's path: Playwright would download its own browser. The service does not hold a
    // request for longer than a window here, so that the recipe must ask again.
    const here = code.replace("launch({ ", `launch({ executablePath: "${browser}", `);
    writeFileSync(join(folder, name), here.replace(/(waitMs"?: )60_?000/g, `$1${windowMs}`));
  }
  target = createServer((request, response) => {
    arrivals.push({ path: request.url ?? "", exit: request.socket.remoteAddress ?? "" });
    const missing = request.url?.startsWith("/missing") === true;
    response.writeHead(missing ? 404 : 200, { "content-type": "text/html" });
    response.end('<title>A page</title><link rel="icon" href="data:,"><img src="/picture.png">');
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => target.once("listening", resolve));
  targetUrl = `http://127.0.0.1:${(target.address() as AddressInfo).port}`;
  const credentials = { username: "user", password: "p@ss:w/rd" };
  proxies = await Promise.all(["127.0.0.2", "127.0.0.3"].map((exit) => startForwardProxy({ exit, credentials })));
  remuda = await startRemuda({ dataDir: join(folder, ".remuda") });
  const list = { method: "POST", body: proxies.map(({ url }) => url).join("\n") };
  expect((await fetch(`${remuda.httpUrl}/v1/pools/default/proxies`, list)).status).toBe(200);
}, 300_000);

afterAll(async () => {
  await remuda?.stop();
  await Promise.all((proxies ?? []).map((proxy) => proxy.stop()));
  target?.closeAllConnections();
  target?.close();
  rmSync(folder, { recursive: true, force: true });
});

let before: Stats;
beforeEach(async () => {
  arrivals = [];
  before = await stats();
});

test("Playwright", () =>
  tried(process.execPath, ["playwright.mjs", `${targetUrl}/a`], {
    paths: ["/a", "/picture.png"],
    output: /^2 A page$/m,
  }));

/** More than the two exits allow in a window, or in two. */
const paths = ["/a", "/missing", ...Array.from({ length: 10 }, (_, i) => `/page-${i}`)];
const pages = () => paths.map((path) => targetUrl + path);
/** These make many requests at once. */
const few = paths.slice(0, 6);

test("the pool's window is short from here on", async () => {
  const body = JSON.stringify({ policy: { rate: { limit: 2, windowMs }, lease: { ttlMs: 15_000 } } });
  expect((await fetch(`${remuda.httpUrl}/v1/pools/default`, { method: "PATCH", body })).status).toBe(200);
});

test("curl", () => tried("sh", ["fetch.sh", ...pages().slice(0, 5)], { paths: paths.slice(0, 5) }));

test("undici", () => tried(process.execPath, ["undici.mjs", ...pages()], { paths, output: /^200 \d+\n404 \d+$/m }));

test("axios", () => tried(process.execPath, ["axios.mjs", ...pages()], { paths, output: /^200 \d+\n404 \d+$/m }));

test("Crawlee", () => {
  const found = few.filter((path) => path !== "/missing"); // It would try that one again.
  return tried(process.execPath, ["crawlee.mjs", ...found.map((path) => targetUrl + path)], { paths: found });
});

test("requests", () => tried(python, ["fetch.py", ...pages()], { paths, output: /^200 \d+\n404 \d+$/m }));

test("Scrapy", () => {
  mkdirSync(join(folder, "project"), { recursive: true });
  symlinkSync(join(folder, "remuda.py"), join(folder, "project/remuda.py"));
  const setting = /`DOWNLOADER_MIDDLEWARES = (\{.*?\})`/.exec(recipes)?.[1];
  const spider = [
    "import scrapy",
    "class Pages(scrapy.Spider):",
    '    name = "pages"',
    `    custom_settings = {"DOWNLOADER_MIDDLEWARES": ${setting}, "HTTPERROR_ALLOW_ALL": True}`,
    `    start_urls = ${JSON.stringify(few.map((path) => targetUrl + path))}`,
    "    def parse(self, response):",
    '        print("seen", response.status)',
  ];
  writeFileSync(join(folder, "spider.py"), spider.join("\n"));
  return tried(python, ["-m", "scrapy", "runspider", "spider.py"], { paths: few, output: /^seen 200$/m });
});

test("no recipe is longer than twenty lines, and each one is tested here", () => {
  const blocks = [...recipes.matchAll(/```\w+ (\S+)\n([\s\S]*?)```/g)];
  const names = ["fetch.sh", "undici.mjs", "axios.mjs", "playwright.mjs", "crawlee.mjs", "remuda.py", "fetch.py"];
  expect(blocks.map(([, name]) => name)).toEqual(names);
  for (const [, name, code] of blocks) expect(code?.trimEnd().split("\n").length, name).toBeLessThanOrEqual(20);
});

/** Runs it. It must succeed, have reached these paths through our proxies, and account for every one of its leases. */
async function tried(command: string, args: string[], wanted: { paths: string[]; output?: RegExp }): Promise<void> {
  const { code, output } = await run(command, args);
  expect(code, output).toBe(0);
  if (wanted.output !== undefined) expect(output).toMatch(wanted.output);
  expect(arrivals.map(({ path }) => path).toSorted(), output).toEqual(wanted.paths.toSorted());
  expect(arrivals.filter(({ exit }) => !["127.0.0.2", "127.0.0.3"].includes(exit))).toEqual([]);
  await eventually(async () => {
    const { leases, outcomes } = await stats();
    expect(outcomes.succeeded - before.outcomes.succeeded).toBe(wanted.paths.length);
    expect(outcomes.failed + outcomes.neutral + outcomes.ignored).toBe(0);
    expect(leases).toMatchObject({ open: 0, expired: 0 });
  });
}

function run(command: string, args: string[]): Promise<{ code: number | null; output: string }> {
  const { NODE_OPTIONS: _vitest, ...env } = process.env;
  const child = spawn(command, args, {
    cwd: folder,
    env: { ...env, REMUDA_HTTP_URL: remuda.httpUrl, PYTHONPATH: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}

interface Stats {
  leases: { open: number; expired: number };
  outcomes: { succeeded: number; failed: number; neutral: number; ignored: number };
}

async function stats(): Promise<Stats> {
  return (await (await fetch(`${remuda.httpUrl}/v1/pools/default/stats`)).json()) as Stats; // The protocol's reply.
}

/** On a Debian machine, as root, missing tools are installed, so that `npm test` is the only command needed. */
function installTools(): void {
  const there = () =>
    existsSync(browser) &&
    spawnSync("curl", ["--version"]).status === 0 &&
    spawnSync(python, ["-c", findModules]).status === 0;
  if (there()) return;
  const install = `apt-get install -y --no-install-recommends ${debian.join(" ")}`;
  if (process.getuid?.() === 0) spawnSync("sh", ["-c", `apt-get update && ${install}`], { stdio: "inherit" });
  if (!there()) throw new Error(`the recipes are tried with tools that are missing here; as root: ${install}`);
}
