// The promise with the clients of other languages: workers in Python (threads, asyncio) and in Go, through real proxies
// with exits of their own, and kill -9 of the whole service under all of them. The observers are the target and the
// ledger.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../demo/free-port.ts";
import { callerOf } from "../api/http.ts";
import { readLedger, verdictOf } from "../e2e/exactness-verdict.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";
import { startTarget, type Target } from "../kit/target.ts";
import { goEnv, python, type Running, root, run, start } from "./run.ts";

const pool = "languages";
const rules = { limit: 8, windowMs: 2000, concurrency: 2, graceMs: 2000, exits: 3 };
const exits = ["127.0.0.190", "127.0.0.191", "127.0.0.192"];

let dataDir: string;
let target: Target;
let proxies: ForwardProxy[];
let env: Record<string, string>;
const workers: Running[] = [];

const startService = (): Promise<RemudaProcess> => startRemuda({ dataDir, env });

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), "clients-exactness-"));
  target = await startTarget();
  proxies = await Promise.all(exits.map((exit) => startForwardProxy({ exit })));
  const compiled = await run("go", ["test", "-c", "-o", join(dataDir, "worker"), "."], {
    cwd: join(root, "clients/go"),
    env: goEnv,
  });
  expect(compiled).toEqual({ code: 0, output: "" });
  const [http, nats] = [await freePort(), await freePort()];
  env = { REMUDA_HTTP_PORT: String(http), REMUDA_NATS_PORT: String(nats) };
}, 240_000);
afterAll(async () => {
  for (const each of workers) each.write("\n");
  await stopAllRemudas();
  await Promise.all([target?.stop(), ...(proxies ?? []).map((each) => each.stop())]);
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
});

test("workers in Python and Go keep every limit and lose no outcome, over kill -9 of the service", async () => {
  const first = await startService();
  const url = first.httpUrl ?? "";
  const call = callerOf(url);
  const { limit, windowMs, concurrency } = rules;
  const off = { usage: null, failures: null, streak: null, backoff: { kind: "none" } };
  await call(`PUT /v1/pools/${pool}`, { policy: { rate: { limit, windowMs }, concurrency, ...off } });
  await call(
    `POST /v1/pools/${pool}/proxies`,
    proxies.map((each) => each.url),
  );
  const given = { REMUDA_HTTP_URL: url, WORKER_POOL: pool, SITE: target.url };
  const inPython = { ...given, PYTHONPATH: join(root, "clients/python/src") };
  for (const how of ["threads", "asyncio"])
    workers.push(start(python, ["tests/worker.py", how], { cwd: join(root, "clients/python"), env: inPython }));
  workers.push(start(join(dataDir, "worker"), [], { cwd: dataDir, env: given }));
  const arrivedMoreThan = (count: number): Promise<void> =>
    eventually(() => expect(target.arrivals.length).toBeGreaterThan(count), { timeoutMs: 120_000 });
  await arrivedMoreThan(30);
  await first.kill9();
  const before = target.arrivals.length;
  const second = await startService();
  await arrivedMoreThan(before + 2 * limit * exits.length);
  await eventually(
    () => expect([...target.maxInWindow(windowMs).values()]).toEqual(exits.map(() => limit)), // Never more.
    { timeoutMs: 60_000 },
  );
  for (const each of workers) each.write("\n");
  const served = await Promise.all(
    workers.map(async ({ ended }) => {
      const { code, output } = await ended;
      expect(code, output).toBe(0);
      return Number(/served (\d+)/.exec(output)?.[1]);
    }),
  );
  expect(Math.min(...served)).toBeGreaterThan(0);
  expect(served.reduce((sum, each) => sum + each)).toBe(target.arrivals.length);

  const { body } = await call(`GET /v1/pools/${pool}/stats`);
  const { length } = target.arrivals;
  expect(body).toMatchObject({ leases: { open: 0, granted: length, expired: 0 }, outcomes: { succeeded: length } });
  const auditor = await connectRaw(second.natsUrlAs("auditor"));
  const ledger = await readLedger(auditor, pool);
  await auditor.close();
  const seen = { held: [], outageMs: 0, refused: {}, tooLate: 0, lost: 0, trouble: [] };
  expect(verdictOf({ rules, arrivals: target.arrivals, seen, ledger, wallMs: 0 }).faults).toEqual([]);
}, 400_000);
