// Tunnels through the gateway: CONNECT and SOCKS 5, and the uses that they take. Real proxies and targets.
import { createServer, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Socket, type Server as TcpServer } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { defaultPolicy } from "../../events/policy.ts";
import { deadPort, startLabProxy } from "../client/lab.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { startSocksProxy } from "../kit/socks-proxy.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { basic, idOf, type Lab, type LabOptions, type Raw, raw, startLab } from "./lab.ts";

const { gateway } = defaultPolicy;
let seen: string[] = [];
let secure: Server;
let plain: Server;
/** Sends back what it gets, and ends when its client ends. */
let echo: TcpServer;
let proxy: ForwardProxy;
const labs: Lab[] = [];
const clients: (Raw | TLSSocket)[] = [];

const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port; // All listen on TCP.

beforeAll(async () => {
  const answer: Parameters<typeof createServer>[1] = (request, response) => {
    seen.push(request.url ?? "");
    response.end(`answer ${request.url}\n`);
  };
  secure = createSecureServer(loopbackTls, answer);
  plain = createServer(answer);
  echo = createTcpServer({ allowHalfOpen: true }, (socket) => {
    socket
      .on("error", () => {})
      .on("data", (chunk) => socket.write(chunk))
      .on("end", () => socket.end("bye"));
  });
  for (const server of [secure, plain, echo])
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy = await startForwardProxy({ exit: "127.0.0.2" });
});
beforeEach(() => {
  seen = [];
});
afterEach(async () => {
  for (const each of clients.splice(0)) ("socket" in each ? each.socket : each).destroy();
  await Promise.all(labs.splice(0).map((each) => each.stop()));
});
afterAll(async () => {
  for (const server of [secure, plain]) server.closeAllConnections();
  for (const server of [secure, plain, echo]) server.close();
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

async function connected(lab: Lab, port: number, { login = "" } = {}): Promise<Raw> {
  const opened = await client(lab);
  const authorization = login === "" ? "" : `Proxy-Authorization: ${basic(login)}\r\n`;
  opened.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n${authorization}\r\n`);
  await opened.until(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\n/);
  return opened;
}

/** TLS inside a tunnel, with one request after the other on it. */
interface Secured {
  get(path: string): Promise<void>;
  /** Resolves when it is closed by the other side. */
  closed: Promise<unknown>;
}

async function secured(
  { socket }: Raw,
  tls: { maxVersion?: "TLSv1.2"; ALPNProtocols?: string[] } = {},
): Promise<Secured> {
  socket.removeAllListeners("data");
  const wrapped = connectTls({ socket, host: "127.0.0.1", rejectUnauthorized: false, ...tls });
  clients.push(wrapped);
  const closed = new Promise((resolve) =>
    wrapped
      .on("end", resolve)
      .on("close", resolve)
      .on("error", () => {}),
  );
  await new Promise((resolve) => wrapped.once("secureConnect", resolve));
  let text = "";
  wrapped.on("data", (chunk) => (text += chunk));
  return {
    closed,
    async get(path) {
      wrapped.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await eventually(() => expect(text).toContain(`answer ${path}\n`), { everyMs: 1 });
    },
  };
}

const reported = (lab: Lab, count: number): Promise<Lab["outcomes"]> =>
  eventually(() => {
    if (lab.outcomes.length < count) throw new Error(`${lab.outcomes.length} of ${count} outcomes`);
    return lab.outcomes;
  });

describe("TLS in a kept tunnel", () => {
  test.each([
    ["TLS 1.2", { maxVersion: "TLSv1.2" }, "flight"],
    ["TLS 1.3", {}, "flight"],
    ["TLS 1.3 with HTTP/2 offered", { ALPNProtocols: ["h2", "http/1.1"] }, "estimate"],
  ] as const)("takes a use of the same proxy for each request: %s", async (_name, tls, counted) => {
    const lab = await begun();
    const opened = await connected(lab, portOf(secure));
    const inside = await secured(opened, tls as { maxVersion?: "TLSv1.2" });
    const long = "x".repeat(100);
    for (const nth of [1, 2, 3, 4, 5]) await inside.get(`/${nth}${long}`);
    opened.socket.destroy();
    await eventually(() => expect(lab.metrics()).toContain("remuda_gateway_tunnels  0"));
    const outcomes = await reported(lab, 5);
    expect(outcomes.length).toBeGreaterThanOrEqual(5);
    if (counted === "flight" && _name === "TLS 1.2") expect(outcomes.length).toBe(5);
    expect(new Set(outcomes.map(({ leaseId, n }) => `${leaseId} ${n}`)).size).toBe(outcomes.length);
    expect(new Set(outcomes.map((each) => `${each.proxy} ${each.class} ${each.counted} ${each.target}`))).toEqual(
      new Set([`${proxy.url} success ${counted} 127.0.0.1`]),
    );
    expect(lab.asked.slice(1).every(({ proxyId }) => proxyId === idOf(proxy.url))).toBe(true);
    expect(outcomes.every(({ bytes = 0, latencyMs = -1 }) => bytes > 0 && latencyMs >= 0)).toBe(true);
  });

  test("holds a request back until there is a use for it", async () => {
    let refusals = 3;
    const lab = await begun({
      usesMax: 1,
      refuse: ({ proxyId }) =>
        proxyId !== undefined && refusals-- > 0
          ? { code: "pool-exhausted", message: "The window is full.", retryAfterMs: 10 }
          : undefined,
    });
    const inside = await secured(await connected(lab, portOf(secure)), { maxVersion: "TLSv1.2" });
    await inside.get("/1");
    expect(refusals).toBe(3);
    const second = inside.get("/2");
    await eventually(() => expect(refusals).toBeLessThan(2), { everyMs: 1 });
    expect(seen).toEqual(["/1"]);
    await second;
    expect([seen, refusals]).toEqual([["/1", "/2"], -1]);
  });

  test("is closed when no use comes in time, and its request never reaches the target", async () => {
    const lab = await begun({
      usesMax: 1,
      refuse: ({ proxyId }) =>
        proxyId === undefined
          ? undefined
          : { code: "pool-exhausted", message: "The window is full.", retryAfterMs: 60_000 },
    });
    const inside = await secured(await connected(lab, portOf(secure), { login: "wait-0:" }), { maxVersion: "TLSv1.2" });
    await inside.get("/1");
    inside.get("/2").catch(() => {});
    await inside.closed;
    expect(seen).toEqual(["/1"]);
    expect(lab.metrics()).toContain("remuda_gateway_tunnels_closed_total lease 1");
  });

  test("is closed before a flight beyond its option `uses`", async () => {
    const lab = await begun();
    const inside = await secured(await connected(lab, portOf(secure), { login: "uses-2:" }), { maxVersion: "TLSv1.2" });
    await inside.get("/1");
    await inside.get("/2");
    inside.get("/3").catch(() => {});
    await inside.closed;
    expect(seen).toEqual(["/1", "/2"]);
    expect(await reported(lab, 2)).toHaveLength(2);
  });

  test("is one use where the policy says so", async () => {
    const lab = await begun({ policies: { default: { gateway: { ...gateway, tunnelUses: "once" } } } });
    const opened = await connected(lab, portOf(secure));
    const inside = await secured(opened);
    for (const nth of [1, 2, 3]) await inside.get(`/${nth}`);
    opened.socket.destroy();
    expect(await reported(lab, 1)).toMatchObject([{ n: 1, class: "success", counted: "tunnel" }]);
    expect(lab.asked).toHaveLength(1);
  });

  test("that offers HTTP/2 is closed where the policy says so, before anything reaches the target", async () => {
    const lab = await begun({ policies: { default: { gateway: { ...gateway, h2: "refuse" } } } });
    const opened = await connected(lab, portOf(secure));
    const wrapped = connectTls({ socket: opened.socket, rejectUnauthorized: false, ALPNProtocols: ["h2"] });
    await new Promise((resolve) => wrapped.on("error", () => {}).on("close", resolve));
    expect(lab.metrics()).toContain("remuda_gateway_tunnels_closed_total h2 1");
    expect(await reported(lab, 1)).toMatchObject([{ class: "client-abort" }]);
  });

  test("falls quiet: its use is reported, and its lease is free", async () => {
    const lab = await begun();
    const inside = await secured(await connected(lab, portOf(secure)), { maxVersion: "TLSv1.2" });
    await inside.get("/1");
    expect(await reported(lab, 1)).toMatchObject([{ n: 1, class: "success", counted: "flight" }]);
    expect([lab.asked[0]?.["uses"], lab.released]).toEqual([1, []]); // All its uses are reported.
    await inside.get("/2");
    expect(await reported(lab, 2)).toMatchObject([{}, { n: 1, class: "success" }]);
    await eventually(() => expect(lab.released).toEqual([{ leaseId: lab.outcomes[1]?.leaseId, used: 1 }]));
    expect(lab.asked[1]).toMatchObject({ uses: 2, proxyId: idOf(proxy.url) });
    expect(lab.metrics()).toContain("remuda_gateway_tunnels  1");
    expect(seen).toEqual(["/1", "/2"]);
  });
});

describe("plain HTTP in a tunnel", () => {
  test("is one use of the tunnel's proxy for each request, over one connection to the target", async () => {
    const lab = await begun({ usesMax: 1 });
    const opened = await connected(lab, portOf(plain));
    for (const nth of [1, 2, 3]) {
      opened.write(`GET /${nth} HTTP/1.1\r\nHost: x\r\nX-Remuda-Pool: y\r\n\r\n`);
      await opened.until(new RegExp(`answer /${nth}\\n`));
    }
    opened.socket.destroy();
    const outcomes = await reported(lab, 3);
    expect(outcomes.map((each) => [each.status, each.counted, each.proxy])).toEqual(
      [1, 2, 3].map(() => [200, "request", proxy.url]),
    );
    expect(seen).toEqual(["/1", "/2", "/3"]);
  });

  test("ends with the answer to the last request of its option `uses`", async () => {
    const lab = await begun();
    const opened = await connected(lab, portOf(plain), { login: "uses-2:" });
    opened.write("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
    await opened.until(/answer \/1\n/);
    opened.write("GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await opened.ended()).toMatch(/connection: close[\s\S]*answer \/2\n/i);
  });

  test("is not sent beyond its option `uses`, though all requests come together", async () => {
    const lab = await begun();
    const opened = await connected(lab, portOf(plain), { login: "uses-2:" });
    opened.write([1, 2, 3, 4].map((nth) => `GET /${nth} HTTP/1.1\r\nHost: x\r\n\r\n`).join(""));
    expect(await opened.ended()).toMatch(/answer \/1\n[\s\S]*connection: close[\s\S]*answer \/2\n$/i);
    expect(seen).toEqual(["/1", "/2"]);
    expect((await reported(lab, 2)).map(({ status }) => status)).toEqual([200, 200]);
  });

  test.each([
    ["idle", { idleMs: 50 }],
    ["age", { ageMsMax: 50 }],
  ])("ends by the policy's bound: %s", async (by, bound) => {
    const lab = await begun({ policies: { default: { gateway: { ...gateway, ...bound } } } });
    const opened = await client(lab);
    const at = `127.0.0.1:${portOf(plain)}`;
    opened.write(`CONNECT ${at} HTTP/1.1\r\nHost: ${at}\r\n\r\nGET /1 HTTP/1.1\r\nHost: ${at}\r\n\r\n`);
    await opened.ended();
    await eventually(() => expect(lab.metrics()).toContain(`remuda_gateway_tunnels_closed_total ${by} 1`));
    expect(lab.metrics()).toContain("remuda_gateway_tunnels  0");
  });

  test("has its answer when it is sent together with CONNECT", async () => {
    const lab = await begun();
    const opened = await client(lab);
    const at = `127.0.0.1:${portOf(plain)}`;
    opened.write(`CONNECT ${at} HTTP/1.1\r\nHost: ${at}\r\n\r\nGET /at-once HTTP/1.1\r\nHost: ${at}\r\n\r\n`);
    expect(await opened.until(/answer \/at-once\n/)).toMatch(
      /^HTTP\/1\.1 200 Connection established\r\nX-Remuda-Lease: l_/,
    );
  });
});

describe("CONNECT", () => {
  test("is tried on another proxy until one opens the tunnel", async () => {
    const dead = `http://127.0.0.1:${await deadPort()}`;
    const lab = await begun({ proxies: [dead, proxy.url] });
    const opened = await connected(lab, portOf(echo));
    opened.write("hello");
    await opened.until(/hello$/);
    opened.socket.destroy();
    expect((await reported(lab, 2)).map((each) => [each.proxy, each.class, each.counted])).toEqual([
      [dead, "unreachable", "tunnel"],
      [proxy.url, "success", "flight"],
    ]);
  });

  test("gets its refusals on a connection that stays open", async () => {
    const lab = await begun({ needsKey: true, users: { k: { name: "ann", role: "worker" } }, proxies: [proxy.url] });
    const opened = await client(lab);
    const key = `Proxy-Authorization: ${basic("x:k")}\r\n`;
    opened.write("CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n");
    await opened.until(/ 407 [\s\S]*\}\n/);
    for (const wrong of ["example.com", "example.com:0", "u@example.com:443", "http://example.com:443", "[::1:443"]) {
      opened.write(`CONNECT ${wrong} HTTP/1.1\r\nHost: x\r\n${key}\r\n`);
      await opened.until(/( 400 [\s\S]*\}\n)/);
    }
    opened.write(`CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n${key}\r\n`);
    await opened.until(/ 403 [\s\S]*destination_ip_prohibited[\s\S]*\}\n/);
    opened.write(`CONNECT 127.0.0.1:${portOf(echo)} HTTP/1.1\r\nHost: x\r\n${key}\r\n`);
    await opened.until(/ 200 [\s\S]*\r\n\r\n/);
    opened.write("through");
    await opened.until(/through$/);
    expect(lab.asked).toHaveLength(1);
  });

  test.each([
    ["closes it", (socket: Socket) => void socket.end(), "proxy-error", "upstream"],
    ["breaks it", (socket: Socket) => void socket.resetAndDestroy(), "proxy-error", "error"],
  ])(
    "through a proxy that %s before any byte of the target counts against the proxy",
    async (_what, inside, kind, reason) => {
      const odd = await startLabProxy();
      odd.inside = (socket) => setImmediate(() => inside(socket));
      const lab = await begun({ proxies: [`http://127.0.0.1:${odd.port}`] });
      const opened = await connected(lab, 443);
      await opened.ended();
      await odd.stop();
      expect(await reported(lab, 1)).toMatchObject([{ class: kind }]);
      expect(lab.metrics()).toContain(`remuda_gateway_tunnels_closed_total ${reason} 1`);
    },
  );

  test("whose client leaves before any answer is neutral", async () => {
    const odd = await startLabProxy();
    odd.inside = () => {};
    const lab = await begun({ proxies: [`http://127.0.0.1:${odd.port}`] });
    const opened = await connected(lab, 443);
    opened.write(Buffer.of(0, 1, 2));
    opened.socket.destroy();
    expect(await reported(lab, 1)).toMatchObject([{ class: "client-abort" }]);
    await odd.stop();
  });

  test("keeps a tunnel whose client has ended its side until the target has answered", async () => {
    const lab = await begun();
    const opened = await connected(lab, portOf(echo));
    opened.socket.end("last words");
    expect(await opened.ended()).toMatch(/last wordsbye$/);
  });

  test("ends tunnels that are idle, and tunnels that are old", async () => {
    const idle = await begun({ policies: { default: { gateway: { ...gateway, idleMs: 50 } } } });
    await (await connected(idle, portOf(echo))).ended();
    const old = await begun({ policies: { default: { gateway: { ...gateway, ageMsMax: 50 } } } });
    await (await connected(old, portOf(echo))).ended();
    expect(idle.metrics()).toContain("remuda_gateway_tunnels_closed_total idle 1");
    expect(old.metrics()).toContain("remuda_gateway_tunnels_closed_total age 1");
  });

  test("renews its lease while the tunnel is in use", async () => {
    const once = { default: { gateway: { ...gateway, tunnelUses: "once" as const } } };
    const lab = await begun({ leaseMs: 200, policies: once });
    const opened = await connected(lab, portOf(echo));
    await eventually(() => expect(lab.renewed).toBeGreaterThan(2));
    opened.write("still there");
    await opened.until(/still there$/);
  });

  test("relays much in both directions, whole", async () => {
    const lab = await begun({ policies: { default: { gateway: { ...gateway, tunnelUses: "once" } } } });
    const { socket } = await connected(lab, portOf(echo));
    socket.removeAllListeners("data");
    const sent = Buffer.alloc(4 << 20, 1);
    let bytes = 0;
    let back = 0;
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      back += chunk.reduce((sum, each) => sum + (each === 1 ? 1 : 0), 0);
    });
    socket.end(sent);
    await new Promise((resolve) => socket.once("end", resolve));
    expect([back, bytes]).toEqual([sent.length, sent.length + 3]);
    expect(await reported(lab, 1)).toMatchObject([{ bytes: 2 * sent.length + 3 }]);
  });
});

describe("SOCKS 5", () => {
  const greeting = Buffer.of(5, 1, 0);
  /** Bytes as `Raw` shows them. */
  const starting = (...bytes: number[]): RegExp => new RegExp(`^${String.fromCharCode(...bytes)}`);
  const [choseNone, choseLogin, repliedAfterLogin] = [starting(5, 0), starting(5, 2), starting(5, 2, 1, 0, 5, 0)];
  const login = (user: string, password: string): Buffer =>
    Buffer.concat([Buffer.of(1, user.length), Buffer.from(user), Buffer.of(password.length), Buffer.from(password)]);
  const request = (host: string, port: number, command = 1): Buffer =>
    Buffer.concat([Buffer.of(5, command, 0, 3, host.length), Buffer.from(host), Buffer.of(port >> 8, port & 255)]);

  test("becomes a tunnel, by address or by name, with options in the user name", async () => {
    const upstream = await startSocksProxy({ exit: "127.0.0.3" });
    const lab = await begun({ proxies: [`socks5h://${upstream.address}`] });
    const opened = await client(lab);
    opened.write(Buffer.of(5, 2, 0, 2));
    await opened.until(choseLogin);
    opened.write(Buffer.concat([login("ann-session-s9", ""), request("localhost", portOf(echo))]));
    await opened.until(repliedAfterLogin);
    opened.write("hello");
    await opened.until(/hello$/);
    opened.socket.destroy();
    await upstream.stop();
    expect(lab.asked).toMatchObject([{ session: "s9" }]);
    expect(await reported(lab, 1)).toMatchObject([{ class: "success", target: "localhost" }]);
  });

  test.each([
    ["a command other than CONNECT", request("example.com", 80, 2), 7],
    ["an unknown type of address", Buffer.of(5, 1, 0, 9, 1, 1), 8],
    ["a private target", request("10.0.0.1", 80), 2],
    ["a proxy that cannot be reached", request("127.0.0.1", 80), 5],
  ])("answers %s with its own code", async (_what, asked, code) => {
    const lab = await begun({ proxies: [`http://127.0.0.1:${await deadPort()}`] });
    const opened = await client(lab);
    opened.write(greeting);
    await opened.until(choseNone);
    opened.write(asked);
    expect((await opened.ended()).charCodeAt(3)).toBe(code);
  });

  test("needs a key where one is needed", async () => {
    const lab = await begun({ needsKey: true, users: { k: { name: "ann", role: "worker" } } });
    const without = await client(lab);
    without.write(greeting);
    expect(await without.ended()).toBe("\x05\xff");
    const wrong = await client(lab);
    wrong.write(Buffer.concat([Buffer.of(5, 1, 2), login("ann", "no")]));
    expect(await wrong.ended()).toBe("\x05\x02\x01\x01");
    const right = await client(lab);
    right.write(Buffer.concat([Buffer.of(5, 1, 2), login("x-pool-web", "k"), request("127.0.0.1", portOf(echo))]));
    await right.until(repliedAfterLogin);
    expect(lab.asked).toMatchObject([{ user: "ann", pool: "web" }]);
  });

  test("refuses a user the half of all connections that is for others, in HTTP and in SOCKS", async () => {
    const users = { k: { name: "ann", role: "worker" }, j: { name: "bob", role: "worker" } } as const;
    const lab = await begun({ needsKey: true, users, connectionsMax: 5 });
    const ask = async (key: string): Promise<Raw> => {
      const opened = await client(lab);
      opened.write(Buffer.concat([Buffer.of(5, 1, 2), login("x", key), request("127.0.0.1", portOf(echo))]));
      return opened;
    };
    const [one, two] = [await ask("k"), await ask("k")];
    for (const each of [one, two]) await each.until(repliedAfterLogin);
    expect(await (await ask("k")).ended()).toBe("\x05\x02\x01\x00\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00");
    for (const line of [`CONNECT 127.0.0.1:${portOf(echo)}`, `GET http://127.0.0.1:${portOf(echo)}/`]) {
      const third = await client(lab);
      third.write(`${line} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: ${basic("ann:k")}\r\n\r\n`);
      const text = await third.ended();
      expect(text).toMatch(/^HTTP\/1.1 503 /);
      expect(text).toContain('error=connection_limit_reached; details="overloaded"');
      expect(text).toMatch(/retry-after: 1\r\n/i);
      expect(text).toContain("ann has as many connections as one user may have.");
    }
    await (await ask("j")).until(repliedAfterLogin);
    one.socket.destroy();
    await eventually(async () => (await ask("k")).until(repliedAfterLogin));
  });

  test("of version 4 is closed", async () => {
    const opened = await client(await begun());
    opened.write(Buffer.of(4, 1, 0, 80, 1, 2, 3, 4, 0));
    expect(await opened.ended()).toBe("");
  });
});

test("a gateway that stops lets tunnels end, and then cuts them", async () => {
  const lab = await begun();
  const opened = await connected(lab, portOf(echo));
  opened.write("hello");
  await opened.until(/hello$/);
  await lab.stop();
  await opened.ended();
  expect(lab.outcomes).toMatchObject([{ class: "success" }]);
  expect(lab.metrics()).toContain("remuda_gateway_tunnels_closed_total drain 1");
});
