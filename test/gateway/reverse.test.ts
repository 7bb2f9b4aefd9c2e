// Reverse mode, websockets, and upstream proxies of every kind.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type SocksProxy, startSocksProxy } from "../kit/socks-proxy.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { ask, type Lab, type LabOptions, type Raw, raw, startLab } from "./lab.ts";

let seen: { line: string; headers: IncomingMessage["headers"] }[] = [];
let plain: Server;
let secure: Server;
let proxy: ForwardProxy;
const labs: Lab[] = [];
const clients: Raw[] = [];

const at = (server: Server): string => `127.0.0.1:${(server.address() as AddressInfo).port}`; // Both listen on TCP.

beforeAll(async () => {
  const answer: Parameters<typeof createServer>[1] = (request, response) => {
    const { method, url = "", headers } = request;
    seen.push({ line: `${method} ${url}`, headers });
    if (url === "/moved") response.writeHead(302, { location: "https://elsewhere.example/" }).end();
    else if (url === "/busy") response.writeHead(429, { "retry-after": "7" }).end("slow down");
    else request.resume().on("end", () => response.end(`answer ${url}\n`));
  };
  const upgraded = ({ url, headers }: IncomingMessage, socket: Duplex): void => {
    seen.push({ line: `UPGRADE ${url}`, headers });
    socket.on("error", () => {});
    if (url === "/no") return void socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nnope");
    if (url === "/half") {
      socket.write("HTTP/1.1 403 Forbidden\r\ncontent-length: 100\r\n\r\npart");
      return void setImmediate(() => socket.destroy());
    }
    const accept = createHash("sha1").update(`${headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`);
    const lines = ["Upgrade: websocket", "Connection: Upgrade", `Sec-WebSocket-Accept: ${accept.digest("base64")}`];
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("\r\n")}\r\n\r\n`);
    socket.pipe(socket);
  };
  plain = createServer(answer).on("upgrade", upgraded);
  secure = createSecureServer(loopbackTls, answer).on("upgrade", upgraded);
  for (const server of [plain, secure]) await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy = await startForwardProxy({ exit: "127.0.0.2" });
});
beforeEach(() => {
  seen = [];
});
afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.destroy();
  await Promise.all(labs.splice(0).map((each) => each.stop()));
});
afterAll(async () => {
  for (const server of [plain, secure]) server.close().closeAllConnections();
  await proxy.stop();
});

async function begun(options: Partial<LabOptions> = {}): Promise<Lab> {
  const started = await startLab({ proxies: [proxy.url], ...options });
  labs.push(started);
  return started;
}

async function client(lab: Lab): Promise<Raw> {
  const opened = await raw(lab.port);
  clients.push(opened);
  return opened;
}

const reported = (lab: Lab, count = 1): Promise<Lab["outcomes"]> =>
  eventually(() => {
    if (lab.outcomes.length < count) throw new Error(`${lab.outcomes.length} of ${count} outcomes`);
    return lab.outcomes;
  });

describe("reverse mode", () => {
  test("makes the request through a leased proxy, with TLS to the target, and sees its status", async () => {
    const lab = await begun();
    const answered = await ask(lab, `/-/https/${at(secure)}/v1/x?y=z`, {
      method: "POST",
      headers: { authorization: "Bearer theirs", "x-remuda-session": "s1" },
      body: "{}",
    });
    expect([answered.status, answered.body]).toEqual([200, "answer /v1/x?y=z\n"]);
    expect(seen).toMatchObject([
      { line: "POST /v1/x?y=z", headers: { host: at(secure), authorization: "Bearer theirs", "content-length": "2" } },
    ]);
    expect(Object.keys(seen[0]?.headers ?? {}).some((name) => name.startsWith("x-remuda"))).toBe(false);
    expect(lab.asked).toMatchObject([{ session: "s1" }]);
    expect(await reported(lab)).toMatchObject([{ status: 200, counted: "request", class: "success" }]);
    expect(lab.metrics()).toContain("remuda_gateway_requests_total default reverse answered 1");
  });

  test("passes redirects on, and reports Retry-After", async () => {
    const lab = await begun();
    const moved = await ask(lab, `/-/http/${at(plain)}/moved`);
    expect([moved.status, moved.headers.location]).toEqual([302, "https://elsewhere.example/"]);
    expect((await ask(lab, `/-/https/${at(secure)}/busy`)).headers["retry-after"]).toBe("7");
    expect((await reported(lab, 2))[1]).toMatchObject({ status: 429, retryAfterMs: 7000, class: "throttled" });
  });

  test("takes a key from its path where one is needed", async () => {
    const users = { k1: { name: "ann", role: "worker", pools: ["web"] } } as const;
    const lab = await begun({ needsKey: true, users });
    expect((await ask(lab, `/-/http/${at(plain)}/`)).status).toBe(407);
    expect((await ask(lab, `/-wrong/http/${at(plain)}/`)).status).toBe(407);
    expect((await ask(lab, `/-k1/http/${at(plain)}/`)).status).toBe(403);
    expect((await ask(lab, `/-k1/http/${at(plain)}/`, { headers: { "x-remuda-pool": "web" } })).status).toBe(200);
    expect(lab.asked).toMatchObject([{ user: "ann", pool: "web" }]);
  });

  test.each(["/-/ftp/example.com/", "/-/https/", "/-/https/u@example.com/", "/-/https/example.com:0/", "/-x", "/-"])(
    "refuses %s",
    async (path) => expect((await ask(await begun(), path)).status).toBe(400),
  );

  test("passes on no Referer that names the gateway's own URL, which may have a key in it", async () => {
    const lab = await begun();
    const path = `/-/http/${at(plain)}/a`;
    for (const referer of [`http://127.0.0.1:${lab.port}/-secret/https/example.com/`, "https://example.com/-/"])
      await ask(lab, path, { headers: { referer } });
    await ask(lab, path, { headers: { referer: "https://example.com/b" } });
    expect(seen.map(({ headers }) => headers.referer)).toEqual([undefined, undefined, "https://example.com/b"]);
  });

  test("refuses a page of another site, and private targets", async () => {
    const lab = await begun({ outboundAllow: { hosts: [], blocks: [] } });
    const headers = { "sec-fetch-site": "cross-site" };
    expect((await ask(lab, "/-/https/example.com/", { headers })).status).toBe(403);
    // An attacker's host name can point to loopback, and a browser then says nothing about the site.
    for (const path of ["/-/https/example.com/", "/metrics"])
      expect((await ask(lab, path, { headers: { host: "evil.example:7481" } })).status).toBe(403);
    expect((await ask(lab, "/-/http/169.254.169.254/latest/")).status).toBe(403);
    expect(lab.asked).toEqual([]);
  });
});

describe("a websocket", () => {
  const handshake =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

  test.each([
    ["in absolute form", () => `http://${at(plain)}/ws`],
    ["in reverse mode", () => `/-/http/${at(plain)}/ws`],
    ["in reverse mode with TLS", () => `/-/https/${at(secure)}/ws`],
  ])("is opened %s, and is one use with its bytes", async (_how, url) => {
    const lab = await begun();
    const opened = await client(lab);
    opened.write(`GET ${url()} HTTP/1.1\r\nHost: localhost\r\n${handshake}early`);
    expect(await opened.until(/early$/)).toMatch(
      /^HTTP\/1\.1 101 [\s\S]*s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=[\s\S]*X-Remuda-Lease: l_/,
    );
    opened.write("and later");
    await opened.until(/and later$/);
    opened.socket.destroy();
    expect(await reported(lab)).toMatchObject([{ status: 101, class: "success", counted: "request" }]);
    expect(seen).toMatchObject([
      { line: "UPGRADE /ws", headers: { upgrade: "websocket", "sec-websocket-version": "13" } },
    ]);
    expect(lab.metrics()).toMatch(/remuda_gateway_tunnels_closed_total client 1/);
  });

  test("is opened inside a tunnel, through the tunnel's proxy", async () => {
    const lab = await begun();
    const opened = await client(lab);
    opened.write(`CONNECT ${at(plain)} HTTP/1.1\r\nHost: x\r\n\r\nGET /ws HTTP/1.1\r\nHost: x\r\n${handshake}`);
    await opened.until(/ 101 [\s\S]*\r\n\r\n/);
    opened.write("inside");
    await opened.until(/inside$/);
    expect(lab.metrics()).toContain("remuda_gateway_tunnels  1"); // The bounds of the requests have ended.
    opened.socket.destroy();
    expect(await reported(lab)).toMatchObject([{ status: 101, counted: "request", proxy: proxy.url }]);
  });

  test("that the target refuses ends with the target's answer", async () => {
    const lab = await begun();
    const opened = await client(lab);
    opened.write(`GET http://${at(plain)}/no HTTP/1.1\r\nHost: x\r\n${handshake}`);
    expect(await opened.ended()).toMatch(/^HTTP\/1\.1 403 [\s\S]*nope$/);
    expect(await reported(lab)).toMatchObject([{ status: 403, class: "blocked", counted: "request" }]);
  });

  test("whose refusal breaks off ends with a broken connection", async () => {
    const lab = await begun();
    const opened = await client(lab);
    const closed = new Promise((resolve) => opened.socket.once("close", resolve));
    opened.write(`GET http://${at(plain)}/half HTTP/1.1\r\nHost: x\r\n${handshake}`);
    await closed;
    expect(await reported(lab)).toMatchObject([{ status: 403, counted: "request" }]);
  });

  test("is nothing but a request where another upgrade is asked for", async () => {
    const lab = await begun();
    const opened = await client(lab);
    const upgrade = "Connection: keep-alive, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    opened.write(`POST http://${at(plain)}/h2c HTTP/1.1\r\nHost: x\r\n${upgrade}Content-Length: 4\r\n\r\nbody`);
    await opened.until(/answer \/h2c\n/);
    expect(seen).toMatchObject([{ line: "POST /h2c", headers: { "content-length": "4" } }]);
    expect(seen[0]?.headers).not.toHaveProperty("http2-settings");
  });
});

describe("an upstream proxy", () => {
  const credentials = { username: "u@x", password: "p:ä" };
  let socks: SocksProxy;
  let locked: ForwardProxy;
  let encrypted: ForwardProxy;
  beforeAll(async () => {
    socks = await startSocksProxy({ exit: "127.0.0.3" });
    locked = await startForwardProxy({ exit: "127.0.0.4", credentials });
    encrypted = await startForwardProxy({ exit: "127.0.0.40", tls: loopbackTls });
  });
  afterAll(() => Promise.all([socks, locked, encrypted].map((each) => each.stop())));

  test.each([
    ["http with a login", () => locked.url, "127.0.0.4"],
    ["https", () => encrypted.url, "127.0.0.40"],
    ["socks4", () => `socks4://${socks.address}`, "127.0.0.3"],
    ["socks5", () => `socks5://${socks.address}`, "127.0.0.3"],
    ["socks5h", () => `socks5h://${socks.address}`, "127.0.0.3"],
  ])("may be of the kind %s: forwarded, in a tunnel and reverse", async (_kind, url) => {
    const lab = await begun({ proxies: [url()] });
    expect((await ask(lab, `http://${at(plain)}/1`)).body).toBe("answer /1\n");
    expect((await ask(lab, `/-/https/${at(secure)}/2`)).body).toBe("answer /2\n");
    const opened = await client(lab);
    opened.write(`CONNECT ${at(plain)} HTTP/1.1\r\nHost: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n`);
    await opened.until(/answer \/3\n/);
    expect((await reported(lab, 3)).map((each) => each.class)).toEqual(["success", "success", "success"]);
  });
});
