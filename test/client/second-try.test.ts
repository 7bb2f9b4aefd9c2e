// The client's second try after a rejection. The test plays the service, and checks what is sent, and when.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { Client } from "../../client/client.ts";
import { readOptions } from "../../client/options.ts";
import type { Attempt, Port } from "../../client/port.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";

let proxy: ForwardProxy;
let url: string;
/** The requests to the site, with their tokens. */
let seen: { asked: string; token: string }[] = [];
let answer: (request: IncomingMessage, response: ServerResponse, token: string) => void;
const server = createServer((request, response) => {
  const token = String(request.headers["x-guest-token"] ?? "");
  seen.push({ asked: `${request.method} ${request.url}`, token });
  request.resume();
  answer(request, response, token);
});

beforeAll(async () => {
  proxy = await startForwardProxy({ exit: "127.0.0.91" });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // It listens on TCP.
});
beforeEach(() => {
  seen = [];
  good = "value-2";
  answer = (_request, response, token) => {
    response.statusCode = token === good ? 200 : 401;
    response.end("seen\n");
  };
});
afterEach(() => client?.close());
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await proxy?.stop();
});

let good: string;
let client: Client | undefined;

/** A service that gives leases of this many uses with its current token, and answers when `hold` allows it. */
function service({ uses = 1 } = {}) {
  const told = {
    token: 1,
    asked: [] as Attempt[],
    hold: async (_attempt: Attempt): Promise<void> => {},
    /** An answer in place of the usual one. */
    instead: (_attempt: Attempt): object | undefined => undefined,
    /** A rejection is recorded, and the next token is available. */
    onReport: (): void => void told.token++,
  };
  const { hostname: host, port } = new URL(proxy.url);
  let leases = 0;
  const reply = (attempt: Attempt): object => {
    const { verb, body, pool } = attempt;
    if (verb === "report") {
      const outcomes = body["outcomes"] as { tokenRejected?: boolean; tokenId?: string }[];
      if (outcomes.some(({ tokenRejected, tokenId }) => tokenRejected === true && tokenId === `t${told.token}`))
        told.onReport();
      return { accepted: outcomes.length, ignored: [], ignoredCount: 0, stop: [] };
    }
    if (verb === "release") return { leaseId: body["leaseId"], used: body["used"], returned: 0 };
    const at = Date.now();
    return {
      leaseId: `l_${String(++leases).padStart(20, "0")}`,
      pool,
      proxyId: "p_0000000000000001",
      url: proxy.url,
      scheme: "http",
      host,
      port: Number(port),
      uses: Math.min(uses, Number(body["uses"] ?? 1)),
      epoch: 0,
      grantedAt: at,
      expiresAt: at + 60_000,
      leftMs: 60_000,
      labels: {},
      token: { tokenId: `t${told.token}`, value: `value-${told.token}`, mintedAt: at },
    };
  };
  const asPort: Port = {
    bytesMax: 100_000,
    async attempt(attempt) {
      told.asked.push(attempt);
      const answer = told.instead(attempt) ?? reply(attempt);
      await told.hold(attempt);
      return answer;
    },
    cancel: async () => {},
    close: async () => {},
  };
  client = new Client(readOptions({ url: "nats://127.0.0.1:1", token: { header: "x-guest-token" } }, {}), asPort);
  return { client, told };
}

test("does not repeat a request that was redirected after it took effect, though its answer rejects the token", async () => {
  const { client } = service();
  answer = (request, response) => {
    response.statusCode = request.method === "POST" ? 303 : 401;
    response.setHeader("location", "/result");
    response.end();
  };
  expect((await client.fetch(`${url}/order`, { method: "POST", body: "one" })).status).toBe(401);
  expect(seen.map(({ asked }) => asked)).toEqual(["POST /order", "GET /result"]);
});

test("repeats an idempotent request, even after a redirect", async () => {
  const { client } = service();
  answer = (request, response, token) => {
    response.statusCode = request.url === "/there" ? (token === good ? 200 : 401) : 302;
    response.setHeader("location", "/there");
    response.end();
  };
  expect((await client.fetch(`${url}/here`)).status).toBe(200);
  expect(seen.map(({ asked }) => asked)).toEqual(["GET /here", "GET /there", "GET /here", "GET /there"]);
});

test("stops waiting when the caller aborts while the rejection is on its way to the service", async () => {
  const { client, told } = service();
  let reported: () => void = () => {};
  told.hold = ({ verb }) =>
    verb === "report"
      ? new Promise((resolve) => {
          reported = resolve;
        })
      : Promise.resolve();
  const givenUp = new AbortController();
  const fetched = client.fetch(`${url}/data`, { signal: givenUp.signal });
  await eventually(() => expect(told.asked.map(({ verb }) => verb)).toContain("report"));
  givenUp.abort(new Error("enough"));
  await expect(fetched).rejects.toThrow("enough");
  reported();
  expect(seen).toHaveLength(1);
});

test("gives back, unused, a lease that was on its way when its token was rejected", async () => {
  const { client, told } = service({ uses: 5 });
  let arrive: () => void = () => {};
  let asks = 0;
  told.hold = ({ verb }) =>
    verb === "lease" && ++asks === 2
      ? new Promise((resolve) => {
          arrive = resolve;
        })
      : Promise.resolve();
  let answered: () => void = () => {};
  const sent = answer;
  answer = (...given) => {
    answered = () => sent(...given);
    if (seen.length > 1) answered();
  };
  const first = client.fetch(`${url}/first`);
  await eventually(() => expect(seen).toHaveLength(1));
  const second = client.fetch(`${url}/second`);
  await eventually(() => expect(asks).toBe(2));
  answered();
  await eventually(() => expect(told.token).toBe(2));
  arrive();
  expect((await Promise.all([first, second])).map(({ status }) => status)).toEqual([200, 200]);
  expect(seen.filter(({ token }) => token === "value-1").map(({ asked }) => asked)).toEqual(["GET /first"]);
});

test("sends no request twice with a rejected token that the service keeps, and uses it in later requests", async () => {
  const { client, told } = service({ uses: 5 });
  told.onReport = () => {};
  answer = (_request, response, token) => {
    response.statusCode = token === good ? 200 : 401;
    response.end(token === good ? "seen\n" : "bad guest token");
  };
  for (let i = 0; i < 20; i++) {
    const response = await client.fetch(`${url}/data`);
    expect([response.status, await response.text()]).toEqual([401, "bad guest token"]);
  }
  expect(seen.map(({ token }) => token)).toEqual(Array.from({ length: 20 }, () => "value-1"));
  good = "value-1";
  expect((await client.fetch(`${url}/data`)).status).toBe(200);
});

test("gives the caller the first answer when the service refuses a lease for the second try", async () => {
  const { client, told } = service();
  let leases = 0;
  told.instead = ({ verb }) =>
    verb === "lease" && ++leases === 2
      ? { code: "token-unavailable", message: "The source does not answer.", retryAfterMs: 60_000 }
      : undefined;
  answer = (_request, response) => {
    response.statusCode = 401;
    response.end("bad guest token");
  };
  const response = await client.fetch(`${url}/data`);
  expect([response.status, await response.text()]).toEqual([401, "bad guest token"]);
  expect(seen.map(({ token }) => token)).toEqual(["value-1"]);
});
