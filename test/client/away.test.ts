// The service goes away under a client: a leader that dies, a broker that dies. Nothing is granted twice, and no
// outcome is lost that could be delivered in time.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../../client/client.ts";
import { type Call, callerOf } from "../api/http.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { type Site, startSite } from "./site.ts";

let broker: TestBroker;
let dataDir: string;
let call: Call;
let httpUrl: string;
let site: Site;
let proxy: ForwardProxy;

const run = (service: string): Promise<RemudaProcess> =>
  startRemuda({ dataDir, args: ["run", service], env: { REMUDA_NATS_URL: broker.url } });

beforeAll(async () => {
  broker = await startTestBroker();
  dataDir = await mkdtemp(join(tmpdir(), "client-away-"));
  [site, proxy] = [await startSite(), await startForwardProxy({ exit: "127.0.0.160" })];
  httpUrl = (await run("api")).httpUrl ?? "";
  call = callerOf(httpUrl);
}, 150_000);
afterAll(async () => {
  await stopAllRemudas();
  await broker?.stop();
  await Promise.all([site?.stop(), proxy?.stop()]);
  await rm(dataDir, { recursive: true, force: true });
});

test("repeats a request over a leader's death until there is a new leader, and it is granted once", async () => {
  const picker = await run("picker");
  await call("PUT /v1/pools/shop", { policy: { rate: null, usage: null, concurrency: 100 } });
  await call("POST /v1/pools/shop/proxies", [proxy.url]);
  const problems: Error[] = [];
  const options = { pool: "shop", retryMs: 30_000, onProblem: (problem: Error) => void problems.push(problem) };
  const clients = [await connect({ ...options, url: broker.url }), await connect({ ...options, url: httpUrl })];
  // Under way when the leader dies: their outcomes come after.
  const hanging = clients.map((each) => each.fetch(`${site.url}/hang`));
  await eventually(() => expect(site.held).toBe(2));
  await picker.kill9();
  const leases = clients.map((each) => each.lease({ uses: 2 }));
  site.letGo();
  for (const each of hanging) expect(await (await each).text()).toBe("at last\n");
  await run("picker");
  const granted = await Promise.all(leases);
  expect(new Set(granted.map(({ leaseId }) => leaseId)).size).toBe(2);
  for (const [index, lease] of granted.entries()) await clients[index]!.release(lease, { used: 0 });
  await Promise.all(clients.map((each) => each.close()));
  const { body } = await call("GET /v1/pools/shop/stats");
  expect(body).toMatchObject({ leases: { open: 0, granted: 4, expired: 0 }, outcomes: { succeeded: 2, ignored: 0 } });
  expect(problems).toEqual([]);
}, 150_000);

test("continues over NATS when a dead broker is back, and until then fails within its bound", async () => {
  const patient = await connect({ url: broker.url, pool: "shop", retryMs: 30_000 });
  const hasty = await connect({ url: broker.url, pool: "shop", retryMs: 0 });
  await patient.release(await patient.lease(), { used: 0 });
  process.kill(broker.broker.pid, "SIGKILL"); // Its owner restarts it on the same port.
  await eventually(async () => {
    const error = await hasty.lease().then(
      (lease) => hasty.release(lease, { used: 0 }),
      (thrown) => thrown,
    );
    expect(["no-connection", "no-answer", "unavailable"]).toContain(error.code);
  });
  const lease = await patient.lease();
  expect(lease.pool).toBe("shop");
  await patient.release(lease, { used: 0 });
  await Promise.all([patient, hasty].map((each) => each.close()));
});
