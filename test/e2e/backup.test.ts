// A backup of a service under load, restored elsewhere. No limit is exceeded, although leases were granted after it.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

let folder: string;
let dataDir: string;
let backup: string;
let keyFile: string;
let first: RemudaProcess;

/** Short, so that the pause after the restoration is over soon. */
const policy = {
  rate: { limit: 2, windowMs: 1500 },
  lease: { ttlMs: 1000, ttlMsMax: 1000, graceMs: 0 },
  marginMs: 0,
  usage: { limit: 100, restMs: 1000 },
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "remuda-backup-"));
  [dataDir, backup, keyFile] = [join(folder, "first"), join(folder, "backup"), join(folder, "apart.key")];
  first = await startRemuda({ dataDir });
}, 150_000);

afterAll(async () => {
  await stopAllRemudas();
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
});

type Reply = Record<string, unknown>;

async function asking<T>(service: RemudaProcess, use: (ask: (subject: string, body?: object) => Promise<Reply>) => T) {
  const nats: RawNats = await connectRaw(service.natsUrl);
  try {
    return await use(async (subject, body = {}) => (await nats.request(subject, JSON.stringify(body))).json<Reply>());
  } finally {
    await nats.close();
  }
}

function filesIn(path: string): string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true }).map((each) => join(each.parentPath, each.name));
}

test("backs up under load, and an empty installation goes on from there within all limits", async () => {
  let lastBefore = 0;
  await asking(first, async (ask) => {
    await ask("remuda.pool.open.shop", { policy });
    await ask("remuda.pool.open.old");
    await ask("remuda.pool.close.old");
    const proxies = Array.from({ length: 20 }, (_, i) => ({
      url: `http://user${i}:hush-${i}@127.0.0.2:${8000 + i}`,
      labels: { exit: `e${i}` },
    }));
    await ask("remuda.proxies.add.shop", { proxies });
    let isOver = false;
    const load = async (): Promise<void> => {
      while (!isOver) {
        const lease = await ask("remuda.lease.shop", { waitMs: 500 });
        if (lease["leaseId"] !== undefined)
          await ask("remuda.report.shop", { leaseId: lease["leaseId"], result: "success" });
      }
    };
    const loads = Promise.all([load(), load(), load()]).catch(() => {});
    const open = await ask("remuda.lease.shop", { ttlMs: 1000 });
    expect(open).toHaveProperty("leaseId");
    const made = await runCommand(["backup", backup, "--key", keyFile], { dataDir });
    expect(made).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/has 3 pools with \d+ commits/) });
    isOver = true;
    await loads;
    // Granted after the backup: its uses are unknown to the new installation.
    await eventually(async () => expect(await ask("remuda.lease.shop")).toHaveProperty("leaseId"));
    lastBefore = Date.now();
  });
  await first.interrupt();

  for (const path of [keyFile, ...filesIn(backup)]) {
    expect(statSync(path).mode & 0o077).toBe(0);
    if (statSync(path).isFile()) expect(readFileSync(path, "latin1")).not.toContain("hush-");
  }
  const secret = readFileSync(keyFile, "utf8").trim();
  for (const path of filesIn(backup))
    if (statSync(path).isFile()) expect(readFileSync(path, "latin1")).not.toContain(secret);
  // It must not be restored beside what is there, nor without the key, nor from a damaged folder.
  const again = { dataDir };
  expect(await runCommand(["restore", backup, "--key", keyFile], again)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/nats exists: the data directory already has an installation/),
  });
  const other = { dataDir: join(folder, "second") };
  expect(await runCommand(["restore", backup], other)).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/there is no key .*Name the copy that was kept apart: --key <file>/),
  });
  expect(existsSync(join(other.dataDir, "key"))).toBe(false);
  expect(readdirSync(folder).filter((name) => name.endsWith(".part"))).toEqual([]);
  const secrets = join(backup, "secrets.ndjson");
  const whole = readFileSync(secrets);
  writeFileSync(secrets, whole.subarray(1));
  expect(await runCommand(["restore", backup, "--key", keyFile], other)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/secrets\.ndjson is damaged\. Use another backup/),
  });
  writeFileSync(secrets, whole);
  chmodSync(secrets, 0o600);
  mkdirSync(other.dataDir);
  writeFileSync(join(other.dataDir, "key"), "a key of another installation, of 32 bytes\n", { mode: 0o600 });
  expect(await runCommand(["restore", backup, "--key", keyFile], other)).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/second\/key is there already, with another key\. Move it away/),
  });
  rmSync(join(other.dataDir, "key"));

  const restored = await runCommand(["restore", backup, "--key", keyFile], other);
  expect(restored).toMatchObject({ code: 0, stderr: "" });
  expect(restored.stdout).toMatch(/^shop: \d+ commits, the last at .*; no lease is granted before \d{4}-/m);
  expect(restored.stdout).toMatch(/Uncertain: the usage quotas of 20 exits may be used up further than recorded/);
  expect(restored.stdout).toMatch(/^old: \d+ commits, .*; closed$/m);
  const rotated = await runCommand(["key", "rotate"], other);
  expect(rotated).toMatchObject({ code: 0, stdout: expect.stringMatching(/\d+ entries are sealed with the new key/) });

  const second = await startRemuda(other);
  await asking(second, async (ask) => {
    const refused = await ask("remuda.lease.shop", { waitMs: 100 });
    if (refused["leaseId"] === undefined) expect(refused).toMatchObject({ code: "unavailable" });
    const lease = await eventually(async () => {
      const granted = await ask("remuda.lease.shop");
      expect(granted).toHaveProperty("leaseId");
      return granted;
    });
    // At least the longest lease and the window after the last lease that the first installation granted.
    expect(Date.now() - lastBefore).toBeGreaterThan(2500);
    expect(lease["password"]).toMatch(/^hush-\d+$/);
    await ask("remuda.report.shop", { leaseId: lease["leaseId"], result: "success" });
    expect(await ask("remuda.pool.list.all")).toMatchObject({ pools: [{ pool: "default" }, { pool: "shop" }] });
  });
  for (const pool of ["shop", "old"]) {
    const verified = await runCommand(["audit", "verify", "--pool", pool], other);
    expect(verified).toMatchObject({ code: 0, stdout: expect.stringContaining("Nothing is wrong") });
  }
  const doctor = await runCommand(["doctor"], other);
  expect(doctor.stdout).not.toMatch(/^problem/m);
  expect((await fetch(`${second.httpUrl}/readyz`)).status).toBe(200);
}, 120_000);
