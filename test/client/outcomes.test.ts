// Whose fault a failure is: each row of the table in docs/outcomes.md (clients/classification.json), over each of its transports, with real
// connections. The first proxy is the one that goes wrong, and beside it there is a good one.
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Client, FetchInit, Options, Response } from "../../client/client.ts";
import { readClassification, type Transport, transports } from "../docs/classification.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { deadPort, firstly, type LabProxy, type Play, startLabProxy, startTarget, type Target } from "./lab.ts";
import { type StandIn, standIn } from "./stand-in.ts";

/** How a row is brought about. */
interface Case {
  /** The target's answer to the first request alone. */
  target?: Play;
  proxy?: (proxy: LabProxy) => void;
  /** No proxy listens. */
  dead?: true;
  options?: Options & { leaseMs?: number };
  init?: () => FetchInit;
  /** Before the request that goes wrong. */
  before?: (client: Client, url: string) => Promise<void>;
  /** The caller's use of the answer. Default: reads it. */
  read?: (response: Response) => Promise<unknown>;
}

const send =
  (bytes: string): Play =>
  (socket) =>
    void socket.write(bytes);
const head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
const nothing = (): void => {};
const drips: Play = (socket) => {
  socket.write(head);
  const timer = setInterval(() => void socket.write("x"), 20);
  socket.on("close", () => clearInterval(timer));
};
const floods: Play = (socket) => void socket.write(`${head}${"x".repeat(1_000_000)}`);
const tunnel = (play: (socket: Socket, kind: "connect" | "socks") => void) => (proxy: LabProxy) => {
  proxy.tunnel = play;
};
const inside = (play: (socket: Socket) => void) => (proxy: LabProxy) => {
  proxy.inside = play;
};
const forward = (answer: string) => (proxy: LabProxy) => {
  proxy.forward = (socket) => void socket.write(answer);
};
const short = { fetch: { connectTimeoutMs: 150 } };

const cases: Record<string, Case> = {
  "the proxy refuses the connection": { dead: true },
  "the proxy does not answer in time": { proxy: tunnel(nothing), options: short },
  "the proxy closes the connection": { proxy: tunnel((socket) => void socket.destroy()) },
  "the proxy answers with something other than HTTP or SOCKS": {
    proxy: tunnel((socket) => void socket.end("SSH-2.0-OpenSSH_8.9p1 Ubuntu-3\r\n")),
  },
  "the proxy refuses the login": {
    proxy: tunnel((socket, kind) => {
      if (kind === "socks") return void socket.end(Buffer.of(5, 255));
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
    }),
  },
  "the proxy refuses the tunnel": {
    proxy: tunnel((socket, kind) => {
      if (kind === "connect") return void socket.end("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
      socket.write(Buffer.of(5, 0));
      socket.once("data", () => void socket.end(Buffer.of(5, 5, 0, 1, 0, 0, 0, 0, 0, 0)));
    }),
  },
  "the tunnel closes before TLS is set up": { proxy: inside((socket) => void socket.destroy()) },
  "the other side does not answer in time": { proxy: inside(nothing), options: short },
  "the other side does not speak TLS": {
    proxy: inside((socket) => socket.once("data", () => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))),
  },
  "the target refuses with a TLS alert": {
    // A fatal alert: handshake_failure (RFC 8446, 6).
    proxy: inside((socket) => socket.once("data", () => void socket.end(Buffer.of(21, 3, 3, 0, 2, 2, 40)))),
  },
  "the target's certificate is not valid": { options: { tls: {} } },
  "the answer is a 304 with a Content-Length": {
    target: send('HTTP/1.1 304 Not Modified\r\netag: "x"\r\ncontent-length: 777\r\n\r\n'),
    init: () => ({ headers: { "if-none-match": '"x"' } }),
  },
  "the proxy answers 407": { proxy: forward("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n") },
  "the proxy answers 502 and names itself as the cause": {
    proxy: forward("HTTP/1.1 502 No\r\nproxy-status: p; error=connection_refused\r\ncontent-length: 0\r\n\r\n"),
  },
  "the answer is a 502": { target: send("HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n") },
  "the answer has headers that are too large": {
    target: send(`HTTP/1.1 200 OK\r\nx-much: ${"x".repeat(40_000)}\r\ncontent-length: 0\r\n\r\n`),
  },
  "the answer has a header that is not valid": { target: send("HTTP/1.1 200 OK\r\nno colon here\r\n\r\n") },
  "the answer is not HTTP": { target: (socket) => void socket.end("SSH-2.0-OpenSSH_8.9p1 Ubuntu-3\r\n") },
  "the connection closes before any answer": { target: (socket) => void socket.destroy() },
  "no answer comes within `headersTimeoutMs`": { target: nothing, options: { fetch: { headersTimeoutMs: 300 } } },
  "the caller's time limit ends, and the proxy has had half of it": {
    target: nothing,
    init: () => ({ signal: AbortSignal.timeout(400) }),
  },
  "the caller's time limit ends, and the proxy has had less than half of it": {
    target: nothing,
    init: () => ({ signal: AbortSignal.timeout(150) }),
  },
  "the caller aborts": {
    target: nothing,
    init: () => {
      const given = new AbortController();
      setTimeout(() => given.abort(), 300);
      return { signal: given.signal };
    },
  },
  "the lease ends, and the request has had half of it": { target: nothing, options: { leaseMs: 400 } },
  "a kept connection closes before any answer": {
    target: (socket, told) => {
      if (told.before > 0) socket.destroy();
      else send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")(socket, told);
    },
    before: async (client, url) => void (await (await client.fetch(url)).text()),
  },
  "the connection closes in the middle": {
    target: (socket) => {
      socket.write(`${head}half`);
      setTimeout(() => socket.destroy(), 50);
    },
  },
  "a chunk is not valid": { target: send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n") },
  "nothing comes for `bodyTimeoutMs`": { target: send(`${head}half`), options: { fetch: { bodyTimeoutMs: 200 } } },
  "it drips past the lease's end": { target: drips, options: { leaseMs: 500 } },
  "it drips past the caller's time limit": { target: drips, init: () => ({ signal: AbortSignal.timeout(500) }) },
  "the lease ends while the reader has paused": {
    target: floods,
    options: { leaseMs: 500 },
    read: () => sleep(700),
  },
  "the caller cancels it": { target: send(`${head}half`), read: async (response) => response.body?.cancel() },
};

const root = new URL("../../", import.meta.url).pathname;
const rows = readClassification(root).cases.flatMap(({ transports, ...row }) =>
  transports.map((transport) => ({ ...row, transport })),
);

let targets: Record<"plain" | "secure", Target>;
let bad: LabProxy;
let good: LabProxy;
let open: StandIn | undefined;

beforeAll(async () => {
  targets = { plain: await startTarget({ secure: false }), secure: await startTarget({ secure: true }) };
});
afterAll(() => Promise.all(Object.values(targets).map((each) => each.stop())));
afterEach(async () => {
  await open?.client.close();
  await Promise.all([bad?.stop(), good?.stop()]);
});

let paths = 0;
async function setUp(transport: Transport, { target, proxy, dead, options = {} }: Case) {
  [bad, good] = [await startLabProxy(), await startLabProxy()];
  proxy?.(bad);
  const scheme = transport === "SOCKS" ? "socks5" : "http";
  const badPort = dead ? await deadPort() : bad.port;
  const addresses = [badPort, good.port].map((port) => `${scheme}://127.0.0.1:${port}`);
  const fetch = { tunnelHttp: transport === "CONNECT", idleMs: 60_000, ...options.fetch };
  const tls = { targetCa: loopbackTls.cert };
  open = standIn(addresses, { uses: 10, tls, ...options, fetch });
  const site = transport === "TLS" ? targets.secure : targets.plain;
  const path = `/${++paths}`;
  if (target !== undefined) site.plays.set(path, target);
  return { ...open, url: `${site.url}${path}`, addresses, site };
}

test("has a case for each row, and a row for each case", () => {
  expect(new Set(rows.map(({ what }) => what))).toEqual(new Set(Object.keys(cases)));
  expect(rows.length).toBeGreaterThan(90);
});

describe.each(transports)("over %s", (transport) => {
  test.each(rows.filter((row) => row.transport === transport))(
    "$phase: $what: $class, then $next",
    async ({ what, class: ending, next, phase }) => {
      const given = cases[what] as Case; // The test above has checked that.
      const target = given.target && phase !== "reuse" ? firstly(given.target) : given.target;
      const { client, outcomes, url, addresses } = await setUp(transport, { ...given, ...(target && { target }) });
      if (given.before !== undefined) {
        await given.before(client, url);
        await expect.poll(() => outcomes.length).toBe(1);
        outcomes.length = 0;
      }
      const read = given.read ?? ((response: Response) => response.text());
      const got = await client.fetch(url, given.init?.()).then(
        async (response) => {
          await read(response).catch(() => {});
          return response.status;
        },
        (error: Error) => error,
      );
      const tries = next === "never" ? 1 : 2;
      await expect.poll(() => outcomes.length).toBe(tries);
      await client.close(); // No further outcome comes.
      const [first = "", second = ""] = addresses;
      const wrong = { class: ending, proxy: first };
      const right = { class: "success", status: 200, proxy: next === "again" ? first : second };
      expect(outcomes).toMatchObject(next === "never" ? [wrong] : [wrong, right]);
      if (next !== "never") expect(got).toBe(200);
    },
  );
});
