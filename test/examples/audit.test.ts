// Runs every runnable line of the audit page as a reader would, against a service with a recorded history.
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cloneFolder, readPage, runBlock } from "../kit/page.ts";
import { type Lease, startWire, type Wire } from "../protocol/wire.ts";

const root = new URL("../..", import.meta.url).pathname;
const page = readPage("audit.md");
let wire: Wire;
let folder: string;
let lease: Lease;
let moment: number;

beforeAll(async () => {
  wire = await startWire();
  folder = cloneFolder();
  await wire.ok("pool.policy", "default", { policy: { rate: { limit: 20 } } });
  const proxies = ["192.0.2.1:80", "192.0.2.2:80"].map((url) => ({ url, labels: { country: "DE" } }));
  await wire.ok("proxies.add", "default", { proxies });
  for (const outcome of [{ status: 200, latencyMs: 80 }, { status: 403 }]) {
    lease = await wire.lease("default", { holder: "worker-1", session: "basket-1" });
    await wire.report("default", { leaseId: lease.leaseId, ...outcome });
  }
  moment = (await wire.ledger("default")).at(-1)!.commit.at;
}, 150_000);

afterAll(async () => {
  await wire?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const run = (heading: string) =>
  runBlock(page, heading, {
    folder,
    env: {
      REMUDA_DATA_DIR: wire.dataDir,
      REMUDA_HTTP_URL: wire.remuda.httpUrl ?? "",
      PROXY: lease.proxyId,
      LEASE: lease.leaseId,
      MOMENT: String(moment),
    },
  });

test.each([
  [
    "Explain",
    [/failure 1 in a row \(blocked\): 30 s · 2\^1 = 1 min/, /The session basket-1 was bound/, /resting \(cooling\)/],
  ],
  [
    "Export and SQL",
    [
      /^class +uses +ms$/m,
      /^success +1 +80/m,
      /backoff/,
      /^\{"holder":"worker-1","leases":2,"used":2\}$/m,
      /^192\.0\.2\.1/m,
    ],
  ],
  ["What if", [/^leases granted +2 +2$/m, /all \d+ events came out as recorded/, /"isExact":true/]],
  ["Report", [/^report\.html: \d+ commits, no findings$/m]],
  ["Seals and heads", [/Nothing is wrong\./, /which is the given public key/]],
  ["The past", [/^state +cooling/m, /open at both moments/, /"type":"RestBegan"/]],
] as const)("the lines under %s do what the page says", { timeout: 120_000 }, async (heading, said) => {
  const { code, output } = await run(heading);
  for (const each of said) expect(output).toMatch(each);
  expect({ code, output }).toEqual({ code: 0, output });
});

test("the page lists every command of the audit", async () => {
  const help = spawn(process.execPath, [join(root, "cli/main.ts"), "audit", "--help"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let text = "";
  help.stdout.on("data", (chunk) => (text += chunk));
  await new Promise((resolve) => help.on("close", resolve));
  const commands = [...text.matchAll(/^ {2}([a-z-]+) \[options\]/gm)].map(([, name]) => name);
  expect(commands.length).toBeGreaterThanOrEqual(11);
  for (const name of commands) expect(page).toContain(`remuda audit ${name}`);
});
