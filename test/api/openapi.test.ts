// The description of HTTP, made without a service: every word of the protocol is in it.
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { whysIgnored } from "../../events/outcome.ts";
import { refusalNumbers } from "../../events/refusal.ts";
import { buildApi } from "../../services/api/app.ts";
import type { Ledgers } from "../../services/api/ledger.ts";
import type { Api } from "../../services/api/request.ts";
import type { Json } from "./http.ts";

let api: Api;
let described: Json;

beforeAll(async () => {
  api = await buildApi({
    ask: () => Promise.reject(new Error("nobody is asked")),
    ledgers: {} as Ledgers, // Nothing of it is called here.
    log: pino({ level: "silent" }),
    version: "0",
    door: { host: "127.0.0.1", names: [], isKey: undefined },
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
