// Requests fit into the limits between client and service. Lease requests that no caller waits for any more are
// cancelled.
import { once } from "node:events";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { connect } from "../../client/client.ts";
import { openNats } from "../../client/nats.ts";
import { Outcomes } from "../../client/outcomes.ts";
import { outcomesMax } from "../../protocol/outcome.ts";
import type { Outcome } from "../../protocol/wire.ts";
import { startTestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { connectRaw, type RawMessage } from "../kit/raw-nats.ts";
import { deadPort } from "./lab.ts";
import { setting } from "./setting.ts";

const at = setting();
const unbounded = { rate: null, usage: null, concurrency: null, lease: { usesMax: 1000 }, failures: null };

for (const over of ["nats", "http"] as const) {
  test(`over ${over}: more outcomes than fit into one request all arrive`, async () => {
    const pool = `long-${over}`;
    await at.open(pool, ["192.0.2.1:80"], unbounded);
    const problems: Error[] = [];
    const client = await at.client(over, { pool, onProblem: (problem) => void problems.push(problem) });
    const target = `https://example.org/${"x".repeat(2000)}`;
    await client.withLease({ uses: 600 }, (lease) => {
      for (let n = 1; n <= 600; n++) lease.report({ n, status: 200, target });
    });
    await client.close();
    expect(problems).toEqual([]);
    expect(await at.stats(pool)).toMatchObject({ outcomes: { succeeded: 600, ignored: 0 }, leases: { open: 0 } });
  });

  test(`over ${over}: leases several proxies at once, as many as there are`, async () => {
    const pool = `several-${over}`;
    await at.open(pool, ["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"], { concurrency: 1 });
    const client = await at.client(over, { pool });
    const leases = await client.leases(2, { uses: 3 });
    expect(new Set(leases.map(({ proxyId }) => proxyId)).size).toBe(2);
    expect(leases.every(({ uses, endsAt }) => uses === 3 && endsAt > performance.now())).toBe(true);
    expect(await client.leases(2)).toHaveLength(1);
    await expect(client.leases(2)).rejects.toMatchObject({ code: "pool-exhausted" });
  });

  test(`over ${over}: cancels a waiting lease request when its signal fires, and nothing is granted for it`, async () => {
    const pool = `back-${over}`;
    await at.open(pool, ["192.0.2.1:80"], { concurrency: 1 });
    const client = await at.client(over, { pool });
    const held = await client.lease();
    const abort = new AbortController();
    const waiting = client.lease({ waitMs: 30_000 }, { signal: abort.signal });
    await eventually(async () => expect(await at.stats(pool)).toMatchObject({ waiting: 1 }));
    abort.abort(new Error("no longer needed"));
    await expect(waiting).rejects.toThrow("no longer needed");
    await eventually(async () => expect(await at.stats(pool)).toMatchObject({ waiting: 0 }));
    await client.release(held, { used: 0 });
    expect((await at.stats(pool)).leases).toMatchObject({ open: 0, granted: 1 });
    // A request that is aborted before it is sent is not sent.
    await expect(client.lease({}, { signal: abort.signal })).rejects.toThrow("no longer needed");
    expect((await at.stats(pool)).leases).toMatchObject({ open: 0, granted: 1 });
  });

  test(`over ${over}: close() cancels the lease requests of waiting requests`, async () => {
    const pool = `closing-${over}`;
    await at.open(pool, ["192.0.2.1:80"], { concurrency: 1 });
    const closeMs = 20_000;
    const [holder, client] = [await at.client(over, { pool }), await at.client(over, { pool, closeMs })];
    const held = await holder.lease();
    const fetched = client.fetch("http://192.0.2.2/").catch((error: unknown) => error);
    await eventually(async () => expect(await at.stats(pool)).toMatchObject({ waiting: 1 }));
    const startedAt = performance.now();
    await client.close();
    expect(performance.now() - startedAt).toBeLessThan(closeMs); // It does not end by its time limit.
    expect(await fetched).toMatchObject({ code: "closed" });
    await eventually(async () => expect(await at.stats(pool)).toMatchObject({ waiting: 0 }));
    await holder.release(held, { used: 0 });
    expect((await at.stats(pool)).leases).toMatchObject({ open: 0, granted: 1 });
  });
}

test("gives back a lease granted at the moment of its signal, unless the caller chose the requestId", async () => {
  const broker = await startTestBroker();
  const service = await connectRaw(broker.url);
  const asked: { verb: string; body: Record<string, unknown> }[] = [];
  const requests: RawMessage[] = [];
  const answer = (message: RawMessage, reply: object): void =>
    service.publish(message.reply ?? "", JSON.stringify(reply));
  service.subscribe("remuda.*.late", (message) => {
    const verb = message.subject.split(".")[1] ?? "";
    asked.push({ verb, body: message.json() });
    if (verb === "lease") requests.push(message);
    else answer(message, {});
  });
  await service.flush();
  const { connect } = await import("../../client/client.ts");
  const client = await connect({ url: broker.url, pool: "late" });
  const requestId = "the-callers-own-request-id";
  for (const own of [{}, { requestId }]) {
    const abort = new AbortController();
    const lease = client.lease({ waitMs: 5000, ...own }, { signal: abort.signal });
    await eventually(() => expect(requests).toHaveLength("requestId" in own ? 2 : 1));
    abort.abort(new Error("gone"));
    await expect(lease).rejects.toThrow("gone");
    answer(requests.at(-1)!, { leaseId: `l_${requests.length}`, leftMs: 1000 });
  }
  await client.close();
  expect(asked.filter(({ verb }) => verb === "cancel").map(({ body }) => body)).toEqual([
    { requestId: asked[0]?.body["requestId"] },
    { requestId },
  ]);
  expect(asked.filter(({ verb }) => verb === "release").map(({ body }) => body)).toEqual([{ leaseId: "l_1", used: 0 }]);
  await service.close();
  await broker.stop();
});

test("keeps to the NATS server's size limit if it is smaller than a request's", async () => {
  let heard = "";
  const server = createServer((socket) => {
    const info = { server_id: "small", version: "2.12.6", max_payload: 65_536, headers: true, proto: 1 };
    socket.write(`INFO ${JSON.stringify(info)}\r\n`);
    socket.on("data", (chunk) => {
      heard += chunk;
      for (const _ping of String(chunk).matchAll(/PING\r\n/g)) socket.write("PONG\r\n");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number }; // On TCP.
  const small = await openNats(`nats://127.0.0.1:${port}`, {});
  expect(small.bytesMax).toBe(65_536);
  const body = { outcomes: ["x".repeat(65_536)] };
  expect(await small.attempt({ verb: "report", pool: "p", body, timeoutMs: 1000 })).toMatchObject({
    code: "too-large",
  });
  expect(heard).not.toContain("remuda.report");
  await small.close();
  server.close();
});

test("bounds batches of outcomes in number and bytes; drops and reports outcomes that never fit, or are too many", async () => {
  const batches: Outcome[][] = [];
  const problems: Error[] = [];
  const outcomes = new Outcomes({
    ask: async ({ body }) => {
      batches.push(body["outcomes"] as Outcome[]);
      return { accepted: 0, ignored: [], ignoredCount: 0, stop: [] } as never;
    },
    bytesMax: () => 20_000,
    onStop: () => {},
    onProblem: (problem) => void problems.push(problem),
  });
  const sent = Array.from({ length: 3000 }, (_, n) => ({ leaseId: "l", n, error: "x".repeat(n < 1500 ? 0 : 100) }));
  for (const each of sent) void outcomes.report("p", each);
  void outcomes.report("p", { leaseId: "l", target: "x".repeat(20_000) });
  await outcomes.flush();
  expect(batches.flat()).toEqual(sent);
  for (const batch of batches) {
    expect(batch.length).toBeLessThanOrEqual(outcomesMax);
    expect(JSON.stringify({ outcomes: batch }).length).toBeLessThanOrEqual(20_000);
  }
  expect(batches.length).toBeLessThan(40); // As many as fit, and not one by one.
  expect(problems).toMatchObject([{ code: "report-lost" }]);

  const large = { leaseId: "l", target: "x".repeat(19_000) };
  for (let i = 0; i < 4000; i++) void outcomes.report("p", large);
  expect(problems.length).toBeGreaterThan(1);
  await outcomes.flush();
  expect(problems.length + batches.flat().length).toBe(1 + 3000 + 4000);
});

test("reports that no service answers when a fetch has timed out, and names no bound of the client", async () => {
  const port = await deadPort();
  const remuda = await connect({ httpUrl: `http://127.0.0.1:${port}`, retryMs: 2500 });
  await expect(remuda.fetch("http://192.0.2.1/", {}, { waitMs: 100 })).rejects.toMatchObject({
    code: "no-connection",
    message: `http://127.0.0.1:${port} cannot be reached. Is the service running?`,
  });
  await remuda.close();
});
