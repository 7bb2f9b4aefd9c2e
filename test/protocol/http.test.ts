// The routes of protocol §4 on the wire, by plain HTTP requests next to the same requests over NATS, and the scheme of
// a whole list by every way in.
import { randomUUID } from "node:crypto";
import { request } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Call, callerOf } from "../api/http.ts";
import { runCommand } from "../kit/command.ts";
import { eventually } from "../kit/poll.ts";
import { type Lease, lax, type Proxy, startWire, type Wire } from "./wire.ts";

let wire: Wire;
beforeAll(async () => {
  wire = await startWire();
}, 150_000);
afterAll(() => wire.stop());

const call: Call = (...sent) => callerOf(wire.remuda.httpUrl ?? "")(...sent);

/** The pool's base path, after it was opened by PUT. */
async function opened(pool: string, ...proxies: string[]): Promise<string> {
  expect(await call(`PUT /v1/pools/${pool}`, { policy: lax })).toMatchObject({ status: 200, body: { pool } });
  if (proxies.length > 0) await call(`POST /v1/pools/${pool}/proxies`, proxies.join("\n"));
  return `/v1/pools/${pool}`;
}

describe("routes", () => {
  test("lease with 201, then list, renew and release, with the fields of the NATS replies", async () => {
    const pool = await opened("steps", "http://ann:secret@10.9.0.1:80");
    const over = await wire.lease("steps", { uses: 2 });
    const { status, body } = await call(`POST ${pool}/leases`, { uses: 2, holder: "me" });
    expect(status).toBe(201);
    expect(Object.keys(body).sort()).toEqual(Object.keys(over).sort());
    expect(body).toMatchObject({ url: "http://ann:secret@10.9.0.1:80", uses: 2, labels: {} });
    const { leaseId } = body;
    const listed = await call(`GET ${pool}/leases?holder=me`);
    expect(listed.body["leases"]).toEqual([expect.not.objectContaining({ url: expect.anything() })]);
    expect(await call(`POST ${pool}/leases/${leaseId}/renew`, { ttlMs: 9000 })).toMatchObject({
      status: 200,
      body: { leaseId, expiresAt: expect.any(Number) },
    });
    const released = { leaseId, used: 1, returned: 1 };
    expect(await call(`DELETE ${pool}/leases/${leaseId}?used=1`)).toMatchObject({ status: 200, body: released });
    // A repeated release gets the same reply, over NATS as well.
    expect(await wire.ok("release", "steps", { leaseId })).toEqual(released);
  });

  test("lease several proxies at once, in a list", async () => {
    const pool = await opened("several", "10.9.0.5:80\n10.9.0.6:80");
    const { status, body } = await call(`POST ${pool}/leases`, { count: 5 });
    expect(status).toBe(201);
    expect(Object.keys(body)).toEqual(["leases"]);
    const hosts = (body["leases"] as Lease[]).map(({ host, requestId }) => ({ host, requestId }));
    expect(hosts.sort((a, b) => a.host.localeCompare(b.host))).toEqual([{ host: "10.9.0.5" }, { host: "10.9.0.6" }]);
  });

  test("report one outcome or an array, and name ignored ones", async () => {
    const pool = await opened("reports", "10.9.0.2:80");
    const { leaseId } = await wire.lease("reports", { uses: 3 });
    const accepted = { accepted: 1, ignored: [], stop: [] };
    expect((await call(`POST ${pool}/outcomes`, { leaseId, n: 1, status: 200 })).body).toMatchObject(accepted);
    const { body } = await call(`POST ${pool}/outcomes`, [
      { leaseId, n: 1, status: 200 },
      { leaseId, n: 2000, status: 200 },
      { leaseId, n: 2, status: 200 },
    ]);
    const ignored = [
      { leaseId, n: 1, why: "duplicate" },
      { leaseId, n: 2000, why: "n-too-large" },
    ];
    expect(body).toMatchObject({ accepted: 1, ignored, stop: [] });
  });

  test("cancel a waiting lease request, by HTTP and by NATS", async () => {
    const pool = await opened("waits", "10.9.0.3:80");
    await wire.ok("pool.policy", "waits", { policy: { concurrency: 1 } });
    await wire.lease("waits");
    for (const over of ["http", "nats"]) {
      const requestId = randomUUID();
      const waiting = wire.refused("lease", "waits", { requestId, waitMs: 30_000 }, "unavailable");
      await wire.untilWaiting("waits", 1);
      const cancel = async (): Promise<unknown> =>
        over === "nats"
          ? wire.ok("cancel", "waits", { requestId })
          : (await call(`DELETE ${pool}/requests/${requestId}`)).body;
      expect(await cancel()).toEqual({ cancelled: true });
      await waiting;
      expect(await cancel()).toEqual({ cancelled: false });
    }
  });

  test("list, get, rest, revive and retire proxies", async () => {
    const pool = await opened("proxies", "10.9.0.4:80");
    const { proxies } = (await call(`GET ${pool}/proxies`)).body as { proxies: Proxy[] };
    const id = proxies[0]?.id ?? "";
    expect((await call(`GET ${pool}/proxies/${id}`)).body).toEqual(await wire.get("proxies", id));
    const changed = { status: 200, body: { changed: 1, unknown: [] } };
    expect(await call(`POST ${pool}/proxies/${id}/rest`, { forMs: 60_000 })).toMatchObject(changed);
    expect((await call(`GET ${pool}/proxies?state=cooling`)).body).toMatchObject({ proxies: [{ id }] });
    expect(await call(`POST ${pool}/proxies/${id}/revive`)).toMatchObject(changed);
    expect(await call(`DELETE ${pool}/proxies/${id}`)).toMatchObject(changed);
    expect(await wire.get("proxies", id)).toMatchObject({ state: "retired" });
    const strange = await call(`POST ${pool}/proxies/p_0123456789abcdef/revive`);
    expect(strange).toMatchObject({ status: 404, body: { code: "unknown-proxy" } });
  });

  test("open, get, change, list and close pools", async () => {
    const pool = await opened("whole");
    expect((await call(`GET ${pool}`)).body).toEqual(await wire.ok("pool.get", "whole"));
    const changed = await call(`PATCH ${pool}`, { policy: { concurrency: 3 }, ifVersion: 1 });
    expect(changed).toMatchObject({ status: 200, body: { version: 2, policy: { concurrency: 3 } } });
    const { pools } = (await call("GET /v1/pools")).body as { pools: { pool: string }[] };
    expect(pools.map(({ pool }) => pool)).toEqual(expect.arrayContaining(["default", "whole"]));
    const stats = Object.keys((await call(`GET ${pool}/stats`)).body).sort();
    expect(stats).toEqual(Object.keys(await wire.stats("whole")).sort());
    expect(await call(`DELETE ${pool}`)).toMatchObject({ status: 200, body: { pool: "whole" } });
    expect(await call(`GET ${pool}`)).toMatchObject({ status: 404, body: { code: "unknown-pool" } });
  });

  test("refuse with the code's number, the NATS reply's fields, and Retry-After in seconds, rounded up", async () => {
    const pool = await opened("refusing", "10.9.0.5:80");
    const [{ id } = { id: "" }] = await wire.proxies("refusing");
    await wire.ok("proxies.rest", "refusing", { ids: [id], forMs: 60_000 });
    const { status, body, headers } = await call(`POST ${pool}/leases`);
    expect(status).toBe(429);
    expect(Object.keys(body).sort()).toEqual(["code", "limitedBy", "message", "retryAfterMs"]);
    expect(body["limitedBy"]).toEqual({ rate: 0, concurrency: 0, usage: 0, rest: 1, exclude: 0, session: 0 });
    expect(Number(headers["retry-after"])).toBe(Math.ceil(Number(body["retryAfterMs"]) / 1000));
    const cases: [string, number, string][] = [
      [`POST ${pool}/leases/l_0123456789012345678901/renew`, 404, "unknown-lease"],
      [`DELETE ${pool}/leases/l_0123456789012345678901`, 404, "unknown-lease"],
      [`GET ${pool}/proxies/p_0123456789abcdef`, 404, "unknown-proxy"],
      [`GET ${pool}/proxies?state=sulking`, 400, "invalid-request"],
      ["POST /v1/pools/missing/leases", 404, "unknown-pool"],
      [`POST ${pool}/token/reject`, 400, "invalid-request"],
    ];
    for (const [line, number, code] of cases)
      expect(await call(line), line).toMatchObject({ status: number, body: { code, message: expect.any(String) } });
    expect(await call(`POST ${pool}/leases`, { labels: { no: "such" }, waitMs: 60_000 })).toMatchObject({
      status: 404,
      body: { code: "no-match" },
    });
  });

  test("refuse a foreign Origin and a foreign Host", async () => {
    for (const headers of [{ origin: "https://evil.example" }, { host: "evil.example" }])
      expect((await call("GET /v1/pools", undefined, headers)).status).toBe(403);
  });

  test("tell that the process lives and is ready, and describe themselves as OpenAPI 3.1", async () => {
    expect((await call("GET /livez")).status).toBe(200);
    await eventually(async () => expect((await call("GET /readyz")).status).toBe(200));
    expect((await call("GET /docs/json")).body["openapi"]).toMatch(/^3\.1\./);
  });

  test("stream one message per commit, with the sequence as its id", async () => {
    const pool = await opened("followed", "10.9.0.6:80");
    const stored = await wire.ledger("followed");
    const ids = await new Promise<number[]>((resolve, reject) => {
      const sent = request(`${wire.remuda.httpUrl}${pool}/events?from=0`, (reply) => {
        expect(reply.headers["content-type"]).toContain("text/event-stream");
        let told = "";
        reply.on("data", (chunk) => {
          told += String(chunk);
          const seen = [...told.matchAll(/^id: ?(\d+)$/gm)].map(([, id]) => Number(id));
          if (seen.length < stored.length) return;
          sent.destroy();
          resolve(seen.slice(0, stored.length));
        });
      });
      sent.once("error", reject).end();
    });
    expect(ids).toEqual(stored.map(({ seq }) => seq));
  });
});

test("/metrics has the metrics about requests, with their types and labels", async () => {
  const pool = await opened("measured", "10.9.0.7:80");
  await wire.lease("measured");
  await call(`POST ${pool}/leases`, { labels: { no: "such" } });
  const expected = {
    remuda_lease_requests_waiting: ["gauge", 'pool="measured"'],
    remuda_lease_requests_cancelled_total: ["counter", 'pool="measured"'],
    remuda_lease_requests_held_back_total: ["counter", 'pool="measured",rule="rate"'],
    remuda_lease_request_duration_seconds: ["histogram", 'pool="measured",result="granted"'],
    remuda_refusals_total: ["counter", 'pool="measured",code="no-match"'],
    remuda_requests_rejected_total: ["counter"], // Without a rejected request it has no series.
  };
  await eventually(async () => {
    const { text: shown } = await call("GET /metrics");
    for (const [name, [type, labels]] of Object.entries(expected)) {
      expect(shown).toContain(`# TYPE ${name} ${type}\n`);
      const suffix = type === "histogram" ? "_count" : "";
      if (labels !== undefined) expect(shown, name).toContain(`${name}${suffix}{${labels}`);
    }
  });
});

test("gives a whole list its scheme, by HTTP, by NATS and by the command, and entries keep their own", async () => {
  const list = "10.9.1.1:1080\nhttp://10.9.1.2:80\n";
  const added = { added: 2, already: 0, updated: 0, rejected: [], rejectedCount: 0 };
  const paths = await Promise.all(["by-http", "by-nats", "by-command"].map((pool) => opened(pool)));
  expect((await call(`POST ${paths[0]}/proxies?scheme=socks5`, list, { "content-type": "text/plain" })).body).toEqual(
    added,
  );
  expect(await wire.ok("proxies.add", "by-nats", { proxies: list.trim().split("\n"), scheme: "socks" })).toEqual(added);
  const args = ["proxies", "add", "--pool", "by-command", "--scheme", "socks5"];
  expect(await runCommand(args, { dataDir: wire.dataDir, stdin: list })).toMatchObject({ code: 0, stderr: "" });
  const sets = await Promise.all(["by-http", "by-nats", "by-command"].map((pool) => wire.proxies(pool)));
  const [first = []] = sets;
  expect(first.map(({ scheme, host }) => `${scheme} ${host}`).sort()).toEqual(["http 10.9.1.2", "socks5 10.9.1.1"]);
  for (const other of sets) expect(other.map(({ id }) => id)).toEqual(first.map(({ id }) => id));
  // The lease says so, and an unknown scheme is refused by each.
  expect(await wire.ok<Lease>("lease", "by-nats", { schemes: ["socks5"] })).toMatchObject({ scheme: "socks5" });
  expect(await call(`POST ${paths[0]}/proxies?scheme=gopher`, list)).toMatchObject({
    status: 400,
    body: { code: "invalid-request", field: "scheme" },
  });
  const refusal = await wire.refused("proxies.add", "by-nats", { proxies: [], scheme: "gopher" }, "invalid-request");
  expect(refusal.field).toBe("scheme");
  const wrong = await runCommand([...args.slice(0, -1), "gopher"], { dataDir: wire.dataDir, stdin: list });
  expect(wrong.code).toBe(2);
});
