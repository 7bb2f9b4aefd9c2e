// Plain HTTP through the gateway: real proxies and targets, a stand-in for the service.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Sessions } from "../../services/gateway/sessions.ts";
import { deadPort, startLabProxy } from "../client/lab.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { ask, basic, type Lab, type LabOptions, raw, startLab } from "./lab.ts";

interface Seen {
  line: string;
  headers: IncomingMessage["headers"];
  rawHeaders: string[];
  body: string;
  port: number | undefined;
}

const seen: Seen[] = [];
let answer: (request: IncomingMessage, response: ServerResponse) => void = (_request, response) =>
  void response.end("ok\n");
let target: Server;
let site: string;
let first: ForwardProxy;
let second: ForwardProxy;
let lab: Lab;
const labs: Lab[] = [];

beforeAll(async () => {
  target = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      const { method, url, headers, rawHeaders, socket } = request;
      seen.push({ line: `${method} ${url}`, headers, rawHeaders, body, port: socket.remotePort });
      answer(request, response);
    });
  });
  target.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
  site = `http://127.0.0.1:${(target.address() as AddressInfo).port}`; // It listens on TCP.
  [first, second] = await Promise.all([
    startForwardProxy({ exit: "127.0.0.2" }),
    startForwardProxy({ exit: "127.0.0.3" }),
  ]);
});
beforeEach(async () => {
  seen.length = 0;
  answer = (_request, response) => void response.end("ok\n");
  lab = await begun({ proxies: [first.url] });
});
afterEach(async () => {
  await Promise.all(labs.splice(0).map((each) => each.stop()));
});
afterAll(async () => {
  target.closeAllConnections();
  target.close();
  await Promise.all([first.stop(), second.stop()]);
});

async function begun(options: LabOptions): Promise<Lab> {
  const started = await startLab(options);
  labs.push(started);
  return started;
}

const reported = (count: number, from = lab): Promise<Lab["outcomes"]> =>
  eventually(() => {
    if (from.outcomes.length < count) throw new Error(`${from.outcomes.length} of ${count} outcomes`);
    return from.outcomes;
  });

describe("a request", () => {
  test("goes through a leased proxy, with the target's own form, and is one use", async () => {
    const { status, headers, body } = await ask(lab, `${site}/a?b=c`, {
      headers: { host: "elsewhere.example", "x-custom": "1", "proxy-connection": "keep-alive" },
      login: "alice-session-s1:secret",
    });
    expect([status, body, headers["x-remuda-proxy"]]).toEqual([200, "ok\n", expect.stringMatching(/^p_/)]);
    expect(seen).toMatchObject([{ line: "GET /a?b=c", headers: { host: new URL(site).host, "x-custom": "1" } }]);
    expect(Object.keys(seen[0]?.headers ?? {}).filter((name) => /proxy|remuda|forwarded|via/.test(name))).toEqual([]);
    expect(lab.asked).toMatchObject([{ user: "client", pool: "default", session: "s1" }]);
    expect(await reported(1)).toMatchObject([
      { n: 1, status: 200, class: "success", counted: "request", target: "127.0.0.1", bytes: 3 },
    ]);
    expect(headers["x-remuda-lease"]).toBe(lab.outcomes[0]?.leaseId);
    expect(first.requests).toBeGreaterThan(0);
  });

  test("is not sent if its client has left before its pool was known", async () => {
    const [asked, given] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const listing = (): Promise<void> => {
      asked.resolve();
      return given.promise;
    };
    const slow = await begun({ proxies: [first.url], listing });
    const client = await raw(slow.port);
    client.write(`GET ${site}/ HTTP/1.1\r\nHost: x\r\n\r\n`);
    await asked.promise;
    client.socket.destroy();
    expect((await ask(slow, "/livez")).status).toBe(200); // The gateway has noticed by then.
    given.resolve();
    await eventually(() => expect(slow.metrics()).toMatch(/remuda_gateway_requests_total .*aborted 1/));
    expect(slow.asked).toEqual([]);
  });

  test("of a kept connection has a use of its own each, and upstream connections are kept", async () => {
    const client = await raw(lab.port);
    for (const nth of [1, 2, 3]) {
      client.write(`GET ${site}/${nth} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await client.until(new RegExp(`(ok\\n[\\s\\S]*){${nth}}`));
    }
    client.socket.destroy();
    const outcomes = await reported(3);
    expect(new Set(outcomes.map(({ leaseId, n }) => `${leaseId} ${n}`)).size).toBe(3);
    expect(new Set(seen.map(({ port }) => port)).size).toBe(1);
  });

  test("keeps Host, Content-Length and Transfer-Encoding, and drops every other header that Connection names", async () => {
    await ask(lab, `${site}/`, {
      method: "POST",
      headers: {
        connection: "x-secret, host, content-length, transfer-encoding, close",
        "x-secret": "1",
        te: "trailers",
      },
      body: "12345",
    });
    expect(seen).toMatchObject([{ body: "12345", headers: { "content-length": "5" } }]);
    expect(seen[0]?.headers).not.toHaveProperty("x-secret");
    expect(seen[0]?.headers).not.toHaveProperty("te");
  });

  test("may be chunked, and may wait for 100 Continue", async () => {
    const client = await raw(lab.port);
    const head = `POST ${site}/up HTTP/1.1\r\nHost: x\r\n`;
    client.write(`${head}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n`);
    await client.until(/^HTTP\/1\.1 100 Continue/);
    client.write("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    await client.until(/ok\n/);
    client.socket.destroy();
    expect(seen).toMatchObject([{ line: "POST /up", body: "abcdefg" }]);
    expect(seen[0]?.headers).not.toHaveProperty("expect");
  });

  test("of HTTP/1.0 gets an answer that ends with the connection", async () => {
    answer = (_request, response) => {
      response.write("one ");
      response.end("two");
    };
    const client = await raw(lab.port);
    client.write(`GET ${site}/old HTTP/1.0\r\n\r\n`);
    const text = await client.ended();
    expect(text).toMatch(/one two$/);
    expect(text).not.toMatch(/transfer-encoding/i);
  });

  test.each([
    ["HEAD", 200],
    ["GET", 204],
    ["GET", 304],
  ])("%s with status %i has no body, and the connection goes on", async (method, status) => {
    answer = (_request, response) =>
      void response.writeHead(status, status === 200 ? { "content-length": 1000 } : {}).end();
    const client = await raw(lab.port);
    client.write(`${method} ${site}/ HTTP/1.1\r\nHost: x\r\n\r\n`);
    await client.until(/\r\n\r\n/);
    answer = (_request, response) => void response.end("next\n");
    client.write(`GET ${site}/ HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(await client.until(/next\n/)).toMatch(new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*HTTP/1.1 200 [\\s\\S]*next`));
    client.socket.destroy();
  });

  test("that leaves before its answer is neutral for the proxy", async () => {
    let arrive = (): void => {};
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    answer = () => arrive();
    const client = await raw(lab.port);
    client.write(`GET ${site}/hang HTTP/1.1\r\nHost: x\r\n\r\n`);
    await arrived;
    client.socket.destroy();
    expect(await reported(1)).toMatchObject([{ class: "client-abort" }]);
  });

  test("whose answer breaks off ends with a broken connection", async () => {
    answer = (_request, response) => {
      response.writeHead(200, { "content-length": 100 }).write("part");
      setImmediate(() => response.socket?.destroy());
    };
    await expect(ask(lab, `${site}/half`)).rejects.toThrow(/aborted|ECONNRESET/);
    expect(await reported(1)).toMatchObject([{ class: "proxy-error", status: 200 }]);
  });
});

describe("a refused request", () => {
  test("names the option that is wrong, and takes no lease", async () => {
    for (const [login, field] of [
      ["x-wait-61:", "wait"],
      ["x-session-a-session-b:", "session"],
      ["x-ttl-5:", "ttl"],
      ["x-session-a-ttl-0:", "ttl"],
      ["pool-:", "pool"],
      ["x-retries-6:", "retries"],
    ] as const) {
      const { status, body, headers } = await ask(lab, `${site}/`, { login });
      expect([status, JSON.parse(body).field, headers["proxy-status"]]).toEqual([
        ...[400, field, 'remuda; error=http_request_error; details="invalid-request"'],
      ]);
    }
    expect([lab.asked, seen]).toEqual([[], []]);
  });

  test("says when a pool may have a proxy again", async () => {
    const refusal = { code: "pool-exhausted", message: "None is free.", retryAfterMs: 2500 } as const;
    const full = await begun({ proxies: [], refuse: () => refusal });
    const { status, headers, body } = await ask(full, `${site}/`, { login: "x-wait-0:" });
    expect([status, headers["retry-after"], JSON.parse(body)]).toEqual([503, "3", refusal]);
    expect(headers["proxy-status"]).toBe('remuda; error=connection_limit_reached; details="pool-exhausted"');
    expect(seen).toEqual([]);
  });

  test("is answered 503 while no service answers", async () => {
    const alone = await begun({ proxies: [first.url], isAway: true });
    const { status, headers, body } = await ask(alone, `${site}/`);
    expect([status, headers["retry-after"], JSON.parse(body).code]).toEqual([503, "1", "unavailable"]);
  });

  test.each([
    ["https://example.com/", 400],
    ["ftp://example.com/", 400],
    ["http://user:secret@example.com/", 400],
    ["http://example.com:99999/", 400],
    ["/", 400],
    ["http://169.254.169.254/latest", 403],
    ["http://10.0.0.1/", 403],
    ["http://[::1]/", 403],
    ["http://localhost.:1/", 403],
  ])("%s is answered %i", async (url, status) => {
    const strict = await begun({ proxies: [first.url], outboundAllow: { hosts: [], blocks: [] } });
    expect((await ask(strict, url)).status).toBe(status);
    expect(strict.asked).toEqual([]);
  });

  test("gets 407 without a valid key, on a connection that stays open", async () => {
    const users = { k1: { name: "ann", role: "worker" }, k2: { name: "eve", role: "viewer" } } as const;
    const closed = await begun({ proxies: [first.url], users, needsKey: true });
    const client = await raw(closed.port);
    const send = (login: string): void =>
      client.write(`GET ${site}/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: ${basic(login)}\r\n\r\n`);
    client.write(`POST ${site}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello`);
    expect(await client.until(/"Proxy-Authorization"/)).toMatch(
      /^HTTP\/1\.1 407 [\s\S]*proxy-authenticate: Basic realm="remuda"/,
    );
    send("ann:wrong");
    await client.until(/(407[\s\S]*){2}/);
    send("any:k2");
    await client.until(/ 403 /);
    send("ann-session-s:k1");
    await client.until(/ok\n/);
    send("k1:");
    await client.until(/ok\n[\s\S]*ok\n/);
    client.socket.destroy();
    expect(closed.asked.map(({ user }) => user)).toEqual(["ann", "ann"]);
  });
});

test.each([
  ["does not come in time", 408, { headMsMax: 20 }, ""],
  ["is too long", 431, {}, `X-Long: ${"x".repeat(70_000)}\r\n\r\n`],
])("a head that %s is answered %i", async (_what, status, bound, rest) => {
  const bounded = await begun({ proxies: [first.url], ...bound });
  const client = await raw(bounded.port);
  client.write(`GET ${site}/ HTTP/1.1\r\nHost: x\r\n${rest}`);
  const answered = await client.ended();
  expect(answered).toMatch(
    new RegExp(`^HTTP/1.1 ${status} [\\s\\S]*\r\nproxy-status: remuda; error=http_request_error`),
  );
  expect(JSON.parse(answered.split("\r\n\r\n")[1] ?? "")).toMatchObject({ code: "invalid-request" });
  expect(bounded.asked).toEqual([]);
});

test("counts a refused or failed request for the pool that its target's host names", async () => {
  const refusal = { code: "pool-exhausted", message: "None is free.", retryAfterMs: 2500 } as const;
  const full = await begun({ proxies: [], policies: { web: { hosts: ["127.0.0.1"] } }, refuse: () => refusal });
  await ask(full, `${site}/`, { login: "wait-0:" });
  const client = await raw(full.port);
  client.write(`CONNECT ${new URL(site).host} HTTP/1.1\r\nProxy-Authorization: ${basic("wait-0:")}\r\n\r\n`);
  await client.until(/ 503 /);
  client.socket.destroy();
  const users = { k: { name: "ann", role: "worker", pools: ["other"] } } as const;
  const closed = await begun({ proxies: [], policies: { web: { hosts: ["127.0.0.1"] } }, users });
  expect((await ask(closed, `${site}/`, { login: "x:k" })).status).toBe(403);
  for (const [from, kind] of [
    [full, "http"],
    [full, "connect"],
    [closed, "http"],
  ] as const)
    expect(from.metrics()).toContain(`remuda_gateway_requests_total web ${kind} refused 1`);
});

test("closes a connection beyond the bound, and goes on with the others", async () => {
  const small = await begun({ proxies: [first.url], connectionsMax: 1 });
  const client = await raw(small.port);
  client.write(`GET ${site}/1 HTTP/1.1\r\nHost: x\r\n\r\n`);
  await client.until(/ok\n/);
  const beyond = await raw(small.port);
  expect(await beyond.ended()).toBe("");
  client.socket.destroy();
  await eventually(async () => expect((await ask(small, `${site}/2`)).body).toBe("ok\n"));
});

describe("a failed try", () => {
  test("is repeated on another proxy, each with its own lease and outcome", async () => {
    const dead = `http://127.0.0.1:${await deadPort()}`;
    const two = await begun({ proxies: [dead, second.url] });
    const { status, headers } = await ask(two, `${site}/`, { method: "POST", body: "small" });
    expect(status).toBe(200);
    const outcomes = await reported(2, two);
    expect(outcomes.map((each) => [each.class, each.proxy])).toEqual([
      ["unreachable", dead],
      ["success", second.url],
    ]);
    expect(headers["x-remuda-lease"]).toBe(outcomes[1]?.leaseId);
    expect(two.metrics()).toContain("remuda_gateway_retries_total  1");
  });

  test("is not repeated where the client says so, and never directly", async () => {
    const two = await begun({ proxies: [`http://127.0.0.1:${await deadPort()}`, second.url] });
    const { status, headers, body } = await ask(two, `${site}/`, { headers: { "x-remuda-retries": "0" } });
    expect([status, headers["proxy-status"], JSON.parse(body).code]).toEqual([
      ...[502, 'remuda; error=connection_refused; details="unavailable"', "unavailable"],
    ]);
    expect(seen).toEqual([]);
  });

  test("hides a proxy's own 407", async () => {
    const locked = await startForwardProxy({ exit: "127.0.0.4", credentials: { username: "u", password: "right" } });
    const wrong = await begun({ proxies: [locked.url.replace("right", "wrong")] });
    const { status, headers } = await ask(wrong, `${site}/`);
    await locked.stop();
    expect([status, headers["proxy-authenticate"], headers["proxy-status"]]).toEqual([
      ...[502, undefined, 'remuda; error=proxy_configuration_error; details="unavailable"'],
    ]);
    expect(await reported(1, wrong)).toMatchObject([{ class: "proxy-auth" }]);
    expect(seen).toEqual([]);
  });
});

describe("options", () => {
  test("come from the user name, and headers win", async () => {
    const policies = { web: { hosts: ["127.0.0.1"] } };
    const known = await begun({ proxies: [first.url], policies });
    await ask(known, `${site}/`, { login: "bob-country-de-label-tier_gold-scheme-http-wait-5:" });
    const headers = { "x-remuda-country": "us", "x-remuda-pool": "default", "X-Remuda-Label": "isp=acme" };
    await ask(known, `${site}/`, { login: "bob-country-de:", headers });
    expect(known.asked).toMatchObject([
      { pool: "web", labels: { country: "de", tier: "gold" }, schemes: ["http"] },
      { pool: "default", labels: { country: "us", isp: "acme" } },
    ]);
  });
});

test("a session with a lifetime of its own has another name when it was not used for so long", () => {
  const sessions = new Sessions();
  const nameAt = (now: number, pool = "p"): string =>
    sessions.nameFor({ user: "u", pool, session: "s", ttlMs: 1000 }, now);
  expect([nameAt(0), nameAt(900), nameAt(1900), nameAt(0, "q")]).toEqual(["s", "s", "s", "s"]);
  const second = nameAt(2901);
  expect(second).toMatch(/^s~[\w-]{8}$/);
  expect([nameAt(3000), nameAt(3900)]).toEqual([second, second]);
  expect(nameAt(5000)).not.toBe(second);
});

describe("a message that two readers could read in two ways", () => {
  test.each([
    ["two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"],
    ["a length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["a coding after chunked", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"],
    ["a space before the colon", "Content-Length : 5\r\n\r\nhello"],
  ])("is refused: %s", async (_what, rest) => {
    const client = await raw(lab.port);
    client.write(`POST ${site}/ HTTP/1.1\r\nHost: x\r\n${rest}`);
    expect(await client.ended()).toMatch(/^HTTP\/1\.1 400 /);
    expect([lab.asked, seen]).toEqual([[], []]);
  });

  test("of a target does not reach the client with both", async () => {
    const odd = await startLabProxy();
    odd.forward = (socket) =>
      void socket.end("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    const through = await begun({ proxies: [`http://127.0.0.1:${odd.port}`] });
    const { raw: fields } = await ask(through, `${site}/`);
    await odd.stop();
    expect(fields.filter((each) => /^(content-length|transfer-encoding)$/i.test(each)).length).toBeLessThan(2);
  });
});
