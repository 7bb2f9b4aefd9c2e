// Every command and program in the README, run as a reader would, against a running service.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";

const root = new URL("../..", import.meta.url).pathname;
const readme = readFileSync(join(root, "README.md"), "utf8");
let remuda: RemudaProcess;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "remuda-readme-"));
  // What a clone has: npx finds the command, and an import the client.
  for (const name of ["node_modules", "package.json", "cli", "runtime", "services", "events", "state-machines"]) {
    symlinkSync(join(root, name), join(folder, name));
  }
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

async function run(command: string, args: string[]): Promise<{ code: number | null; output: string }> {
  const env = { ...process.env, REMUDA_NATS_URL: remuda.natsUrl, REMUDA_HTTP_URL: remuda.httpUrl, NODE_OPTIONS: "" };
  const child = spawn(command, args, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output };
}

test("the shell block adds proxies, leases one, reports it", { timeout: 60_000 }, async () => {
  const script = block("sh", "proxies add").replaceAll("npx remuda", `"${process.execPath}" cli/main.ts`);
  const { code, output } = await run("sh", ["-euc", script]);
  expect(output).toMatch(/3 added/);
  expect(output).toMatch(/succeeded\s+1\b|"succeeded":\s*1/);
  expect(code).toBe(0);
});

test("the curl block takes a lease over HTTP", async () => {
  const { code, output } = await run("sh", ["-euc", block("sh", "curl -s")]);
  expect(JSON.parse(output)).toMatchObject({ leaseId: expect.stringMatching(/^l_/), pool: "default" });
  expect(code).toBe(0);
});

test("the TypeScript block takes a lease and says how it went", async () => {
  const { code, output } = await run(process.execPath, [
    "--input-type=module-typescript",
    "-e",
    block("ts", "nc.request"),
  ]);
  expect(output).toMatch(/^use \w+:\/\/.* until [\d.]+$/m);
  expect(code).toBe(0);
});

test("the Python block takes a lease over a bare socket", async () => {
  const { code, output } = await run("python3", ["-c", block("python", "socket")]);
  expect(output).toMatch(/^l_\S+ 127\.0\.0\.\d \d+ \d+$/m);
  expect(code).toBe(0);
});

test("the two commands are scripts of package.json", () => {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    scripts: Record<string, string>;
  };
  expect(block("sh", "npm ci && npm start")).toContain("npm ci && npm test");
  expect(scripts).toMatchObject({
    start: "node cli/main.ts up",
    test: "vitest run",
    sim: expect.any(String),
    bench: expect.any(String),
  });
});
