// Requests through real proxies of each scheme, with and without a login, to http and https targets.
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type SocksProxy, startSocksProxy } from "../kit/socks-proxy.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { setting } from "./setting.ts";
import { type Site, startSite } from "./site.ts";

const at = setting();
const credentials = { username: "us@er", password: "p:a/s%s?#" };
const tls = { proxyCa: loopbackTls.cert, targetCa: loopbackTls.cert };
let plain: Site;
let secure: Site;
const forwards: ForwardProxy[] = [];
const socks: SocksProxy[] = [];

beforeAll(async () => {
  [plain, secure] = [await startSite(), await startSite({ secure: true })];
});
afterAll(async () => {
  await Promise.all([...forwards, ...socks, plain, secure].map((each) => each?.stop()));
});

async function through(pool: string, proxy: string): Promise<void> {
  await at.open(pool, [proxy]);
  const client = await at.client("nats", { pool, tls, fetch: { retries: 0 } });
  for (const site of [plain, secure]) {
    const response = await client.fetch(`${site.url}/seen`);
    expect([response.status, await response.text()]).toEqual([200, "seen\n"]);
  }
  const reports = await at.reports(pool, 2);
  expect(reports.map((each) => [each.class, each.status, each.bytes, each.target])).toEqual([
    ["success", 200, 5, "127.0.0.1"],
    ["success", 200, 5, "127.0.0.1"],
  ]);
  await client.close();
}

async function forward(options: Parameters<typeof startForwardProxy>[0]): Promise<ForwardProxy> {
  const proxy = await startForwardProxy(options);
  forwards.push(proxy);
  return proxy;
}

async function socksProxy(options: Parameters<typeof startSocksProxy>[0]): Promise<SocksProxy> {
  const proxy = await startSocksProxy(options);
  socks.push(proxy);
  return proxy;
}

for (const [scheme, exit, more] of [
  ["http", "127.0.0.40", {}],
  ["http with a login", "127.0.0.41", { credentials }],
  ["https", "127.0.0.42", { tls: loopbackTls }],
  ["https with a login", "127.0.0.43", { tls: loopbackTls, credentials }],
] as const) {
  test(`an ${scheme} proxy carries plain and encrypted requests from its own address`, async () => {
    const { url } = await forward({ exit, ...more });
    await through(`forward-${exit.slice(-2)}`, url);
    expect([plain.countFrom(exit), secure.countFrom(exit)]).toEqual([1, 1]);
  });
}

for (const [index, scheme] of ["socks4", "socks4a", "socks5", "socks5h"].entries()) {
  test(`a ${scheme} proxy carries plain and encrypted requests, with a login as well`, async () => {
    for (const [which, login] of [undefined, credentials].entries()) {
      const exit = `127.0.0.${50 + index * 2 + which}`;
      // SOCKS 4 has a user name and no password.
      const proxy = await socksProxy({ exit, ...(login && { credentials: login }) });
      await through(`${scheme}-${which}`, `${scheme}://${proxy.address}`);
      expect([plain.countFrom(exit), secure.countFrom(exit)]).toEqual([1, 1]);
    }
  });
}

test("lets the proxy look up names with socks4a and socks5h, and looks them up here with socks4 and socks5", async () => {
  const { port } = new URL(plain.url);
  const seen: Record<string, readonly string[]> = {};
  for (const [index, scheme] of ["socks4", "socks4a", "socks5", "socks5h"].entries()) {
    const proxy = await socksProxy({ exit: `127.0.0.${60 + index}` });
    await at.open(`names-${scheme}`, [`${scheme}://${proxy.address}`]);
    const client = await at.client("http", { pool: `names-${scheme}` });
    await (await client.fetch(`http://localhost:${port}/`)).text();
    seen[scheme] = proxy.asked;
  }
  expect(seen).toEqual({
    socks4: [`4 127.0.0.1:${port}`],
    socks4a: [`4 localhost:${port}`],
    socks5: [expect.stringMatching(/^5 (127\.0\.0\.1|0:0:0:0:0:0:0:1):/)],
    socks5h: [`5 localhost:${port}`],
  });
});

test("blames no proxy for an unknown name", async () => {
  const proxy = await socksProxy({ exit: "127.0.0.65" });
  await at.open("unnamed", [`socks5://${proxy.address}`]);
  const client = await at.client("nats", { pool: "unnamed" });
  await expect(client.fetch("http://no-such-name.invalid/")).rejects.toThrow(TypeError);
  expect(await at.reports("unnamed", 1)).toMatchObject([{ class: "target-error", error: "ENOTFOUND" }]);
});

test("reports wrong credentials as the proxy's error, not the target's, with every scheme", async () => {
  const right = { username: "ann", password: "right" };
  const wrong = (url: string) => url.replace("right", "wrong");
  const http = await forward({ exit: "127.0.0.70", credentials: right });
  const socks5 = await socksProxy({ exit: "127.0.0.71", credentials: right });
  const socks4 = await socksProxy({ exit: "127.0.0.72", credentials: right });
  const cases = [
    ["auth-forwarded", wrong(http.url), plain.url],
    ["auth-tunnelled", wrong(http.url), secure.url],
    ["auth-socks5", wrong(`socks5://${socks5.address}`), plain.url],
    ["auth-socks4", `socks4://eve@${socks4.address.replace(/.*@/, "")}`, plain.url],
  ] as const;
  for (const [pool, proxy, url] of cases) {
    await at.open(pool, [proxy]);
    const client = await at.client("nats", { pool, tls, fetch: { retries: 0 } });
    const error = await client.fetch(url).catch((thrown) => thrown);
    expect([pool, error.cause?.name, error.cause?.reason]).toEqual([pool, "ProxyFailure", "proxy-auth"]);
    expect(await at.reports(pool, 1)).toMatchObject([{ class: "proxy-auth" }]);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error)) + String(error.cause)).not.toContain("wrong");
  }
  expect(plain.countFrom("127.0.0.70")).toBe(0);
});

test("sends nothing through an https proxy, or to a target, with an untrusted certificate", async () => {
  const proxy = await forward({ exit: "127.0.0.75", tls: loopbackTls });
  await at.open("untrusted", [proxy.url]);
  const client = await at.client("nats", { pool: "untrusted", fetch: { retries: 0 } });
  const error = await client.fetch(plain.url).catch((thrown) => thrown);
  expect(error.cause).toMatchObject({ name: "ProxyFailure", reason: "proxy-error" });
  expect(await at.reports("untrusted", 1)).toMatchObject([{ class: "proxy-error" }]);
  expect(plain.countFrom("127.0.0.75")).toBe(0);
});
