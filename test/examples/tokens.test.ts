// Runs the commands of the guest token page as a reader would, against a site that issues tokens.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { cloneFolder, readPage, runBlock } from "../kit/page.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";

let folder: string;
let remuda: RemudaProcess;
let site: GuestSite;
let proxy: ForwardProxy;

beforeAll(async () => {
  folder = cloneFolder();
  site = await startGuestSite();
  proxy = await startForwardProxy({ exit: "127.0.0.72" });
  remuda = await startRemuda({ dataDir: join(folder, ".remuda") });
  const added = await fetch(`${remuda.httpUrl}/v1/pools/default/proxies`, { method: "POST", body: proxy.url });
  expect(added.status).toBe(200);
}, 150_000);

afterAll(async () => {
  await remuda?.stop();
  await Promise.all([site?.stop(), proxy?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

test("the first lines give a pool a source, and a token comes from it, through a proxy", {
  timeout: 60_000,
}, async () => {
  const page = readPage("tokens.md").replace(/^# /, "## ");
  const put = { "https://target.example": site.url };
  const { code, output } = await runBlock(page, "Guest tokens", { folder, put });
  expect({ code, output }).toEqual({ code: 0, output });
  expect(output).toMatch(/^default has its policy, version 2$/m);
  expect(output).toMatch(/^value +secret-guest-1$/m);
  expect(site.minted.map(({ exit }) => exit)).toEqual(["127.0.0.72"]);
});
