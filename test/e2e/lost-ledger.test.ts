// A ledger that is gone, or ends before its last acknowledged commit, is never led. Only an operator can give it up.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ledgerStream, ledgerSubject, secretsBucket } from "../../protocol/subjects.ts";
import { runCommand } from "../kit/command.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";

let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "remuda-lost-"));
});

afterEach(async () => {
  await stopAllRemudas();
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
});

async function ask(service: RemudaProcess, subject: string, body: object = {}, as = "operator") {
  const nats = await connectRaw(service.natsUrlAs(as));
  try {
    return (await nats.request(subject, JSON.stringify(body))).json<Record<string, unknown>>();
  } finally {
    await nats.close();
  }
}

async function readiness({ httpUrl }: RemudaProcess): Promise<{ status: number; message?: string }> {
  const answer = await fetch(`${httpUrl}/readyz`);
  return { status: answer.status, ...((await answer.json()) as { message?: string }) };
}

/** A service with two pools. Each has a proxy at its limit. */
async function servicesWithSpentPools(): Promise<RemudaProcess> {
  const service = await startRemuda({ dataDir });
  for (const pool of ["default", "shop"]) {
    await ask(service, `remuda.pool.open.${pool}`, { policy: { rate: { limit: 1, windowMs: 3_600_000 } } });
    await ask(service, `remuda.proxies.add.${pool}`, { proxies: ["127.0.0.2:8080"] });
    expect(await ask(service, `remuda.lease.${pool}`)).toHaveProperty("leaseId");
  }
  return service;
}

const at = (service: RemudaProcess) => ({ dataDir, env: { REMUDA_NATS_URL: service.bareNatsUrl } });

test("does not lead a pool whose ledger was purged until an operator forgets it; the other pools are served", async () => {
  const first = await servicesWithSpentPools();
  await ask(first, `$JS.API.STREAM.PURGE.${ledgerStream}`, { filter: ledgerSubject("shop") }, "ledger");
  await first.kill9();
  rmSync(join(dataDir, "witness"), { recursive: true }); // The bucket has it as well.
  const service = await startRemuda({ dataDir });
  const gone = /The ledger of pool shop is gone: it had \d+ commits/;
  expect(await ask(service, "remuda.pool.get.shop")).toMatchObject({
    code: "unavailable",
    message: expect.stringMatching(gone),
  });
  expect(await ask(service, "remuda.pool.open.shop")).toMatchObject({ code: "unavailable" });
  expect(await ask(service, "remuda.lease.default")).toMatchObject({ code: "pool-exhausted" });
  expect(await readiness(service)).toMatchObject({ status: 503, message: expect.stringMatching(gone) });
  expect(service.output()).toMatch(gone);
  expect(await (await fetch(`${service.httpUrl}/metrics`)).text()).toContain('\nremuda_pool_unusable{pool="shop"} 1\n');
  const doctor = await runCommand(["doctor"], at(service));
  expect(doctor.stdout).toMatch(gone);
  const opened = await runCommand(["pool", "open", "--pool", "shop", "--forget"], at(service));
  expect(opened).toMatchObject({ code: 0, stdout: expect.stringContaining("shop is open") });
  expect(opened.stderr).toMatch(gone);
  expect(await readiness(service)).toMatchObject({ status: 200 });
  expect(await ask(service, "remuda.proxies.list.shop")).toMatchObject({ proxies: [] });
  // The forgotten commits stay forgotten.
  await service.interrupt();
  const last = await startRemuda({ dataDir });
  expect(await readiness(last)).toMatchObject({ status: 200 });
}, 90_000);

test("starts, and leads nothing, when the stream of ledgers was deleted", async () => {
  const first = await servicesWithSpentPools();
  await ask(first, `$JS.API.STREAM.DELETE.${ledgerStream}`, {}, "ledger");
  // The data directory has it as well.
  await ask(first, `$JS.API.STREAM.PURGE.KV_${secretsBucket}`, { filter: `$KV.${secretsBucket}._witness.*` }, "ledger");
  await first.kill9();
  const service = await startRemuda({ dataDir });
  for (const pool of ["default", "shop"])
    expect(await ask(service, `remuda.pool.open.${pool}`)).toMatchObject({ code: "unavailable" });
  const { status, message } = await readiness(service);
  expect(status).toBe(503);
  expect(message).toMatch(/pool default is gone.*pool shop is gone|pool shop is gone.*pool default is gone/);
  const answer = await ask(service, "remuda.pool.open.default", { forget: true });
  expect(answer).toMatchObject({ pool: "default", warnings: [expect.stringContaining("is gone: it had")] });
}, 60_000);
