// Clients that wait for a lease and hang up: nothing must be granted to a client that is gone, and no other client may
// lose by it.
import { type ClientRequest, request } from "node:http";
import { connect as connectTcp } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Json, lines, type Service, sharedService } from "./http.ts";

let service: Service;
const call: Service["call"] = (...sent) => service.call(...sent);

beforeAll(async () => {
  service = await sharedService();
}, 150_000);
afterAll(() => service?.stop());

const requestId = "a-request-that-is-sent-twice";

const statsOf = async (pool: string): Promise<Json> => (await call(`GET ${pool}/stats`)).body;
const waiting = (pool: string, count: number): Promise<void> =>
  eventually(async () => expect((await statsOf(pool)).waiting).toBe(count));

/** A pool whose only proxy is leased. Returns a function that frees it. */
async function busyPool(name: string): Promise<{ pool: string; free: () => Promise<unknown> }> {
  const pool = await service.pool(name, lines(1), { concurrency: 1 });
  const { leaseId } = (await call(`POST ${pool}/leases`)).body;
  return { pool, free: () => call(`DELETE ${pool}/leases/${leaseId}?used=0`) };
}

/** A lease request that is sent in full, and waits. */
function waitingRequest(pool: string, body: object = {}): ClientRequest {
  const sent = request(`${service.url}${pool}/leases`, { method: "POST", agent: false });
  sent.on("error", () => {});
  sent.end(JSON.stringify({ waitMs: 60_000, ...body }));
  return sent;
}

test("cancels the client's request at once, and grants nothing for it", async () => {
  const { pool, free } = await busyPool("hung-up");
  const sent = waitingRequest(pool);
  await waiting(pool, 1);
  sent.destroy();
  await waiting(pool, 0);
  await free();
  expect((await statsOf(pool)).leases).toMatchObject({ granted: 1, open: 0 });
  expect((await call(`POST ${pool}/leases`)).status).toBe(201);
  const { text } = await call("GET /metrics");
  expect(text).toContain('remuda_lease_requests_cancelled_total{pool="hung-up"} 1\n');
});

test("cancels all its requests, even those sent on one connection without waiting for answers", async () => {
  const { pool, free } = await busyPool("pipelined");
  const socket = connectTcp(Number(new URL(service.url).port), "127.0.0.1");
  socket.on("error", () => {});
  const body = '{"waitMs":60000}';
  const one = `POST ${pool}/leases HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  socket.write(one.repeat(3));
  await waiting(pool, 3);
  socket.destroy();
  await waiting(pool, 0);
  await free();
  expect((await statsOf(pool)).leases.granted).toBe(1);
});

test("keeps another copy under the same requestId waiting, and serves it", async () => {
  const { pool, free } = await busyPool("copies");
  const first = waitingRequest(pool, { requestId });
  await waiting(pool, 1);
  // A copy of the same user. Over NATS it would be another user's request.
  const copy = call(`POST ${pool}/leases`, { waitMs: 60_000, requestId });
  // Requests after the copy are decided after it.
  for (let i = 0; i < 3; i++) await statsOf(pool);
  first.destroy();
  await eventually(async () =>
    expect((await call("GET /metrics")).text).toContain('remuda_lease_requests_cancelled_total{pool="copies"} 1\n'),
  );
  expect((await statsOf(pool)).waiting).toBe(1);
  await free();
  expect((await copy).body).toMatchObject({ requestId, leaseId: expect.any(String) });
  expect((await statsOf(pool)).leases).toMatchObject({ granted: 2, open: 1 });
});

test("cancels the request when the last copy has gone, and lets a new one wait again", async () => {
  const { pool, free } = await busyPool("all-gone");
  const sent = [waitingRequest(pool, { requestId })];
  await waiting(pool, 1);
  sent.push(waitingRequest(pool, { requestId }));
  for (const each of sent) each.destroy();
  await waiting(pool, 0);
  const again = call(`POST ${pool}/leases`, { waitMs: 60_000, requestId });
  await waiting(pool, 1);
  await free();
  expect(await again).toMatchObject({ status: 201, body: { requestId } });
  expect((await statsOf(pool)).leases).toMatchObject({ granted: 2, open: 1 });
});

test("cancels a lease request without a hang-up, and answers it", async () => {
  const { pool, free } = await busyPool("taken-back");
  const sent = call(`POST ${pool}/leases`, { waitMs: 60_000, requestId });
  await waiting(pool, 1);
  expect(await call(`DELETE ${pool}/requests/${requestId}`)).toMatchObject({ status: 200, body: { cancelled: true } });
  expect(await sent).toMatchObject({ status: 503, body: { code: "unavailable" } });
  await free();
  expect((await statsOf(pool)).leases).toMatchObject({ granted: 1, open: 0 });
  expect((await call(`DELETE ${pool}/requests/${requestId}`)).body).toEqual({ cancelled: false });
  expect(await call(`DELETE ${pool}/requests/short`)).toMatchObject({
    status: 400,
    body: { code: "invalid-request", field: "requestId" },
  });
});

test("serves a waiting client in place of one that has gone", async () => {
  const { pool, free } = await busyPool("next");
  const gone = waitingRequest(pool);
  await waiting(pool, 1);
  const stays = call(`POST ${pool}/leases`, { waitMs: 60_000 });
  await waiting(pool, 2);
  gone.destroy();
  await waiting(pool, 1);
  await free();
  expect((await stays).status).toBe(201);
  expect((await statsOf(pool)).leases.granted).toBe(2);
});
