// Requests through a leased proxy: answers, failures, redirects, retries on other proxies, ends.
import { type AddressInfo, createServer } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { within } from "../kit/within.ts";
import { setting } from "./setting.ts";
import { type Site, startSite } from "./site.ts";

const at = setting();
let site: Site;
const proxies: ForwardProxy[] = [];
let lastExit = 100;

beforeAll(async () => {
  site = await startSite();
});
afterAll(async () => {
  await Promise.all([...proxies, site].map((each) => each?.stop()));
});

async function proxy(options: Partial<Parameters<typeof startForwardProxy>[0]> = {}): Promise<ForwardProxy> {
  const started = await startForwardProxy({ exit: `127.0.0.${lastExit++}`, ...options });
  proxies.push(started);
  return started;
}

/** Nothing rests unless a test says so. */
const noRest = { backoff: { kind: "none" } };

test("reports each class of answer as it is, with its size, its host and its Retry-After", async () => {
  await at.open("answers", [(await proxy()).url], noRest);
  const client = await at.client("nats", { pool: "answers" });
  const seen: unknown[] = [];
  for (const path of [
    "status/200",
    "status/404",
    "status/403",
    "status/500",
    "status/204",
    "status/429?retryAfter=7",
  ]) {
    const response = await client.fetch(`${site.url}/${path}`);
    await response.text();
    seen.push(response.status);
  }
  expect(seen).toEqual([200, 404, 403, 500, 204, 429]);
  const reports = await at.reports("answers", 6);
  expect(reports.map((each) => [each.class, each.status, each.bytes, each.retryAfterMs])).toEqual([
    ["success", 200, 3, undefined],
    ["success", 404, 3, undefined],
    ["blocked", 403, 3, undefined],
    ["target-error", 500, 3, undefined],
    ["success", 204, 0, undefined],
    ["throttled", 429, 3, 7000],
  ]);
});

test("takes a use for each hop of a redirect; methods change and credentials are dropped as the Fetch standard says", async () => {
  const elsewhere = await startSite({ host: "127.0.0.1" });
  await at.open("redirects", [(await proxy()).url]);
  const client = await at.client("http", { pool: "redirects" });
  const headers = { authorization: "Bearer hush", cookie: "a=b", "x-mine": "1" };
  const to = encodeURIComponent(`${elsewhere.url}/seen`);
  const response = await client.fetch(`${site.url}/redirect/302?to=${to}`, { method: "POST", body: "form", headers });
  expect([response.status, response.redirected, response.url]).toEqual([200, true, `${elsewhere.url}/seen`]);
  await response.text();
  const [arrived] = elsewhere.visits;
  expect([arrived?.line, arrived?.body, arrived?.headers["x-mine"]]).toEqual(["GET /seen", "", "1"]);
  expect([arrived?.headers.authorization, arrived?.headers.cookie]).toEqual([undefined, undefined]);

  await (await client.fetch(`${site.url}/redirect/307?to=/seen`, { method: "POST", body: "kept" })).text();
  expect(site.visits.at(-1)).toMatchObject({ line: "POST /seen", body: "kept" });

  const manual = await client.fetch(`${site.url}/redirect/301`, { redirect: "manual" });
  expect([manual.status, manual.headers.get("location")]).toEqual([301, "/seen"]);
  await manual.text();
  await expect(client.fetch(`${site.url}/redirect/301`, { redirect: "error" })).rejects.toThrow(TypeError);
  expect((await at.reports("redirects", 6)).map(({ status }) => status)).toEqual([302, 200, 307, 200, 301, 301]);
  await elsewhere.stop();
});

test("follows twenty redirects, each with a use; the next is an error", async () => {
  await at.open("loops", [(await proxy()).url], { rate: null });
  const client = await at.client("nats", { pool: "loops" });
  await expect(client.fetch(`${site.url}/loop`)).rejects.toThrow(TypeError);
  const arrivals = site.visits.filter(({ line }) => line === "GET /loop").length;
  expect(arrivals).toBe(21);
  expect(await at.reports("loops", 21)).toHaveLength(21);
  await client.close();
  expect((await at.proxies("loops"))[0]).toMatchObject({
    openLeases: 0,
    totals: { succeeded: 21, unreported: 0 },
  });
});

test("sends a request that a dead proxy cannot carry through another one, and each try is a use", async () => {
  const dead = await proxy();
  await dead.stop();
  const good = await proxy();
  // Nothing rests, and the first proxy comes first whenever it can be leased.
  const policy = { ...noRest, rate: null, strategy: { kind: "drain" } };
  await at.open("dead", [dead.url, good.url], policy);
  const client = await at.client("nats", { pool: "dead", fetch: { retries: 1 } });
  const failed = await client.fetch(`${site.url}/seen`, {}, { retries: 0 }).catch((error) => error);
  expect([failed.name, failed.cause.code]).toEqual(["TypeError", "ECONNREFUSED"]);
  for (let i = 0; i < 6; i++) expect((await client.fetch(`${site.url}/seen`)).status).toBe(200);
  expect(site.countFrom(good.exit)).toBe(6);
  await client.close();
  const { outcomes } = await at.stats("dead");
  expect(outcomes.succeeded).toBe(6);
  expect(outcomes.failed).toBeGreaterThanOrEqual(2);
  const totals = (await at.proxies("dead")).map((each) => [each.host, each.totals.succeeded, each.totals.unreported]);
  expect(Object.fromEntries(totals.map(([host, ...rest]) => [host, rest]))).toEqual({
    [dead.host]: [0, 0],
    [good.host]: [6, 0],
  });
});

test("retries neither a request that may not be repeated, nor one that the last proxy cannot carry", async () => {
  const resets = await proxy({ failWith: () => "reset" });
  await at.open("resets", [resets.url], noRest);
  const client = await at.client("nats", { pool: "resets", fetch: { waitMs: 500 } });
  await expect(client.fetch(`${site.url}/seen`, { method: "POST", body: "once" })).rejects.toThrow(TypeError);
  expect(resets.requests).toBe(1);
  // A GET may be retried. There is no other proxy, so the caller gets the first error.
  const error = await client.fetch(`${site.url}/seen`).catch((thrown) => thrown);
  expect(error.cause.code).toMatch(/ECONNRESET|UND_ERR_SOCKET/);
  expect(resets.requests).toBe(2);
  expect((await at.reports("resets", 2)).map((each) => each.class)).toEqual(["proxy-error", "proxy-error"]);
});

test("reports a refused tunnel as the proxy's error", async () => {
  const refuses = await proxy({ failWith: () => ({ status: 502 }) });
  await at.open("refuses", [refuses.url], noRest);
  const client = await at.client("nats", { pool: "refuses", fetch: { retries: 0, tunnelHttp: true } });
  const error = await client.fetch(`${site.url}/seen`).catch((thrown) => thrown);
  expect(error.cause).toMatchObject({ name: "ProxyFailure", reason: "proxy-error", proxyStatus: 502 });
  expect(await at.reports("refuses", 1)).toMatchObject([{ class: "proxy-error", status: 502 }]);
});

test("reports a silent proxy as a timeout", async () => {
  const sockets: { destroy(): void }[] = [];
  const mute = createServer((socket) => void sockets.push(socket));
  await new Promise<void>((resolve) => mute.listen(0, "127.0.0.95", resolve));
  await at.open("mute", [`socks5://127.0.0.95:${(mute.address() as AddressInfo).port}`], noRest);
  const client = await at.client("nats", { pool: "mute", fetch: { retries: 0, connectTimeoutMs: 200 } });
  const error = await client.fetch(`${site.url}/seen`).catch((thrown) => thrown);
  expect(error.cause.code).toBe("UND_ERR_CONNECT_TIMEOUT");
  expect(await at.reports("mute", 1)).toMatchObject([{ class: "timeout", error: "UND_ERR_CONNECT_TIMEOUT" }]);
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => mute.close(resolve));
});

test("reports a proxy that dies in the middle of a body, and the caller gets the error", async () => {
  const dies = await proxy();
  await at.open("dies", [dies.url], noRest);
  const client = await at.client("nats", { pool: "dies" });
  const response = await client.fetch(`${site.url}/half`);
  expect(response.status).toBe(200);
  const reading = response.text();
  const heard = expect(reading).rejects.toThrow();
  await dies.stop();
  await heard;
  expect(await at.reports("dies", 1)).toMatchObject([{ class: "proxy-error", status: 200, bytes: 1000 }]);
});

test("ends the use of a cancelled body with the status that it had", async () => {
  await at.open("cancelled", [(await proxy()).url]);
  const client = await at.client("nats", { pool: "cancelled" });
  const response = await client.fetch(`${site.url}/half`);
  await response.body?.cancel();
  expect(await at.reports("cancelled", 1)).toMatchObject([{ class: "success", status: 200 }]);
  await client.close();
});

test("blames no proxy for a request that its caller aborts, and removes waiting requests from the queue", async () => {
  await at.open("given-up", [(await proxy()).url], { concurrency: 1 });
  const client = await at.client("nats", { pool: "given-up", fetch: { parallelMax: 1 } });
  const [first, second] = [new AbortController(), new AbortController()];
  const hanging = client.fetch(`${site.url}/hang`, { signal: first.signal });
  hanging.catch(() => {});
  await eventually(() => expect(site.held).toBe(1));
  const waiting = client.fetch(`${site.url}/never`, { signal: second.signal });
  second.abort();
  await expect(waiting).rejects.toThrow(expect.objectContaining({ name: "AbortError" }));
  first.abort();
  await expect(hanging).rejects.toThrow(expect.objectContaining({ name: "AbortError" }));
  site.letGo();
  expect(await at.reports("given-up", 1)).toMatchObject([{ class: "client-abort" }]);
  expect(site.visits.filter(({ line }) => line === "GET /never")).toEqual([]);
});

test("cuts a request at the lease's end, and reports a timeout", async () => {
  await at.open("hangs", [(await proxy()).url], { ...noRest, lease: { ttlMs: 600, graceMs: 500 } });
  const client = await at.client("nats", { pool: "hangs" });
  const startedAt = performance.now();
  const cut = client.fetch(`${site.url}/hang`).catch((thrown) => thrown);
  await eventually(() => expect(site.held).toBe(1));
  // It came with its lease, so that the lease's end is 600 ms away at most.
  const error = await within(700, cut);
  expect(error).toMatchObject({ name: "RemudaFault", code: "lease-over" });
  expect(performance.now() - startedAt).toBeGreaterThan(400);
  expect(await at.reports("hangs", 1)).toMatchObject([{ class: "timeout" }]);
  site.letGo();
});

test("does not send a request whose connection opens only after the lease's end", async () => {
  const slow = await proxy({ delayMs: () => 700 });
  await at.open("slow", [slow.url], { ...noRest, lease: { ttlMs: 400, graceMs: 500 } });
  const client = await at.client("nats", { pool: "slow", fetch: { tunnelHttp: true } });
  const error = await client.fetch(`${site.url}/too-late`).catch((thrown) => thrown);
  expect(error).toMatchObject({ code: "lease-over" });
  expect(slow.requests).toBe(1);
  // The tunnel opens now, with a request that waited for it.
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect(site.visits.filter(({ line }) => line === "GET /too-late")).toEqual([]);
  expect(await at.reports("slow", 1)).toMatchObject([{ class: "timeout" }]);
});

test("holds the use of an unread body until the lease's end, and no longer", async () => {
  await at.open("unread", [(await proxy()).url], { lease: { ttlMs: 800, graceMs: 500 } });
  const client = await at.client("nats", { pool: "unread" });
  const response = await client.fetch(`${site.url}/large/5000000`);
  expect(response.status).toBe(200);
  expect(await at.reports("unread", 1)).toMatchObject([{ class: "success", status: 200 }]);
  await expect(response.text()).rejects.toThrow();
  expect((await at.stats("unread")).leases).toMatchObject({ open: 0 });
});

test("close() cuts requests under way, reports them, gives every lease back, and rejects later calls", async () => {
  await at.open("closing", [(await proxy()).url, (await proxy()).url]);
  const closeMs = 20_000;
  const client = await at.client("nats", { pool: "closing", closeMs });
  await (await client.fetch(`${site.url}/seen`)).text();
  const cut = Array.from({ length: 3 }, () => client.fetch(`${site.url}/hang`).catch((thrown) => thrown));
  await eventually(() => expect(site.held).toBeGreaterThanOrEqual(3));
  const startedAt = performance.now();
  await client.close();
  expect(performance.now() - startedAt).toBeLessThan(closeMs); // Everything is reported: it does not end by its time limit.
  for (const error of await Promise.all(cut)) expect(error).toBeInstanceOf(TypeError);
  await expect(client.fetch(site.url)).rejects.toMatchObject({ code: "closed" });
  await expect(client.lease()).rejects.toMatchObject({ code: "closed" });
  const stats = await at.stats("closing");
  expect(stats.leases).toMatchObject({ open: 0, expired: 0 });
  expect(stats.outcomes).toMatchObject({ succeeded: 1, neutral: 3, ignored: 0 });
  for (const { totals } of await at.proxies("closing")) expect(totals.unreported).toBe(0);
  site.letGo();
});
