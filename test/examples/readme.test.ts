// Runs every command and program in the README as a reader would, against a running service.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nodesAtHand, packAndInstall } from "../client/installed.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { cloneFolder } from "../kit/page.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { startTarget, type Target } from "../kit/target.ts";

const root = new URL("../..", import.meta.url).pathname;
const readme = readFileSync(join(root, "README.md"), "utf8");
let remuda: RemudaProcess;
let folder: string;

beforeAll(async () => {
  folder = cloneFolder();
  remuda = await startRemuda({ dataDir: join(folder, ".remuda") });
});

afterAll(async () => {
  await remuda?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function block(language: string, containing: string): string {
  const blocks = [...readme.matchAll(/```(\w+)\n([\s\S]*?)```/g)].filter(([, name]) => name === language);
  const found = blocks.find(([, , code]) => code?.includes(containing) === true)?.[2];
  if (found === undefined) throw new Error(`the README has no ${language} block with ${containing}`);
  return found;
}

async function run(
  command: string,
  args: string[],
  { of = remuda, cwd = folder } = {},
): Promise<{ code: number | null; output: string }> {
  const env = { ...process.env, REMUDA_NATS_URL: of.natsUrl, REMUDA_HTTP_URL: of.httpUrl, NODE_OPTIONS: "" };
  Object.assign(env, { REMUDA_GATEWAY_URL: of.gatewayUrl });
  const child = spawn(command, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output };
}

test("the shell block adds proxies, takes a lease and reports it", async () => {
  const script = block("sh", "proxies add").replaceAll("npx remuda", `"${process.execPath}" cli/main.ts`);
  const { code, output } = await run("sh", ["-euc", script]);
  expect(output).toMatch(/3 added/);
  expect(output).toMatch(/succeeded\s+1\b|"succeeded":\s*1/);
  expect(code).toBe(0);
});

test("the curl block takes a lease over HTTP", async () => {
  const { code, output } = await run("sh", ["-euc", block("sh", "curl -s -d")]);
  expect(JSON.parse(output)).toMatchObject({ leaseId: expect.stringMatching(/^l_/), pool: "default" });
  expect(code).toBe(0);
});

describe("with a real proxy", () => {
  let real: RemudaProcess;
  let proxy: ForwardProxy;
  let target: Target;
  let project: string;

  beforeAll(async () => {
    project = mkdtempSync(join(tmpdir(), "remuda-readme-project-"));
    packAndInstall(project);
    target = await startTarget();
    proxy = await startForwardProxy({ exit: "127.0.0.2" });
    real = await startRemuda({ dataDir: join(project, ".remuda") });
    const added = await fetch(`${real.httpUrl}/v1/pools/default/proxies`, { method: "POST", body: proxy.url });
    expect(added.status).toBe(200);
  }, 240_000);

  afterAll(async () => {
    await real?.stop();
    await Promise.all([proxy?.stop(), target?.stop()]);
    rmSync(project, { recursive: true, force: true });
  });

  const here = (code: string) => code.replaceAll("https://example.com/", target.url);

  test("the first example goes through it, without code", async () => {
    const { code, output } = await run("sh", ["-euc", here(block("sh", "curl -s -x"))], { of: real, cwd: project });
    expect([output, code]).toEqual(["seen\n", 0]);
    expect(target.countByExit()).toEqual(new Map([["127.0.0.2", 1]]));
  });

  test("the JavaScript block fetches through it, with every Node that is installed", async () => {
    writeFileSync(join(project, "first.mjs"), here(block("js", "remuda.fetch")));
    for (const [index, node] of [...nodesAtHand().values()].entries()) {
      const { code, output } = await run(node, ["first.mjs"], { of: real, cwd: project });
      expect([output, code]).toEqual(["200 5\n", 0]);
      expect(target.countByExit()).toEqual(new Map([["127.0.0.2", index + 2]]));
    }
  });

  test("the Python block fetches through it, and reports", async () => {
    const { code, output } = await run("python3", ["-c", here(block("python", "urllib"))], { of: real, cwd: project });
    expect(output).toBe("127.0.0.2 {'status': 200} {'accepted': 1, 'ignored': [], 'ignoredCount': 0, 'stop': []}\n");
    expect(code).toBe(0);
    expect(target.countByExit()).toEqual(new Map([["127.0.0.2", nodesAtHand().size + 2]]));
  });
});

test("the two commands are scripts of package.json", () => {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    scripts: Record<string, string>;
  };
  expect(block("sh", "npm ci && npm start")).toContain("npm ci && npm test");
  expect(scripts).toMatchObject({
    // Instead of npm's shell. That would keep a SIGTERM to itself and leave the service running.
    start: "exec node cli/remuda.js up",
    test: "vitest run",
    sim: expect.any(String),
    bench: expect.any(String),
  });
});

test("`npm start` ends all its processes when it is signalled", async () => {
  const where = mkdtempSync(join(tmpdir(), "npm-start-"));
  const env = { ...process.env, REMUDA_DATA_DIR: where, REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0" };
  const npm = spawn("npm", ["start"], { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = once(npm, "exit");
  let said = "";
  for (const stream of [npm.stdout, npm.stderr]) stream.on("data", (chunk) => (said += chunk));
  await eventually(() => expect(said).toContain("remuda is ready"), { timeoutMs: 60_000 });
  const { pid } = JSON.parse(readFileSync(join(where, "owner.json"), "utf8"));
  npm.kill("SIGTERM");
  try {
    await ended;
    await eventually(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"));
  } finally {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGINT");
    await eventually(() => expect(existsSync(`/proc/${pid}`)).toBe(false));
    rmSync(where, { recursive: true, force: true, maxRetries: 20 });
  }
}, 120_000);
