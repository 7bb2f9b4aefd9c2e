// The fields of requests and outcomes as clients in other languages write them: null for an absent value, amounts with
// a fraction, and names that are misspelt. Protocol §1 (conventions), §1.2 and §2.2.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lax, type SharedWire, sharedWire } from "./wire.ts";

let wire: SharedWire;
const pool = "field-forms";
beforeAll(async () => {
  wire = await sharedWire();
  await wire.open(pool, lax, ["10.9.0.1:80", "10.9.0.2:80"]);
});
afterAll(() => wire.stop());

const ask = async (verb: string, body: object) => (await wire.ask(verb, pool, body)).json<Record<string, unknown>>();
const leased = async (more: object = {}) => (await ask("lease", more)) as { leaseId: string; uses: number };
const http = async (method: string, path: string, body?: unknown) => {
  const init = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await fetch(`${wire.httpUrl}${path}`, { method, ...init });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};

test.each([
  ["lease", { labels: { city: "a\u001b[31m" } }, "labels.city"],
  ["lease", { requestId: `a\u0000${"b".repeat(16)}` }, "requestId"],
  ["lease", { holder: "a\nb" }, "holder"],
  ["lease", { session: "a\u009bb" }, "session"],
  ["proxies.list", { labels: { city: "a\tb" } }, "labels.city"],
  ["proxies.rest", { ids: ["p_none"], forMs: 1, reason: "a\rb" }, "reason"],
  ["proxies.retire", { ids: ["p_none"], reason: "a\u0007" }, "reason"],
  ["sources.put", { name: "s", labels: { city: "\u007f" }, from: { kind: "pool", pool: "other" } }, "labels.city"],
])("%s refuses a control character: %j", async (verb, body, field) => {
  const answer = verb.startsWith("sources.")
    ? (await http("PUT", `/v1/pools/${pool}/sources/s`, body)).body
    : await ask(verb, body);
  expect(answer).toMatchObject({ code: "invalid-request", field });
  expect(answer["message"]).toMatch(/must have no control characters/);
});

test("an entry with a control character in a label is rejected, by every way in", async () => {
  const bad = "Ber\u0007lin";
  const object = { url: "10.9.0.3:80", labels: { city: bad } };
  const more = { url: "10.9.0.3:80", moreLabels: { city: bad } };
  expect(await ask("proxies.add", { proxies: [object, more] })).toMatchObject({ added: 0, rejectedCount: 2 });
  for (const list of [
    `host,port,city\n10.9.0.3,80,${bad}\n`,
    JSON.stringify([{ host: "10.9.0.3", port: 80, city: bad }]),
    JSON.stringify([object]),
    `10.9.0.3:80,DE,${bad}\n`,
  ]) {
    const response = await fetch(`${wire.httpUrl}/v1/pools/${pool}/proxies`, {
      method: "POST",
      body: list,
      headers: { "Content-Type": "text/plain" },
    });
    expect([list, await response.json()]).toMatchObject([list, { added: 0, rejectedCount: expect.any(Number) }]);
  }
  expect((await wire.proxies(pool)).map(({ host }) => host)).not.toContain("10.9.0.3");
});

test("null counts as absent in every request", async () => {
  const none = { requestId: null, uses: null, minUses: null, ttlMs: null, waitMs: null, session: null, labels: null };
  const more = { schemes: null, exclude: null, proxyId: null, target: null, holder: null, token: null };
  const lease = await leased({ ...none, ...more });
  expect(lease).toMatchObject({ uses: 1 });
  expect(lease).not.toHaveProperty("warnings");
  expect(await ask("renew", { leaseId: lease.leaseId, ttlMs: null })).toMatchObject({ leaseId: lease.leaseId });
  expect(await ask("release", { leaseId: lease.leaseId, used: null })).toMatchObject({ used: 1, returned: 0 });
  expect(await ask("proxies.list", { state: null, labels: { country: null }, after: null, limit: null })).toMatchObject(
    {
      proxies: [{}, {}],
    },
  );
  expect(await ask("pool.open", { policy: null })).toMatchObject({ pool });
  expect(await ask("proxies.add", { proxies: ["10.9.0.1:80"], scheme: null })).toMatchObject({ already: 1 });
});

test("null switches a rule off in a policy", async () => {
  const changed = await ask("pool.policy", { policy: { streak: null }, ifVersion: null });
  expect(changed).toMatchObject({ policy: { streak: null } });
});

test("amounts with a fraction are rounded up, and ordinals are not", async () => {
  const lease = await leased({ uses: 1.2, waitMs: 0.5 });
  expect(lease.uses).toBe(2);
  expect(await ask("report", { outcomes: [{ leaseId: lease.leaseId, n: 1.5, status: 200 }] })).toMatchObject({
    code: "invalid-request",
    field: "n",
  });
  const outcome = { leaseId: lease.leaseId, n: 1, status: 200, latencyMs: 12.01, bytes: 99.5, retryAfterMs: 0.1 };
  expect(await ask("report", { outcomes: [outcome] })).toMatchObject({ accepted: 1 });
  const [use] = await wire.dated(pool, "UseReported");
  expect(use).toMatchObject({ latencyMs: 13, bytes: 100 });
});

describe("an unknown field", () => {
  test("is named in the reply, with the nearest name", async () => {
    const lease = await ask("lease", { sesion: "a", wait_ms: 0, zzz: 1 });
    expect(lease).toMatchObject({ leaseId: expect.any(String), pool });
    const warnings = lease["warnings"] as string[];
    expect(warnings).toHaveLength(3);
    expect(warnings[0]).toMatch(/^sesion: .*session\?$/);
    expect(warnings[1]).toMatch(/^wait_ms: .*waitMs\?$/);
    expect(warnings[2]).toMatch(/^zzz: [^?]*$/);
  });

  test("is named over HTTP, in a body and in a query", async () => {
    const lease = await http("POST", `/v1/pools/${pool}/leases`, { sesion: "a" });
    expect(lease).toMatchObject({ status: 201, body: { warnings: [expect.stringContaining("session")] } });
    const listed = await http("GET", `/v1/pools/${pool}/proxies?limt=1`);
    expect(listed).toMatchObject({ status: 200, body: { warnings: [expect.stringContaining("limit")] } });
    const leases = await http("GET", `/v1/pools/${pool}/leases?holdr=x`);
    expect(leases).toMatchObject({ status: 200, body: { warnings: [expect.stringContaining("holder")] } });
  });

  test("is named in a refusal as well, and in the reply to a report", async () => {
    const refusal = await ask("lease", { labels: { country: "XX" }, sesion: "a" });
    expect(refusal).toMatchObject({ code: "no-match", warnings: [expect.stringContaining("sesion")] });
    const { leaseId } = await leased();
    const reply = await ask("report", { outcomes: [{ leaseId, status: 200, latency: 3 }] });
    expect(reply).toMatchObject({ accepted: 1, warnings: [expect.stringMatching(/^latency: .*latencyMs/)] });
  });

  test("is named in the reply to opening a pool", async () => {
    expect(await ask("pool.open", { polcy: {} })).toMatchObject({
      pool,
      warnings: [expect.stringMatching(/policy\?$/)],
    });
  });

  test("is refused in a policy", async () => {
    expect(await ask("pool.policy", { policy: { concurency: 1 } })).toMatchObject({
      code: "invalid-request",
      field: "policy.concurency",
    });
  });
});

describe("an outcome that cannot be read", () => {
  test("names its field, over NATS and over HTTP", async () => {
    const { leaseId } = await leased();
    const bad = { leaseId, reason: "captcha" };
    const ignored = [{ leaseId, n: 0, why: "unreadable", field: "reason" }];
    const refusal = { code: "invalid-request", field: "reason", ignored, ignoredCount: 1 };
    expect(await ask("report", { outcomes: [bad] })).toMatchObject(refusal);
    expect(await http("POST", `/v1/pools/${pool}/outcomes`, bad)).toMatchObject({ status: 400, body: refusal });
    expect(await http("POST", `/v1/pools/${pool}/outcomes`, [bad, bad])).toMatchObject({ status: 400 });
    const good = { leaseId, status: null, error: "ECONNRESET" };
    expect(await ask("report", { outcomes: [bad, good] })).toMatchObject({ accepted: 1, ignored, ignoredCount: 1 });
  });

  test("is listed a hundred times at most, and counted always", async () => {
    const unknown = Array.from({ length: 250 }, (_, n) => ({
      leaseId: "l_nobody000000000000000000",
      n: n + 1,
      status: 200,
    }));
    const reply = (await ask("report", { outcomes: unknown })) as { ignored: object[] };
    expect(reply).toMatchObject({ accepted: 0, ignoredCount: 250 });
    expect(reply.ignored).toHaveLength(100);
    expect(reply.ignored[0]).toMatchObject({ why: "unknown-lease", field: "leaseId" });
    const overHttp = await http("POST", `/v1/pools/${pool}/outcomes`, [
      ...unknown,
      ...unknown,
      ...unknown,
      ...unknown,
      ...unknown,
    ]);
    expect(overHttp).toMatchObject({ status: 200, body: { ignoredCount: 1250 } });
    expect(overHttp.body["ignored"]).toHaveLength(100);
  });
});
