// Where a token's value may be, and where it must not be. The values are as unusual as a header allows. They are
// searched for in every form in which they could be written: in the ledger, logs, metrics, refusals and files on disk.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { eventually } from "../kit/poll.ts";

import { type Lease, lax, startWire, type Wire } from "./wire.ts";

const values = [
  'hush-"quoted"\\back\\slash',
  "hush <b>&amp;'</b>",
  '{"hush":["json",1]}',
  "hush%2541%00+/=~#?x=y",
  "hush-$&$1$`{token}%s%o",
  `hush-${"long".repeat(4000)}`,
];

let wire: Wire;
let site: GuestSite;
let proxy: ForwardProxy;

beforeAll(async () => {
  wire = await startWire({ REMUDA_LOG_LEVEL: "debug" });
  site = await startGuestSite();
  proxy = await startForwardProxy({ exit: "127.0.0.41", credentials: { username: "u", password: "hush-password" } });
}, 180_000);

afterAll(async () => {
  await wire?.stop();
  await Promise.all([site?.stop(), proxy?.stop()]);
});

/** The value as it is, and as written in JSON, in a URL, in base64 and in hex. */
function formsOf(value: string): string[] {
  const json = JSON.stringify(value).slice(1, -1);
  const bytes = Buffer.from(value);
  const base64 = bytes.toString("base64").slice(0, 24);
  return [value, json, JSON.stringify(json).slice(1, -1), encodeURIComponent(value), base64, bytes.toString("hex")];
}

function expectNowhere(where: string, text: string): void {
  for (const value of values) for (const form of formsOf(value)) expect(text.includes(form), where).toBe(false);
  expect(text.includes("hush-password"), where).toBe(false);
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
}

test("shows a value in replies only, however unusual it is and wherever the source, target and worker repeat it", async () => {
  const pool = "odd";
  const source = { url: `${site.url}/guest`, value: { jsonPointer: "/guest_token" } };
  await wire.open(pool, { ...lax, token: { scope: "pool", minAgeMs: 0, source, retry: { baseMs: 1 } } }, [proxy.url]);
  const { httpUrl } = wire.remuda;
  const post = (path: string, body: object) =>
    fetch(`${httpUrl}/v1/pools/${pool}${path}`, { method: "POST", body: JSON.stringify(body) });
  let told = "";
  for (const [i, value] of values.entries()) {
    // The first fetch fails, but the source still repeats the value in its headers and body.
    site.answer = (response) => {
      response.statusCode = i % 2 === 0 ? 403 : 200;
      response.setHeader("x-was", value);
      response.end(i % 2 === 0 ? JSON.stringify({ guest_token: value }) : value.slice(1));
    };
    const failed = await wire.ask("token.get", pool, { waitMs: 300 });
    expect(failed.json()).toMatchObject({ code: "token-unavailable" });
    told += failed.body;
    site.answer = (response) => void response.end(JSON.stringify({ guest_token: value }));
    await eventually(async () =>
      expect(await wire.ok("token.get", pool, { waitMs: 60_000 })).toMatchObject({ value: value }),
    );
    const lease = (await wire.lease(pool, { token: true, waitMs: 60_000 })) as Lease & { token: { value: string } };
    expect(lease.token.value).toBe(value);
    expect(await (await post("/token", {})).json()).toMatchObject({ value });
    // The target echoes it, and the worker reports that text.
    const { leaseId } = lease;
    const target = `https://target.example/x?t=${encodeURIComponent(value)}`;
    const repeated = { leaseId, status: 401, error: value, target, tokenRejected: true, tokenId: value };
    told += (await wire.ask("report", pool, { outcomes: [repeated] })).body; // It may be too long for an outcome.
    // The value in place of its id.
    const short = value.slice(0, 128);
    await wire.ok("token.reject", pool, { tokenId: short });
    for (const asked of [{ tokenId: value + short }, { tokenId: "t", proxyId: value }]) {
      const message = await wire.ask("token.reject", pool, asked);
      if (message.json<{ code?: string }>().code !== undefined) told += message.body;
      told += [...message.headers.values()].join();
    }
    told += (await wire.ask("token.get", pool, { proxyId: value })).body;
    told += await (await post("/token/reject", { tokenId: short, proxyId: value })).text();
    told += await (await post("/token", { proxyId: value })).text();
    const { tokenId } = await wire.ok<{ tokenId: string }>("token.get", pool, { waitMs: 60_000 });
    site.answer = (response) => void response.writeHead(500).end();
    await wire.ok("token.reject", pool, { tokenId });
  }
  const history = await runCommand(["token", "history", "--pool", pool], { dataDir: wire.dataDir, env: {} });
  expect(history.stdout).toContain("was rejected");
  for (const { bytes } of await wire.ledger(pool)) expectNowhere("the ledger", bytes.toString());
  expectNowhere("a refusal", told);
  expectNowhere("the history", history.stdout + history.stderr);
  expectNowhere("the metrics", await (await fetch(`${httpUrl}/metrics`)).text());
  expectNowhere(
    "the lists",
    JSON.stringify(await wire.ok("leases.list", pool)) + JSON.stringify(await wire.stats(pool)),
  );
  expectNowhere("the logs", wire.remuda.output());
  expect(wire.remuda.output()).toContain("a token could not be fetched");
  const files = filesIn(wire.dataDir);
  expect(files.length).toBeGreaterThan(5);
  for (const file of files) expectNowhere(file, readFileSync(file, "latin1"));
}, 90_000);
