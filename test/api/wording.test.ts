// Every verb over NATS and every route over HTTP, with every field wrong in every way: each refusal names the field and
// its valid values, in the service's own words.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";
import { type Json, type Service, sharedService } from "./http.ts";

let service: Service;
let nats: RawNats;
let leaseId: string;
let proxyId: string;

beforeAll(async () => {
  service = await sharedService();
  const path = await service.pool("wording", ["10.9.0.1:80"], { concurrency: null, rate: null, usage: null });
  nats = await connectRaw(service.remuda.natsUrlAs("operator"));
  ({ leaseId, proxyId } = (await service.call(`POST ${path}/leases`, { uses: 9, ttlMs: 3_600_000 })).body);
}, 150_000);
afterAll(async () => {
  await nats.close();
  await service.stop();
});

const wrong: readonly unknown[] = [
  null,
  true,
  "",
  "x",
  "x".repeat(5000),
  -1,
  0,
  1.5,
  1e300,
  [],
  [null],
  [[]],
  {},
  { x: null },
];
const theirs = /Invalid|Too (big|small)|Unrecognized|Required|\b(expected|received)\b|zod|NaN|undefined/i;

/** The field may be named by its part: `ids.0`. */
function checkMessage(refusal: Json, field: string): void {
  expect(refusal.message).not.toMatch(theirs);
  expect(refusal.field).toMatch(new RegExp(`^${field}(\\.|$)`));
  expect(refusal.message).toMatch(/\.$/);
  expect(refusal.message.startsWith(`${refusal.field}: `)).toBe(true);
}

/** The fields that every request reads, and a valid body. */
const bodies = (): Record<string, [fields: string, taken?: Json]> => ({
  lease: ["requestId uses minUses ttlMs waitMs session labels schemes exclude proxyId holder token target"],
  cancel: ["requestId"],
  renew: ["leaseId ttlMs", { leaseId }],
  release: ["leaseId used", { leaseId }],
  report: ["outcomes"],
  "proxies.add": ["proxies ids", { proxies: [] }],
  "proxies.list": ["state labels after limit"],
  "proxies.get": ["id"],
  "proxies.retire": ["ids reason", { ids: ["p_none"] }],
  "proxies.rest": ["ids forMs reason", { ids: ["p_none"], forMs: 1 }],
  "proxies.revive": ["ids"],
  "leases.list": ["holder proxyId after limit"],
  "token.get": ["proxyId waitMs"],
  "token.reject": ["tokenId proxyId", { tokenId: "t_none" }],
  "pool.open": ["policy"],
  "pool.policy": ["policy ifVersion", { policy: {} }],
  "pool.close": ["drain"],
  "sources.put": ["name everyMs labels retire refill probe from"],
  "sources.read": ["name"],
  "sources.remove": ["name"],
});

describe("over NATS", () => {
  test.each(Object.keys(bodies()))("%s", async (verb) => {
    const [fields, taken = {}] = bodies()[verb]!; // One of its keys.
    for (const field of fields.split(" ")) {
      let refused = 0;
      // Absent and null are the same, and a close without `drain` would close the pool.
      for (const value of verb === "pool.close" ? wrong.filter((each) => each !== null) : [undefined, ...wrong]) {
        const from = verb === "sources.put" ? { name: "a", from: { kind: "url", url: "http://127.0.0.1:9/" } } : {};
        const body = JSON.stringify({ ...from, ...taken, [field]: value });
        const reply: Json = (await nats.request(`remuda.${verb}.wording`, body)).json();
        if (reply.code !== "invalid-request") continue;
        refused++;
        checkMessage(reply, field);
      }
      expect([field, refused]).toEqual([field, expect.toSatisfy((count: number) => count >= 3)]);
    }
  });

  test("tells a client that its body must be an object", async () => {
    for (const body of ["null", "[]", "5", '"x"']) {
      const { code, message }: Json = (await nats.request("remuda.lease.wording", body)).json();
      expect(code).toBe("invalid-request");
      expect(message).toMatch(/must be an object, and is (null|a list|a number|a string)\.$/);
    }
  });
});

describe("over HTTP", () => {
  const at = "/v1/pools/wording";
  test.each([
    ["POST", `${at}/leases`, "requestId uses minUses ttlMs waitMs session labels schemes exclude holder token"],
    ["POST", `${at}/leases/l_none/renew`, "ttlMs"],
    ["POST", `${at}/proxies/p_none/rest`, "forMs reason"],
    ["POST", `${at}/token`, "proxyId waitMs"],
    ["POST", `${at}/token/reject`, "tokenId"],
    ["PUT", at, "policy"],
    ["PATCH", at, "policy"],
    ["PUT", `${at}/sources/a`, "everyMs labels from"],
  ])("%s %s", async (method, path, fields) => {
    for (const field of fields.split(" ")) {
      let refused = 0;
      for (const value of wrong) {
        const { status, body } = await service.call(`${method} ${path}`, {
          forMs: 1,
          policy: {},
          from: 5,
          [field]: value,
        });
        if (body.code !== "invalid-request") continue;
        expect(status).toBe(400);
        refused++;
        if (path.includes("/sources/") && field !== "from") continue;
        checkMessage(body, field);
      }
      expect([field, refused]).toEqual([field, expect.toSatisfy((count: number) => count >= 3)]);
    }
  });

  test.each([
    ["GET", `${at}/leases`, "limit", "x -1 1.5 0 9999 1&limit=2"],
    ["GET", `${at}/leases`, "holder", `${"x".repeat(200)} a&holder=b`],
    ["GET", `${at}/proxies`, "limit", "x 0 9999"],
    ["GET", `${at}/proxies`, "state", "x active a&state=b"],
    ["GET", `${at}/proxies`, "after", `${"x".repeat(200)} a&after=b`],
    ["GET", `${at}/proxies`, "at", "x -1 1&at=2"],
    ["DELETE", `${at}/leases/l_none`, "used", "x -1 1.5 1&used=2"],
    ["DELETE", `${at}/proxies/p_none`, "reason", `${"x".repeat(300)} a&reason=b`],
    ["DELETE", at, "drain", "x 1 yes a&drain=b"],
  ])("%s %s?%s=", async (method, path, field, values) => {
    for (const value of values.split(" ")) {
      const { status, body } = await service.call(`${method} ${path}?${field}=${value}`);
      expect([value.slice(0, 20), status]).toEqual([value.slice(0, 20), 400]);
      checkMessage(body, field);
    }
  });

  test("checks names in the path", async () => {
    const { body } = await service.call("GET /v1/pools/No_Such");
    checkMessage(body, "pool");
    checkMessage((await service.call(`PUT ${at}/sources/No_Such`, {})).body, "name");
  });

  test("refuses proxies of a pool that are not a list", async () => {
    for (const text of ["null", "{}", "5", '"x"', '{"proxies":5}', '{"proxies":{}}']) {
      const { status, body } = await service.call(`POST ${at}/proxies`, text);
      if (status === 400) expect(body.message).not.toMatch(theirs);
      else expect([text, body]).toMatchObject([text, { added: 0, rejectedCount: 1 }]);
    }
  });

  test("refuses outcomes that are not a list", async () => {
    for (const text of ["null", "5", '"x"', '{"outcomes":5}', '{"outcomes":null}']) {
      const { status, body } = await service.call(`POST ${at}/outcomes`, text);
      if (status === 400) expect(body.message).not.toMatch(theirs);
      else expect([text, body.accepted]).toEqual([text, 0]);
    }
  });
});

test("leaves the pool's state unharmed by all that", async () => {
  expect((await service.call("GET /v1/pools/wording/stats")).body.leases.open).toBeGreaterThan(0);
  expect(proxyId).toMatch(/^p_/);
});
