// HTTP without a service: its OpenAPI description, and the requests that it makes of its input.
import { afterAll, beforeAll, expect, test } from "vitest";
import { whysIgnored } from "../../events/outcome.ts";
import { refusalNumbers } from "../../events/refusal.ts";
import { routes } from "../../protocol/verbs.ts";
import { openLog } from "../../runtime/log.ts";
import { buildApi } from "../../services/api/app.ts";
import type { Ledgers } from "../../services/api/ledger.ts";
import type { Api } from "../../services/api/request.ts";
import type { Json } from "./http.ts";

let api: Api;
let described: Json;
const asked: object[] = [];
const said: Json[] = [];
const write = (line: string): void => void said.push(JSON.parse(line));

beforeAll(async () => {
  api = await buildApi({
    ask:
      () =>
      async ({ verb, pool, body }) => {
        asked.push({ verb, pool, body });
        return { bytes: Buffer.from('{"unknown":[]}') };
      },
    ledgers: {} as Ledgers, // Nothing of it is called here.
    log: openLog({ level: "info", version: "0", isTerminal: false, write })("api"),
    version: "0",
    door: { host: "127.0.0.1", names: [], userOf: () => undefined, needsKey: false, hasTls: false },
  });
  described = (await api.inject({ url: "/docs/json", headers: { host: "127.0.0.1" } })).json();
});
afterAll(() => api?.close());

const answerOf = (line: string, status: string): Json => {
  const [method = "", path = ""] = line.split(" ");
  return described.paths[path][method.toLowerCase()].responses[status].content["application/json"].schema;
};

test("names every reason for which an outcome is ignored, and every code of a refusal", () => {
  const reported = answerOf("POST /v1/pools/{pool}/outcomes", "200");
  expect(reported.properties.ignored.items.properties.why.enum).toEqual([...whysIgnored]);
  expect(described.components.schemas.Refusal.properties.code.enum).toEqual(Object.keys(refusalNumbers));
});

test.each(["%2e%2e/x", "static/%2e%2e/%2e%2e/package.json", "static/..%2f..%2fpackage.json", "static/a%00b", "no.css"])(
  "answers 404 to /docs/%s",
  async (path) => {
    const { statusCode, body } = await api.inject({ url: `/docs/${path}`, headers: { host: "127.0.0.1" } });
    expect([statusCode, JSON.parse(body).code]).toEqual([404, "invalid-request"]);
  },
);

test("has every route of the contract's table, with the reply's status", () => {
  for (const { method, path, status } of routes) {
    if (path.includes("?")) continue; // Another verb has this route without the query.
    const described = path.replace(/:(\w+)/g, "{$1}");
    expect([described, answerOf(`${method} ${described}`, String(status))]).toEqual([described, expect.anything()]);
  }
});

test("makes every verb's request that has a path of its own out of the path, the query and the body", async () => {
  for (const [line, body, verb, sent] of [
    ["POST …/leases/l_1/renew", { ttlMs: 5 }, "renew", { ttlMs: 5, leaseId: "l_1" }],
    ["DELETE …/leases/l_1?used=3", "", "release", { used: 3, leaseId: "l_1" }],
    ["DELETE …/requests/w_1", "", "cancel", { requestId: "w_1" }],
    ["GET …/leases?limit=5&holder=me", "", "leases.list", { limit: 5, holder: "me" }],
    ["GET …/proxies/p_1", "", "proxies.get", { id: "p_1" }],
    ["DELETE …/proxies/p_1?reason=old", "", "proxies.retire", { ids: ["p_1"], reason: "old" }],
    ["POST …/proxies/p_1/rest", { forMs: 5, ids: ["p_2"] }, "proxies.rest", { forMs: 5, ids: ["p_1"] }],
    ["POST …/proxies/p_1/revive", { more: 1 }, "proxies.revive", { ids: ["p_1"] }],
    ["POST …/token", { waitMs: 7 }, "token.get", { waitMs: 7 }],
    ["DELETE …?drain=true", "", "pool.close", { drain: true }],
    ["PATCH …", { policy: {}, later: 1 }, "pool.policy", { policy: {}, later: 1 }],
    ["PUT …/sources/site", { from: {} }, "sources.put", { from: {}, name: "site" }],
  ] as const) {
    asked.length = 0;
    const [method = "", path = ""] = line.split(" ");
    const { statusCode } = await api.inject({
      method: method as "GET", // Or another one of Fastify's.
      url: path.replace("…", "/v1/pools/shop"),
      headers: { host: "127.0.0.1" },
      ...(body === "" ? {} : { payload: body }),
    });
    expect([line, statusCode, asked]).toEqual([line, 200, [{ verb, pool: "shop", body: sent }]]);
  }
});

test("logs a sample of its refusals at info, without their sentences", async () => {
  for (let i = 0; i < 5; i++)
    await api.inject({ url: "/v1/pools/shop/events?from=se%63ret", headers: { host: "127.0.0.1" } });
  const refused = said.filter(({ route }) => route === "/v1/pools/:pool/events");
  expect(refused).toEqual([
    {
      ...{ level: "info", time: expect.any(String), service: "api", version: "0" },
      ...{ code: "invalid-request", field: "from", method: "GET", route: "/v1/pools/:pool/events", pool: "shop" },
      msg: "a request over HTTP was refused",
    },
  ]);
});
