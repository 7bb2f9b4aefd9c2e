// The commands of docs/sites.md, run as they are written. Only the vendor's address is replaced.
import { rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import { cloneFolder, readPage, runBlock } from "../kit/page.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";

const folder = cloneFolder();
let remuda: RemudaProcess;
let vendor: Server;

beforeAll(async () => {
  vendor = createServer((_request, response) => response.end("192.0.2.1:80\n192.0.2.2:80\n"));
  await new Promise<void>((done) => vendor.listen(0, "127.0.0.1", done));
  remuda = await startRemuda({ dataDir: join(folder, ".remuda") });
}, 150_000);

afterAll(async () => {
  vendor?.close();
  await remuda?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("ten pools follow one list, and the doctor does not object", { timeout: 150_000 }, async () => {
  const { port } = vendor.address() as AddressInfo; // It listens on TCP.
  const page = readPage("sites.md").replace("https://vendor.example", `http://127.0.0.1:${port}`);
  const env = { REMUDA_NATS_PORT: "0", REMUDA_OUTBOUND_ALLOW: "127.0.0.0/8" };
  const { code, output } = await runBlock(page, "Ten sites", { folder, env });
  expect({ code, output }).toEqual({ code: 0, output });
  for (const pool of ["one", "ten"]) {
    await eventually(async () => {
      const response = await fetch(`${remuda.httpUrl}/v1/pools/${pool}/proxies`);
      const { proxies } = (await response.json()) as { proxies: { host: string }[] };
      expect(proxies.map(({ host }) => host).sort()).toEqual(["192.0.2.1", "192.0.2.2"]);
    });
  }
  const { code: doctorCode, stdout } = await runCommand(["doctor", "--json"], {
    dataDir: join(folder, ".remuda"),
    env,
  });
  const { findings } = JSON.parse(stdout) as { findings: { about: string }[] };
  expect(findings.filter(({ about }) => about === "pool ten")).not.toEqual([]);
  expect(findings.filter(({ about }) => about === "exits")).toEqual([]);
  expect(doctorCode).toBe(0);
});
