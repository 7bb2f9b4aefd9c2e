// Where a proxy's user name may be, and where it must not be. Vendors put API keys in it, so it is a secret like a
// password. Leases and the operator's export have it. The ledger, lists, the audit, logs and files have a masked form.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import { type Added, type Lease, lax, startWire, type Wire } from "./wire.ts";

const key = "ZYTE0123456789abcdefAPIKEY";
const oddKey = "SCR/p%40py:key+=9&";
const entries = [
  `http://${key}@10.6.0.1:8011`,
  `http://${key}:hush-one@10.6.0.2:8011`,
  `socks5://${encodeURIComponent(oddKey)}:hush-two%2F@10.6.0.3:1080`,
  { url: "http://10.6.0.4:8011:user:hush-three" },
  "http://10.6.0.5:8011",
];
const pool = "keys";

let wire: Wire;
beforeAll(async () => {
  wire = await startWire({ REMUDA_LOG_LEVEL: "debug" });
}, 60_000);
afterAll(() => wire?.stop());

/** Also as in JSON, in a URL, in base64 and in hex. Five characters are more than the masked form shows. */
function expectNowhere(where: string, text: string): void {
  for (const secret of [key, oddKey, key.slice(0, 5), key.slice(-6), oddKey.slice(0, 5), "hush-"]) {
    const bytes = Buffer.from(secret);
    const base64 = bytes.length < 12 ? [] : [bytes.toString("base64").slice(0, 24)];
    const forms = [secret, encodeURIComponent(secret), bytes.toString("hex"), ...base64];
    for (const form of forms) expect(text.includes(form), `${where} has ${form}`).toBe(false);
  }
}

const run = (...args: string[]) => runCommand([...args, "--pool", pool], { dataDir: wire.dataDir });

test("shows a user name only to leases and to the operator's export", async () => {
  await wire.open(pool, lax, entries);
  expect(await wire.ok<Added>("proxies.add", pool, { proxies: entries })).toMatchObject({ added: 0, already: 5 });
  const listed = await wire.proxies(pool);
  expect(Object.fromEntries(listed.map(({ host, username }) => [host, username]))).toEqual({
    "10.6.0.1": "ZYT…",
    "10.6.0.2": "ZYT…",
    "10.6.0.3": "SCR…",
    "10.6.0.4": "u…",
    "10.6.0.5": undefined,
  });

  const leases: Lease[] = [];
  for (const { id } of listed) leases.push(await wire.lease(pool, { proxyId: id }));
  expect(leases.map(({ url }) => url).toSorted()).toEqual([
    "http://10.6.0.5:8011",
    `http://${key}:hush-one@10.6.0.2:8011`,
    `http://${key}@10.6.0.1:8011`,
    "http://user:hush-three@10.6.0.4:8011",
    `socks5://${encodeURIComponent(oddKey)}:hush-two%2F@10.6.0.3:1080`,
  ]);
  expect(leases.find(({ host }) => host === "10.6.0.1")).toMatchObject({ username: key });
  expect(leases.find(({ host }) => host === "10.6.0.3")).toMatchObject({ username: oddKey, password: "hush-two/" });
  const overHttp = await fetch(`${wire.remuda.httpUrl}/v1/pools/${pool}/leases`, { method: "POST" });
  expect(leases.map(({ url }) => url)).toContain(((await overHttp.json()) as Lease).url);

  const exported = await run("proxies", "export", "--format", "lines");
  expect(exported.stdout.trimEnd().split("\n").toSorted()).toEqual(leases.map(({ url }) => url).toSorted());
  await wire.open("copy", lax);
  await runCommand(["proxies", "add", "--pool", "copy", "-"], { dataDir: wire.dataDir, stdin: exported.stdout });
  expect((await wire.proxies("copy")).map(({ id }) => id)).toEqual(listed.map(({ id }) => id));

  const [{ leaseId = "" } = {}] = leases;
  await wire.report(pool, { leaseId, n: 1, status: 403 });
  const rejected = await wire.ok<Added>("proxies.add", pool, {
    proxies: [`${key}@10.6.0.6`, `10.6.0.7:99999:${key}:hush-four`, { url: `http://${key}:hush@169.254.169.254:80` }],
  });
  expect(rejected).toMatchObject({ added: 0, rejectedCount: 3 });

  const { httpUrl } = wire.remuda;
  const read = async (path: string) => (await fetch(`${httpUrl}${path}`)).text();
  expectNowhere("the reply to add", JSON.stringify(rejected));
  for (const { bytes } of await wire.ledger(pool)) expectNowhere("the ledger", bytes.toString());
  expectNowhere("a list of proxies", (await wire.ask("proxies.list", pool, {})).body);
  for (const { id } of listed) expectNowhere("a proxy", (await wire.ask("proxies.get", pool, { id })).body);
  expectNowhere("a list of leases", (await wire.ask("leases.list", pool, {})).body);
  expectNowhere("the stats", (await wire.ask("pool.stats", pool)).body);
  for (const path of ["/proxies", "/leases", "/stats"]) expectNowhere(path, await read(`/v1/pools/${pool}${path}`));
  expectNowhere("the metrics", await read("/metrics"));
  expectNowhere("the events", await eventsOverHttp());
  expectNowhere("the past", (await wire.ask("audit.proxies", pool, { at: Date.now() })).body);
  const proxyId = leases[0]?.proxyId ?? "";
  for (const args of [
    ["events"],
    ["events", "--json"],
    ["explain", leaseId],
    ["explain", proxyId],
    ["state", "--json"],
    ["verify"],
    ["export", "--format", "csv"],
    ["report", "--html", join(wire.dataDir, "report.html")], // It is among the files below.
    ["sql", "SELECT * FROM proxies"],
    ["sql", "--json", "SELECT * FROM events"],
  ]) {
    const { code, stdout, stderr } = await run("audit", ...args);
    expect([args.join(" "), code, stderr]).toEqual([args.join(" "), 0, expect.any(String)]);
    expect(stdout.length, args.join(" ")).toBeGreaterThan(10);
    expectNowhere(`audit ${args.join(" ")}`, stdout + stderr);
  }
  for (const args of [["list"], ["list", "--json"], ["get", proxyId]]) {
    const { stdout, stderr } = await run("proxies", ...args);
    expectNowhere(`proxies ${args.join(" ")}`, stdout + stderr);
  }
  expectNowhere("the logs", wire.remuda.output());
  const files = readdirSync(wire.dataDir, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  expect(files.length).toBeGreaterThan(5);
  for (const { parentPath, name } of files)
    expectNowhere(join(parentPath, name), readFileSync(join(parentPath, name), "latin1"));
}, 90_000);

/** The pool's events from the first, up to the one lease that was reported. */
async function eventsOverHttp(): Promise<string> {
  const gone = new AbortController();
  const { body } = await fetch(`${wire.remuda.httpUrl}/v1/pools/${pool}/events?from=0`, { signal: gone.signal });
  let text = "";
  for await (const part of body ?? []) {
    text += Buffer.from(part).toString();
    if (text.includes("UseReported")) break;
  }
  gone.abort();
  expect(text).toContain("ProxyAdded");
  return text;
}
