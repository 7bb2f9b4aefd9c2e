// Every route, against a running service: the request, the status, and the body, in the terms of the protocol.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { lines, type Service, sharedService } from "./http.ts";

let service: Service;
const call: Service["call"] = (...sent) => service.call(...sent);

beforeAll(async () => {
  service = await sharedService();
}, 150_000);
afterAll(() => service?.stop());

describe("leases", () => {
  test("answers 201 with all that a worker needs, then renews, lists without the URL, and releases the lease", async () => {
    const pool = await service.pool("leases", ["http://user:secret@10.1.0.1:8080"]);
    const granted = await call(`POST ${pool}/leases`, { uses: 5, holder: "me" });
    expect(granted.status).toBe(201);
    expect(granted.headers["content-type"]).toBe("application/json; charset=utf-8");
    expect(granted.body).toMatchObject({ pool: "leases", url: "http://user:secret@10.1.0.1:8080", uses: 5 });
    const { leaseId, expiresAt } = granted.body;

    const renewed = await call(`POST ${pool}/leases/${leaseId}/renew`, { ttlMs: 600_000 });
    expect(renewed.status).toBe(200);
    expect(renewed.body.expiresAt).toBeGreaterThan(expiresAt);

    const listed = await call(`GET ${pool}/leases?holder=me`);
    expect(listed.body.leases).toEqual([expect.objectContaining({ leaseId, holder: "me" })]);
    expect(listed.text).not.toContain("secret");
    expect((await call(`GET ${pool}/leases?holder=other`)).body.leases).toEqual([]);

    const released = await call(`DELETE ${pool}/leases/${leaseId}?used=2`);
    expect([released.status, released.body]).toEqual([200, { leaseId, used: 2, returned: 3 }]);
  });

  test("counts all uses of a release without `used`", async () => {
    const pool = await service.pool("release", lines(1));
    const { leaseId } = (await call(`POST ${pool}/leases`, { uses: 3 })).body;
    expect((await call(`DELETE ${pool}/leases/${leaseId}`)).body).toEqual({ leaseId, used: 3, returned: 0 });
  });

  test.each([
    ["DELETE", "", undefined],
    ["POST", "/renew", {}],
  ])("answers %s of an unknown lease with 404 unknown-lease", async (method, verb, body) => {
    const { status, body: refusal } = await call(`${method} /v1/pools/default/leases/l_${"a".repeat(22)}${verb}`, body);
    expect([status, refusal.code]).toEqual([404, "unknown-lease"]);
  });

  test("answers pool-exhausted with 429, the limits, and Retry-After as retryAfterMs in seconds, rounded up", async () => {
    const pool = await service.pool("exhausted", lines(1), { concurrency: 1 });
    const at = async (): Promise<number> => (await call(`GET ${pool}/stats`)).body.at;
    const granted = await call(`POST ${pool}/leases`, { ttlMs: 60_500 });
    expect(granted.status).toBe(201);
    const before = await at();
    const { status, headers, body } = await call(`POST ${pool}/leases`);
    expect([status, body.code, body.limitedBy.concurrency]).toEqual([429, "pool-exhausted", 1]);
    expect(body.retryAfterMs).toBeLessThanOrEqual(granted.body.expiresAt - before);
    expect(body.retryAfterMs).toBeGreaterThanOrEqual(granted.body.expiresAt - (await at()));
    expect(headers["retry-after"]).toBe(String(Math.ceil(body.retryAfterMs / 1000)));
  });

  test("answers no-match with 404, whatever waitMs", async () => {
    const pool = await service.pool("no-match", lines(1));
    const { status, body } = await call(`POST ${pool}/leases`, { labels: { country: "XX" }, waitMs: 60_000 });
    expect([status, body.code]).toEqual([404, "no-match"]);
  });

  test("answers a waiting lease request as soon as it can be granted", async () => {
    const pool = await service.pool("waits", lines(1), { concurrency: 1 });
    const { leaseId } = (await call(`POST ${pool}/leases`)).body;
    const waiting = call(`POST ${pool}/leases`, { waitMs: 60_000 });
    await eventually(async () => expect((await call(`GET ${pool}/stats`)).body.waiting).toBe(1));
    await call(`DELETE ${pool}/leases/${leaseId}?used=0`);
    expect((await waiting).status).toBe(201);
  });

  test("keeps the field of the picker's refusal", async () => {
    const { status, body } = await call("POST /v1/pools/default/leases", { waitMs: 60_001 });
    expect([status, body.code, body.field]).toEqual([400, "invalid-request", "waitMs"]);
    expect((await call("POST /v1/pools/default/leases", [1])).body.code).toBe("invalid-request");
  });

  test("answers 404 unknown-pool for a closed pool, and 400 for an invalid name", async () => {
    expect((await call("POST /v1/pools/nowhere/leases")).body.code).toBe("unknown-pool");
    expect((await call("POST /v1/pools/nowhere/leases")).status).toBe(404);
    const { status, body } = await call("POST /v1/pools/No.Where/leases");
    expect([status, body.code, body.field]).toEqual([400, "invalid-request", "pool"]);
  });
});

describe("outcomes", () => {
  test("accepts one, an array, or the body of remuda.report, and counts each use once", async () => {
    const pool = await service.pool("outcomes", lines(1));
    const { leaseId } = (await call(`POST ${pool}/leases`, { uses: 5 })).body;
    expect((await call(`POST ${pool}/outcomes`, { leaseId, n: 1, status: 200 })).body).toMatchObject({ accepted: 1 });
    const array = await call(`POST ${pool}/outcomes`, [
      { leaseId, n: 1, status: 200 },
      { leaseId, n: 2, status: 200 },
      5,
    ]);
    expect(array.status).toBe(200);
    expect(array.body).toMatchObject({
      accepted: 1,
      ignored: [
        { leaseId, n: 1, why: "duplicate" },
        { leaseId: "", n: 0, why: "unreadable" },
      ],
    });
    const wrapped = await call(`POST ${pool}/outcomes`, { outcomes: [{ leaseId, n: 3, result: "success" }] });
    expect(wrapped.body).toMatchObject({ accepted: 1, ignored: [] });
    expect((await call(`GET ${pool}/stats`)).body.outcomes).toMatchObject({ succeeded: 3, ignored: 2 });
  });

  test("sends more than the picker accepts at once in parts, and adds up the counts", async () => {
    const pool = await service.pool("many", lines(1), { rate: null, usage: null, lease: { usesMax: 5000 } });
    const { leaseId } = (await call(`POST ${pool}/leases`, { uses: 3500 })).body;
    const outcomes = Array.from({ length: 3500 }, (_, i) => ({
      leaseId,
      n: i + 1,
      status: 200,
      target: "x".repeat(200),
    }));
    expect((await call(`POST ${pool}/outcomes`, outcomes)).body).toEqual({
      accepted: 3500,
      ignored: [],
      ignoredCount: 0,
      stop: [],
    });
  });

  test("names a lease in `stop` whose proxy begins to rest", async () => {
    const pool = await service.pool("stop", lines(1));
    const { leaseId } = (await call(`POST ${pool}/leases`, { uses: 5 })).body;
    const { body } = await call(`POST ${pool}/outcomes`, { leaseId, n: 1, status: 403 });
    expect(body.stop).toEqual([{ leaseId, until: expect.any(Number) }]);
  });
});

describe("proxies", () => {
  test("lists proxies by state and label, page by page", async () => {
    const pool = await service.pool("list", ["10.2.0.1:80:DE", "10.2.0.2:80:DE", "10.2.0.3:80:US"]);
    const german = await call(`GET ${pool}/proxies?label.country=DE&state=available`);
    expect(german.body.proxies.map((each: { host: string }) => each.host).sort()).toEqual(["10.2.0.1", "10.2.0.2"]);
    expect((await call(`GET ${pool}/proxies?state=retired`)).body.proxies).toEqual([]);
    const first = await call(`GET ${pool}/proxies?limit=2`);
    const second = await call(`GET ${pool}/proxies?limit=2&after=${first.body.next}`);
    expect([first.body.proxies.length, second.body.proxies.length, second.body.next]).toEqual([2, 1, undefined]);
  });

  test.each(["limit=x", "limit=0", "limit=1001", "limit=-1", "limit=", "state=broken"])(
    "answers 400 to ?%s",
    async (query) => {
      const { status, body } = await call(`GET /v1/pools/default/proxies?${query}`);
      expect([status, body.code, body.field]).toEqual([400, "invalid-request", query.split("=")[0]]);
    },
  );

  test("shows, rests, revives and retires a proxy", async () => {
    const pool = await service.pool("one", lines(1));
    const { id } = (await call(`GET ${pool}/proxies`)).body.proxies[0];
    const one = `${pool}/proxies/${id}`;
    expect((await call(`POST ${one}/rest`, { forMs: 60_000, reason: "tired" })).body).toEqual({
      changed: 1,
      unknown: [],
    });
    expect((await call(`GET ${one}`)).body).toMatchObject({ id, state: "cooling", reasons: ["manual"] });
    expect((await call(`POST ${one}/revive`)).body).toEqual({ changed: 1, unknown: [] });
    expect((await call(`DELETE ${one}?reason=gone`)).body).toEqual({ changed: 1, unknown: [] });
    expect((await call(`GET ${one}`)).body).toMatchObject({ state: "retired" });
    expect((await call(`POST ${one}/rest`)).body).toMatchObject({ code: "invalid-request", field: "forMs" });
  });

  test.each([
    ["GET", "", undefined],
    ["DELETE", "", undefined],
    ["POST", "/rest", { forMs: 1000 }],
    ["POST", "/revive", undefined],
  ])("answers %s %s of an unknown proxy with 404 unknown-proxy", async (method, verb, body) => {
    const { status, body: refusal } = await call(`${method} /v1/pools/default/proxies/p_aaaaaaaaaaaaaaaa${verb}`, body);
    expect([status, refusal.code]).toEqual([404, "unknown-proxy"]);
  });
});

describe("pools", () => {
  test("opens, reads, changes, lists and closes a pool", async () => {
    const opened = await call("PUT /v1/pools/shop", { policy: { concurrency: 3 } });
    expect([opened.status, opened.body.policy.concurrency, opened.body.version]).toEqual([200, 3, 1]);
    expect((await call("PUT /v1/pools/shop")).body.version).toBe(1);
    const changed = await call("PATCH /v1/pools/shop", { policy: { concurrency: 4 }, ifVersion: 1 });
    expect([changed.status, changed.body.version]).toEqual([200, 2]);
    const late = await call("PATCH /v1/pools/shop", { policy: { concurrency: 5 }, ifVersion: 1 });
    expect([late.status, late.body.field]).toEqual([400, "ifVersion"]);
    const wrong = await call("PATCH /v1/pools/shop", { policy: { concurency: 5 } });
    expect([wrong.status, wrong.body.field]).toEqual([400, "policy.concurency"]);
    expect((await call("GET /v1/pools/shop")).body.policy.concurrency).toBe(4);
    const { pools } = (await call("GET /v1/pools")).body;
    expect(pools.map((each: { pool: string }) => each.pool)).toContain("shop");
    expect((await call("GET /v1/pools/shop/stats")).body).toMatchObject({ pool: "shop", waiting: 0 });
    expect((await call("DELETE /v1/pools/shop")).status).toBe(200);
    expect((await call("GET /v1/pools/shop")).body.code).toBe("unknown-pool");
    expect((await call("POST /v1/pools/shop/leases")).body.code).toBe("unknown-pool");
  });

  test("lets the open leases end first with drain=true", async () => {
    const pool = await service.pool("drain", lines(1));
    const { leaseId } = (await call(`POST ${pool}/leases`)).body;
    expect((await call(`DELETE ${pool}?drain=true`)).status).toBe(200);
    expect((await call(`POST ${pool}/leases/${leaseId}/renew`)).status).toBe(200);
    expect((await call(`DELETE ${pool}?drain=perhaps`)).body.field).toBe("drain");
  });
});

test("passes on guest-token requests: this pool has no source", async () => {
  const got = await call("POST /v1/pools/default/token", { waitMs: 10 });
  expect([got.status, got.body.code]).toEqual([404, "no-token-source"]);
  const rejected = await call("POST /v1/pools/default/token/reject", { tokenId: "t" });
  expect([rejected.status, rejected.body.code]).toEqual([404, "no-token-source"]);
});

test("answers 405 with the allowed methods for a wrong method, and treats an extra slash as another path", async () => {
  for (const [line, allow] of [
    ["PATCH /v1/pools/default/leases", "GET, HEAD, POST"],
    ["OPTIONS /v1/pools/default", "DELETE, GET, HEAD, PATCH, PUT"],
    ["POST /livez", "GET, HEAD"],
    ["HEAD /v1/pools/default/events", "GET"],
    ["POST /v1/pools/default/proxies/export?after=x", "DELETE, GET, HEAD"],
  ] as const) {
    const { status, headers, body } = await call(line);
    expect([line, status, headers.allow]).toEqual([line, 405, allow]);
    if (!line.startsWith("HEAD")) expect(body.code).toBe("invalid-request");
  }
  for (const line of [
    "GET /v1/pools/default/",
    "GET //v1/pools",
    "POST /v1/pools/default/cancel",
    "GET /v1/pools//stats",
  ]) {
    const { status, headers } = await call(line);
    expect([line, status, headers.allow]).toEqual([line, line.includes("//stats") ? 400 : 404, undefined]);
  }
});

test("reveals no password on any route but a lease", async () => {
  const pool = await service.pool("told", ["http://user:only-in-leases@10.9.0.1:8080"]);
  const { id } = (await call(`GET ${pool}/proxies`)).body.proxies[0];
  const paths = ["", "/proxies", `/proxies/${id}`, "/proxies/export", "/leases", "/stats", "/export"];
  for (const path of paths) expect((await call(`GET ${pool}${path}`)).text).not.toContain("only-in-leases");
  for (const path of ["/proxies.export", "/export"])
    expect((await call(`POST ${pool}${path}`, {})).text).not.toContain("only-in-leases");
});

test("answers 404 to an unknown route, and 400 to a request that the HTTP parser refuses, as the protocol does", async () => {
  const { status, body } = await call("GET /v1/nothing?secret=1");
  expect([status, body.code]).toEqual([404, "invalid-request"]);
  expect(body.message).toContain("GET /v1/nothing ");
  expect((await call("GET /v1/pools/%zz")).body).toMatchObject({ code: "invalid-request" });
  expect((await call(`GET /v1/pools/${"a".repeat(300)}`)).body).toMatchObject({ code: "invalid-request" });
  const huge = await call("GET /livez", undefined, { "X-Long": "a".repeat(20_000) });
  expect([huge.status, huge.body.code]).toEqual([400, "invalid-request"]);
});

describe("the service itself", () => {
  test("reports that it is alive, and ready with the pools that answer", async () => {
    expect((await call("GET /livez")).status).toBe(200);
    const { status, body } = await call("GET /readyz");
    expect([status, body.ready]).toEqual([200, true]);
    expect(body.pools).toContain("default");
  });

  test("gives metrics as Prometheus text: numbers of pools, and durations of requests", async () => {
    const pool = await service.pool("metrics", lines(2));
    const { leaseId } = (await call(`POST ${pool}/leases`)).body;
    await call(`POST ${pool}/outcomes`, { leaseId, status: 200 });
    await call(`POST ${pool}/leases`, { labels: { country: "XX" } });
    const scraped = await call("GET /metrics");
    expect([scraped.status, scraped.headers["content-type"]]).toEqual([
      200,
      "text/plain; version=0.0.4; charset=utf-8",
    ]);
    const sample = /^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [\d.e+-]+)$/;
    for (const line of scraped.text.trimEnd().split("\n")) expect(line).toMatch(sample);
    expect(scraped.text).toMatch(/_count\{method="POST",route="\/v1\/pools\/:pool\/leases",status="201"\} [1-9]/);
    // A refusal alone is in the ledger within a second.
    await eventually(async () => {
      const found = (await call("GET /metrics")).text.split("\n");
      const wanted = [
        "remuda_ready 1",
        'remuda_leases_granted_total{pool="metrics"} 1',
        'remuda_refusals_total{pool="metrics",code="no-match"} 1',
        'remuda_proxies{pool="metrics",state="available"} 2',
        'remuda_outcomes_total{pool="metrics",result="succeeded"} 1',
      ];
      expect(wanted.filter((line) => !found.includes(line))).toEqual([]);
    });
  });

  test("describes every route in OpenAPI 3.1, and shows the description as a page", async () => {
    const { body } = await call("GET /docs/json");
    expect(body.openapi).toBe("3.1.0");
    const routes = Object.entries<object>(body.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(routes.sort()).toEqual(
      [
        ...["POST", "GET"].map((method) => `${method} /v1/pools/{pool}/leases`),
        "POST /v1/pools/{pool}/leases/{id}/renew",
        "DELETE /v1/pools/{pool}/leases/{id}",
        "DELETE /v1/pools/{pool}/requests/{id}",
        "POST /v1/pools/{pool}/outcomes",
        ...["GET", "POST"].map((method) => `${method} /v1/pools/{pool}/proxies`),
        ...["GET", "DELETE"].map((method) => `${method} /v1/pools/{pool}/proxies/{id}`),
        ...["rest", "revive"].map((verb) => `POST /v1/pools/{pool}/proxies/{id}/${verb}`),
        "GET /v1/pools",
        ...["PUT", "GET", "PATCH", "DELETE"].map((method) => `${method} /v1/pools/{pool}`),
        ...["stats", "events", "explain"].map((what) => `GET /v1/pools/{pool}/${what}`),
        ...["policy/reset", "token", "token/reject"].map((what) => `POST /v1/pools/{pool}/${what}`),
        "GET /v1/pools/{pool}/sources",
        ...["PUT", "DELETE"].map((method) => `${method} /v1/pools/{pool}/sources/{name}`),
        "POST /v1/pools/{pool}/sources/{name}/read",
        ...["/livez", "/readyz", "/metrics"].map((path) => `GET ${path}`),
        ...["POST", "GET", "DELETE"].map((method) => `${method} /v1/login`),
      ].sort(),
    );
    const text = JSON.stringify(body);
    for (const [, name] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g))
      expect(Object.keys(body.components.schemas)).toContain(name);
    const page = await call("GET /docs");
    expect([page.status, page.headers["content-type"]]).toEqual([200, expect.stringMatching(/^text\/html/)]);
    const script = /src="([^"]+bundle[^"]*)"/.exec(page.text)?.[1];
    expect((await call(`GET ${script}`)).status).toBe(200);
  });
});
