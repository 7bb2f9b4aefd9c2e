// The services as separate processes, as `remuda run` starts them: HTTP without a picker, and with a picker that stops
// and starts.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { type Call, callerOf } from "./http.ts";

let broker: TestBroker;
let api: RemudaProcess;
let call: Call;
let dataDir: string;

const run = (service: string): Promise<RemudaProcess> =>
  startRemuda({ dataDir, args: ["run", service], env: { REMUDA_NATS_URL: broker.url } });

beforeAll(async () => {
  broker = await startTestBroker();
  dataDir = await mkdtemp(join(tmpdir(), "api-apart-"));
  api = await run("api");
  call = callerOf(api.httpUrl ?? "");
}, 150_000);
afterAll(async () => {
  await stopAllRemudas();
  await broker?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

test("answers `unavailable` without a picker, works with one, and keeps a pool between two leaders", async () => {
  expect((await call("GET /livez")).status).toBe(200);
  for (const line of ["GET /readyz", "GET /v1/pools", "PUT /v1/pools/shop"]) {
    const { status, body, headers } = await call(line);
    expect([line, status, body.code, headers["retry-after"]]).toEqual([line, 503, "unavailable", "1"]);
  }
  expect((await call("GET /metrics")).text).toContain("remuda_ready 0\n");

  const picker = await run("picker");
  expect((await call("PUT /v1/pools/shop")).status).toBe(200);
  expect((await call("POST /v1/pools/shop/proxies", ["192.0.2.1:80"])).body.added).toBe(1);
  expect((await call("POST /v1/pools/shop/leases")).status).toBe(201);
  expect((await call("PUT /v1/pools/closed")).status).toBe(200);
  expect((await call("DELETE /v1/pools/closed")).status).toBe(200);
  expect((await call("GET /readyz")).body).toMatchObject({ ready: true, pools: ["shop"] });

  await picker.kill9();
  await eventually(async () => {
    const { status, body, headers } = await call("POST /v1/pools/shop/leases");
    expect([status, body.code, headers["retry-after"]]).toEqual([503, "unavailable", "1"]);
  });
  expect((await call("POST /v1/pools/closed/leases")).body.code).toBe("unknown-pool");
  expect((await call("GET /readyz")).status).toBe(503);

  await run("picker");
  await eventually(async () => expect((await call("GET /readyz")).status).toBe(200));
  expect((await call("POST /v1/pools/shop/leases")).status).toBe(201);
}, 150_000);

test("stays alive and refuses when the broker dies, and continues when the broker is back", async () => {
  expect((await call("GET /v1/pools/shop")).status).toBe(200);
  process.kill(broker.broker.pid, "SIGKILL"); // Its supervisor restarts it on the same port.
  const seen = new Set<string>();
  await eventually(
    async () => {
      const { status, body } = await call("POST /v1/pools/shop/leases");
      seen.add(`${status} ${body.code}`);
      expect((await call("GET /livez")).status).toBe(200);
      expect([201, 429]).toContain(status);
      expect((await call("GET /readyz")).status).toBe(200);
    },
    { timeoutMs: 30_000 },
  );
  const expected = ["201 undefined", "429 pool-exhausted", "503 unavailable"];
  expect([...seen].filter((each) => !expected.includes(each))).toEqual([]);
}, 60_000);
