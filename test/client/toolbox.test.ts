// Requests that other tools send through the client: Node's own `fetch` with a dispatcher, node:http, axios and got with
// agents. They are classified as those
// of the client's own `fetch`, by the same table.
import { get as getPlain, type IncomingMessage } from "node:http";
import { get as getSecure } from "node:https";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import axios from "axios";
import got from "got";
import { interceptors, pipeline, request, stream, upgrade } from "undici";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Client } from "../../client/client.ts";
import { readOptions } from "../../client/options.ts";
import type { Attempt } from "../../client/port.ts";
import { type Answer, ClassifiedTargets, type Init, rows } from "./classified.ts";
import { firstly, type LabProxy, startLabProxy, startTarget, type Target } from "./lab.ts";
import { standIn } from "./stand-in.ts";

let targets: ClassifiedTargets;
let target: Target;
const proxies: LabProxy[] = [];

beforeAll(async () => {
  [targets, target] = [await ClassifiedTargets.start(), await startTarget({ secure: false })];
  proxies.push(await startLabProxy(), await startLabProxy());
});
afterAll(() => Promise.all([targets, target, ...proxies].map((each) => each?.stop())));

/** A client with two good proxies. */
function open(options: Parameters<typeof standIn>[1] = {}) {
  return standIn(
    proxies.map(({ port }) => `http://127.0.0.1:${port}`),
    { uses: 10, ...options },
  );
}

const globalFetch: typeof fetch = globalThis.fetch;

async function dispatched(client: Client, url: string, init?: Init): Promise<Answer> {
  const response = await globalFetch(url, { ...init, dispatcher: client.dispatcher() });
  return { status: response.status, text: () => response.text(), cancel: () => response.body?.cancel() };
}

/** As node-fetch does it. */
async function agented(client: Client, url: string, init: Init = {}): Promise<Answer> {
  const agents = client.agent();
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const sent = url.startsWith("https:")
      ? getSecure(url, { ...init, agent: agents.https })
      : getPlain(url, { ...init, agent: agents.http });
    sent.on("response", resolve).on("error", reject);
  });
  response.on("error", () => {}); // A paused reader does not see it.
  return {
    status: response.statusCode ?? 0,
    text: () => text(response),
    cancel: async () => void response.destroy(),
  };
}

/** The routes that differ most. Most rows wait for a time limit, so some run at once. */
describe.each(["forwarded", "TLS"] as const)("over %s", (transport) => {
  test.each([
    ["Node's fetch with the dispatcher", dispatched],
    ["node:http with the agents", agented],
  ] as const)("%s classifies each row of the table as the client does", async (_tool, send) => {
    const left = rows.filter((row) => row.transport === transport);
    const work = async (): Promise<void> => {
      for (let row = left.shift(); row !== undefined; row = left.shift())
        await targets
          .check(row, send)
          .catch((error: Error) => wrong.push(`${row?.phase}: ${row?.what}: ${error.message}`));
    };
    const wrong: string[] = [];
    await Promise.all(Array.from({ length: 3 }, work));
    expect(wrong).toEqual([]);
  });
});

test("the dispatcher takes a use for each hop of a redirect, whichever tool follows it", async () => {
  target.plays.set(
    "/hop",
    firstly((socket) => void socket.write("HTTP/1.1 302 Found\r\nlocation: /end\r\ncontent-length: 0\r\n\r\n")),
  );
  const { client, outcomes } = open();
  const dispatcher = client.dispatcher().compose(interceptors.redirect({ maxRedirections: 3 }));
  const reply = await request(`${target.url}/hop`, { dispatcher });
  expect([reply.statusCode, await reply.body.text()]).toEqual([200, "ok\n"]);
  await client.close();
  expect(outcomes.map(({ status }) => status)).toEqual([302, 200]);
});

test("the dispatcher sends a body twice only if it can be repeated", async () => {
  target.plays.set("/lost", (socket) => void socket.destroy());
  const { client, outcomes } = open();
  const dispatcher = client.dispatcher();
  const post = (method: string, body: string | AsyncIterable<Buffer>) =>
    request(`${target.url}/lost`, { method, body: body as string, dispatcher }).then(
      () => 0,
      () => target.arrived.splice(0).length,
    );
  const large = async function* () {
    for (let i = 0; i < 3; i++) yield Buffer.alloc(40_000);
  };
  target.arrived.length = 0;
  expect(await post("PUT", "again")).toBe(2); // On each proxy once.
  expect(await post("PUT", large())).toBe(1);
  expect(await post("POST", "once")).toBe(1);
  await client.close();
  expect(outcomes.map((each) => each.class)).toEqual(new Array(4).fill("proxy-error"));
});

test("a request that is aborted while it waits for a lease takes no use", async () => {
  const waiting: Attempt[] = [];
  const cancelled: string[] = [];
  let answer = (_reply: object): void => {};
  const client = new Client(readOptions({ url: "nats://127.0.0.1:1" }, {}), {
    bytesMax: 100_000,
    attempt: (attempt) =>
      new Promise((resolve) => {
        waiting.push(attempt);
        answer = resolve;
      }),
    cancel: async (_pool, requestId) => {
      cancelled.push(requestId);
      answer({ code: "unavailable", message: "The request was cancelled." });
    },
    close: async () => {},
  });
  const given = new AbortController();
  const fetched = globalFetch(target.url, { signal: given.signal, dispatcher: client.dispatcher() });
  await expect.poll(() => waiting.map(({ verb }) => verb)).toEqual(["lease"]);
  given.abort();
  await expect(fetched).rejects.toMatchObject({ name: "AbortError" });
  await client.close();
  expect(cancelled).toEqual([waiting[0]?.body["requestId"]]);
  expect(waiting.length).toBe(1);
});

test("undici's other functions take the dispatcher, and an upgrade is refused before it takes a lease", async () => {
  const { client, asked, outcomes } = open();
  const dispatcher = client.dispatcher();
  await expect(upgrade(target.url, { dispatcher })).rejects.toMatchObject({ code: "wrong-options" });
  expect(asked).toEqual([]);
  const streamed = new PassThrough();
  await stream(target.url, { method: "GET", dispatcher }, () => streamed);
  const piped = pipeline(target.url, { method: "PUT", dispatcher }, ({ body }) => body).end("a body");
  expect([await text(streamed), await text(piped)]).toEqual(["ok\n", "ok\n"]);
  await client.close();
  expect(outcomes.map(({ status }) => status)).toEqual([200, 200]);
});

test("the dispatcher gives a handler with a controller the trailers in both forms", async () => {
  const head = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n";
  target.plays.set("/trailers", (socket) => void socket.write(`${head}0\r\nX-Sum: 1\r\n\r\n`));
  const { client } = open();
  const told = await new Promise((resolve, reject) => {
    client.dispatcher().dispatch(
      { origin: target.url, path: "/trailers", method: "GET" },
      {
        onRequestStart: () => {},
        onResponseEnd: ({ rawTrailers }, trailers) =>
          resolve([[rawTrailers ?? []].flat().map(String), { ...trailers }]),
        onResponseError: (_, error) => reject(error),
      },
    );
  });
  await client.close();
  expect(told).toEqual([["X-Sum", "1"], { "x-sum": "1" }]);
});

test("the dispatcher refuses a request without a target before it takes a lease", async () => {
  const { client, asked } = open();
  const dispatcher = client.dispatcher();
  for (const origin of [undefined, "nowhere", "ftp://127.0.0.1"]) {
    const sent = dispatcher.request({ origin: origin as string, path: "/", method: "GET" });
    await expect(sent).rejects.toMatchObject({ code: "wrong-options" });
  }
  await client.close();
  expect(asked).toEqual([]);
});

test("the dispatcher passes a refusal on, and sends nothing once the client is closed", async () => {
  const { client } = standIn([], { fetch: { waitMs: 0 } });
  const dispatcher = client.dispatcher();
  await expect(request(target.url, { dispatcher })).rejects.toMatchObject({ code: "pool-exhausted" });
  await client.close();
  await expect(request(target.url, { dispatcher })).rejects.toMatchObject({ code: "closed" });
  expect(() => client.dispatcher({ pool: "a.b" })).toThrow("pool: must match");
});

test("leases() of a picker that does not know `count` gets the one lease that it grants", async () => {
  const { client, asked } = open();
  const leases = await client.leases(3);
  expect(asked).toMatchObject([{ count: 3 }]);
  expect(leases.map(({ scheme, endsAt }) => [scheme, endsAt > performance.now()])).toEqual([["http", true]]);
  await client.close();
});

test("axios and got get their pages through the agents; each redirect and each retry is a use", async () => {
  const hop = "HTTP/1.1 302 Found\r\nlocation: /end\r\ncontent-length: 0\r\n\r\n";
  const busy = "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
  for (const name of ["axios", "got"]) {
    target.plays.set(
      `/${name}`,
      firstly((socket) => void socket.write(hop)),
    );
    target.plays.set(
      `/${name}-retry`,
      firstly((socket) => void socket.write(busy)),
    );
  }
  const { client, outcomes } = open();
  const agents = client.agent();
  const { data, status } = await axios.get(`${target.url}/axios`, {
    httpAgent: agents.http,
    httpsAgent: agents.https,
    proxy: false,
    timeout: 5000,
  });
  expect([status, data]).toEqual([200, "ok\n"]);
  expect(await got(`${target.url}/got`, { agent: agents, timeout: { request: 5000 } }).text()).toBe("ok\n");
  const again = await got(`${target.url}/got-retry`, { agent: agents, retry: { limit: 1, calculateDelay: () => 1 } });
  expect(again.statusCode).toBe(200);
  await client.close();
  expect(outcomes.map((each) => each.status)).toEqual([302, 200, 302, 200, 503, 200]);
});

test("an agent sends bodies and headers as they are, and answers as they come", async () => {
  target.arrived.length = 0;
  const answer =
    "HTTP/1.1 201 Отлично\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-there: /Отлично\r\nconnection: close\r\n\r\n";
  target.plays.set("/post", (socket) => void socket.end(`${answer}until the end`));
  const { client, outcomes } = open();
  const { http } = client.agent();
  const reply = await axios.post(`${target.url}/post?q=1`, Buffer.from("a body"), {
    httpAgent: http,
    proxy: false,
    headers: { "X-Mine": "1", "content-type": "text/plain" },
  });
  // node:http gives each byte as a character.
  const seen = [reply.statusText, reply.headers["x-there"]].map((each) => Buffer.from(each, "latin1").toString());
  expect([reply.status, reply.data, ...seen]).toEqual([201, "until the end", "Отлично", "/Отлично"]);
  expect(reply.headers["set-cookie"]).toEqual(["a=1", "b=2"]);
  const [head = ""] = target.arrived;
  expect(head).toMatch(/^POST \S*\/post\?q=1 HTTP/);
  expect(head).toMatch(/\r\nX-Mine: 1\r\n/);
  expect(head).toMatch(/\r\ncontent-length: 6$/im);
  const large = await axios.put(`${target.url}/large`, Buffer.alloc(300_000), { httpAgent: http, proxy: false });
  expect(large.status).toBe(200);
  await client.close();
  expect(outcomes.map((each) => [each.status, each.bytes])).toEqual([
    [201, 13],
    [200, 3],
  ]);
});

test("a request of an agent fails with the client's own error, and a time limit of its tool is one", async () => {
  target.plays.set("/hang", () => {});
  const { client, outcomes } = open();
  const agents = client.agent();
  const limited = axios.get(`${target.url}/hang`, { httpAgent: agents.http, proxy: false, timeout: 300 });
  await expect(limited).rejects.toMatchObject({ code: "ECONNABORTED" });
  await expect.poll(() => outcomes.map((each) => each.class)).toEqual(["timeout"]);
  const upgraded = got(target.url, { agent: agents, headers: { connection: "upgrade", upgrade: "websocket" } });
  await expect(upgraded).rejects.toMatchObject({ code: "wrong-options" });
  await client.close();
  const closed = got(target.url, { agent: agents, retry: { limit: 0 } });
  await expect(closed).rejects.toMatchObject({ code: "closed" });
});
