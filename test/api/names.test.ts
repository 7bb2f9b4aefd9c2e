// Names with a meaning in JavaScript that come from outside: as label names, and in the tables of a policy. Each is
// kept or refused with a message. None is dropped silently, and none is more than a name.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readList } from "../../lists/list.ts";
import { sourceSchema } from "../../protocol/source.ts";
import { runCommand } from "../kit/command.ts";

import { connectRaw, type RawNats } from "../kit/raw-nats.ts";
import { type Json, type Service, sharedService } from "./http.ts";

let service: Service;
let nats: RawNats;
let pool: string;

beforeAll(async () => {
  service = await sharedService();
  pool = await service.pool("names", ["10.9.0.1:80"]);
  nats = await connectRaw(service.remuda.natsUrl);
}, 150_000);
afterAll(async () => {
  await nats.close();
  await service.stop();
  expect(Object.keys(Object.prototype)).toEqual([]);
});

const ask = async (verb: string, body: string): Promise<Json> =>
  (await nats.request(`remuda.${verb}.names`, body)).json();
/** A literal with this name would set the prototype instead of a field. */
const named = (name: string, value: unknown) => `{${JSON.stringify(name)}:${JSON.stringify(value)}}`;
const refusal = (field: string) => ({ code: "invalid-request", field, message: expect.stringContaining("__proto__") });

describe.each(["constructor", "toString", "hasOwnProperty", "valueOf"])("a label called %s", (name) => {
  const labels = named(name, "x");

  test("is kept, shown, and selectable, whichever way it comes", async () => {
    const host = `10.9.1.${name.length}`;
    expect((await service.call(`GET ${pool}/proxies?label.${name}=x`)).body).toEqual({ proxies: [] });
    expect(await ask("lease", `{"labels":${labels}}`)).toMatchObject({ code: "no-match" });
    expect(await ask("proxies.add", `{"proxies":[{"url":"${host}:80","labels":${labels}}]}`)).toMatchObject({
      added: 1,
    });
    const again = `[{"host":"${host}","port":80,"labels":${labels}}]`;
    expect((await service.call(`POST ${pool}/proxies`, again)).body).toMatchObject({ already: 1 });
    const listed = (await service.call(`GET ${pool}/proxies?label.${name}=x`)).body.proxies;
    expect(listed).toMatchObject([{ host }]);
    expect(JSON.stringify(listed[0].labels)).toBe(labels);
    const lease = await ask("lease", `{"labels":${labels}}`);
    expect([lease.host, JSON.stringify(lease.labels)]).toEqual([host, labels]);
    const { stdout } = await runCommand(
      ["proxies", "list", "--label", `${name}=x`, "--json", "--pool", "names"],
      service,
    );
    expect(JSON.parse(stdout).proxies).toMatchObject([{ host }]);
  });
});

describe("a label called __proto__", () => {
  const labels = named("__proto__", "x");

  test.each(["lease", "proxies.list"])("is refused in a request over NATS: %s", async (verb) => {
    expect(await ask(verb, `{"labels":${labels}}`)).toMatchObject(refusal("labels.__proto__"));
  });

  test("is refused in a request over HTTP, in its body and in its query", async () => {
    const request = await service.call(`POST ${pool}/leases`, `{"labels":${labels}}`);
    expect([request.status, request.body]).toMatchObject([400, refusal("labels.__proto__")]);
    const list = await service.call(`GET ${pool}/proxies?label.__proto__=x`);
    expect([list.status, list.body]).toMatchObject([400, refusal("labels.__proto__")]);
  });

  test("is refused on the command line", async () => {
    const { code, stderr } = await runCommand(["lease", "--label", "__proto__=x", "--pool", "names"], service);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^remuda: invalid-request: labels\.__proto__: /)]);
  });

  test("rejects only its own entry of a list, with a reason that names it", async () => {
    const list = `[{"url":"10.9.2.1:80","labels":${labels}},"10.9.2.2:80"]`;
    const rejected = [{ line: 1, why: expect.stringContaining("labels.__proto__: ") }];
    expect(await ask("proxies.add", `{"proxies":${list}}`)).toMatchObject({ added: 1, rejected });
    expect((await service.call(`POST ${pool}/proxies`, list)).body).toMatchObject({ already: 1, rejected });
    const csv = 'host,port,labels\n10.9.2.1,80,"{""__proto__"":""x""}"\n';
    expect([...readList(csv)]).toMatchObject([{ ok: false, why: expect.stringContaining("__proto__") }]);
  });

  test("is refused in a source, like a header of that name", () => {
    const from = { kind: "url", url: "http://192.0.2.1/" };
    for (const source of [
      { name: "a", from, labels: JSON.parse(labels) },
      { name: "a", from: { ...from, headers: JSON.parse(labels) } },
    ])
      expect(sourceSchema.safeParse(source).error?.issues[0]?.path.at(-1)).toBe("__proto__");
  });
});

test.each(["classify.status", "classify.error", "backoff.baseMsBy", "outcomes", "token.source.headers", "rate", ""])(
  "a policy with __proto__ in %s is refused, and none is changed",
  async (path) => {
    const inner = named("__proto__", { kind: "none", limit: 1 });
    const policy = path
      .split(".")
      .reduceRight((within, name) => (name === "" ? within : `{"${name}":${within}}`), inner);
    const before = await ask("pool.get", "");
    const field = ["policy", ...path.split("."), "__proto__"].filter((name) => name !== "").join(".");
    expect(await ask("pool.policy", `{"policy":${policy}}`)).toMatchObject(refusal(field));
    expect(await ask("pool.get", "")).toEqual(before);
  },
);

test.each([
  ["limits", '{"__proto__":{"concurrency":1}}'],
  ["limits.rate", '{"rate":{"limit":1,"windowMs":1,"__proto__":{}}}'],
  ["limits.usage", '{"usage":{"limit":1,"restMs":1,"__proto__":{}}}'],
])("rejects a proxy with __proto__ in its %s", async (path, limits) => {
  const rejected = [{ why: expect.stringContaining(`${path}.__proto__: `) }];
  const body = `{"proxies":[{"url":"10.9.3.1:80","limits":${limits}}]}`;
  expect(await ask("proxies.add", body)).toMatchObject({ added: 0, rejected });
});

test("classifies an error named like an inherited property only by the table", async () => {
  const policy = { classify: { error: { constructor: "timeout" } }, concurrency: null };
  expect(await ask("pool.policy", JSON.stringify({ policy }))).toMatchObject({
    policy: { classify: { error: { constructor: "timeout", ECONNREFUSED: "unreachable" } } },
  });
});
