// Runs every runnable line of the command line's page in order, as a reader would.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { examples } from "../../cli/examples.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { cloneFolder, readPage, runBlock } from "../kit/page.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";
import { startTarget, type Target } from "../kit/target.ts";

const page = readPage("cli.md");
let folder: string;
let remuda: RemudaProcess;
let proxy: ForwardProxy;
let target: Target;

beforeAll(async () => {
  folder = cloneFolder();
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

/** With this test's proxy and target in place of the page's. */
const run = (heading: string) =>
  runBlock(page, heading, {
    folder,
    env: { REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0" },
    put: { "127.0.0.2:8080": `${proxy.host}:${proxy.port}`, "https://example.com/": target.url },
  });

test.each([
  ["Proxies", [/1 read: 1 added/, /1 read: 0 added, 1 already there, 0 updated/, /country=DE/, /^1 changed/m]],
  ["A lease, step by step", [/^accepted$/m, /^returned +2$/m]],
  ["exec", [/^seen\nseen\nseen\n$/]],
  ["Pools", [/shop is open, version 1/, /shop has its policy, version 2/, /closes when its last lease has ended/]],
  ["sources", [/copy is followed;/, /^last.added +0|^proxies +1/m, /^copy +pool +1/m, /copy is no longer followed/]],
  ["watch", [/PoolOpened/, /"type":"LeaseGranted"/]],
  ["audit", [/Nothing is wrong/, /the pool was open/, /^LeaseGranted +\d+$/m, /all \d+ events came out as recorded/]],
  ["doctor", [/^ok +pool default/m, /0 problems|All is well/]],
] as const)("the lines under %s do what the page says", { timeout: 120_000 }, async (heading, said) => {
  const { code, output } = await run(heading);
  for (const each of said) expect(output).toMatch(each);
  expect({ code, output }).toEqual({ code: 0, output });
});

test("requests through the proxy came from its exit", () => {
  expect(target.arrivals.map(({ exit }) => exit)).toEqual(["127.0.0.2", "127.0.0.2", "127.0.0.2"]);
});

test("the page lists every command", () => {
  for (const command of Object.keys(examples)) {
    const [group = "", verb = group] = command.split(" ");
    expect(page).toMatch(new RegExp(`\`${group}\\b[^|]*\\b${verb}\\b|\`${verb}\``));
  }
});
