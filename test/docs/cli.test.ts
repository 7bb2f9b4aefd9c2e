// Every line of the command line's page that can be run, run as a reader would, one after the other.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { examples } from "../../cli/examples.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { startTarget, type Target } from "../kit/target.ts";

const root = new URL("../..", import.meta.url).pathname;
const page = readFileSync(join(root, "docs/cli.md"), "utf8");
let folder: string;
let remuda: RemudaProcess;
let proxy: ForwardProxy;
let target: Target;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "remuda-cli-page-"));
  for (const name of ["node_modules", "package.json", "cli", "runtime", "services", "events", "state-machines"]) {
    symlinkSync(join(root, name), join(folder, name));
  }
  target = await startTarget();
  proxy = await startForwardProxy({ exit: "127.0.0.2" });
  remuda = await startRemuda({ dataDir: join(folder, ".remuda") });
}, 150_000);

afterAll(async () => {
  await remuda?.stop();
  await proxy?.stop();
  await target?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** The blocks under a heading, with this test's proxy and target in place of the page's. */
async function run(heading: string): Promise<{ code: number | null; output: string }> {
  const [, section = ""] = page.split(`## ${heading}\n`);
  const [, script = ""] = /```sh\n([\s\S]*?)```/.exec(section.split("\n## ")[0] ?? "") ?? [];
  if (script === "") throw new Error(`the page has no block under ${heading}`);
  const here = script
    .replaceAll("npx remuda", `"${process.execPath}" cli/main.ts`)
    .replaceAll("127.0.0.2:8080", `${proxy.host}:${proxy.port}`)
    .replaceAll("https://example.com/", target.url);
  const env = { ...process.env, REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0", NODE_OPTIONS: "" };
  const child = spawn("sh", ["-euc", here], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output };
}

test.each([
  ["Proxies", [/1 read: 1 added/, /1 read: 0 added, 1 already there, 0 updated/, /country=DE/, /^1 changed/m]],
  ["A lease, step by step", [/^accepted$/m, /^returned +2$/m]],
  ["exec", [/^seen\nseen\nseen\n$/]],
  ["Pools", [/shop is open, version 1/, /shop has its policy, version 2/, /closes when its last lease has ended/]],
  ["sources", [/rest is followed;/, /^last.added +0|^proxies +1/m, /^rest +pool +1/m, /rest is followed no longer/]],
  ["watch", [/PoolOpened/, /"type":"LeaseGranted"/]],
  ["audit", [/Nothing is wrong/, /the pool was open/, /^LeaseGranted +\d+$/m, /all \d+ events came out as recorded/]],
  ["doctor", [/^ok +pool default/m, /0 problems|All is well/]],
] as const)("the lines under %s do what the page says", { timeout: 60_000 }, async (heading, said) => {
  const { code, output } = await run(heading);
  for (const each of said) expect(output).toMatch(each);
  expect({ code, output }).toEqual({ code: 0, output });
});

test("what ran through the proxy came from its exit", () => {
  expect(target.arrivals.map(({ exit }) => exit)).toEqual(["127.0.0.2", "127.0.0.2", "127.0.0.2"]);
});

test("the page has every command", () => {
  for (const command of Object.keys(examples)) {
    const [group = "", verb = group] = command.split(" ");
    expect(page).toMatch(new RegExp(`\`${group}\\b[^|]*\\b${verb}\\b|\`${verb}\``));
  }
});
