// Cases that users of proxy pools report, with a real service. The tests check its ledger and its proxies afterwards.
import { afterAll, beforeAll, expect, test } from "vitest";
import { loopbackTls } from "../kit/tls/loopback.ts";
import { deadPort, type LabProxy, ok, startLabProxy, startTarget, type Target } from "./lab.ts";
import { setting } from "./setting.ts";

const at = setting();
const tls = { targetCa: loopbackTls.cert };
let plain: Target;
let secure: Target;
const proxies: LabProxy[] = [];

beforeAll(async () => {
  [plain, secure] = [await startTarget({ secure: false }), await startTarget({ secure: true })];
});
afterAll(() => Promise.all([plain, secure, ...proxies].map((each) => each?.stop())));

async function proxy(exit: string): Promise<{ lab: LabProxy; entry: { url: string; labels: { exit: string } } }> {
  const lab = await startLabProxy();
  proxies.push(lab);
  return { lab, entry: { url: `http://127.0.0.1:${lab.port}`, labels: { exit } } };
}

/** The first proxy comes first. */
const drain = { strategy: { kind: "drain" } };

test("blames a proxy that answers CONNECT with garbage, and goes through another", async () => {
  const [bad, good] = [await proxy("bad"), await proxy("good")];
  bad.lab.tunnel = (socket) => void socket.end("SSH-2.0-OpenSSH_8.9p1 Ubuntu-3\r\n");
  await at.open("garbage", [bad.entry, good.entry], drain);
  const client = await at.client("http", { pool: "garbage", tls });
  const error = await client.fetch(`${secure.url}/page`, {}, { retries: 0 }).catch((thrown) => thrown);
  expect(error.cause).toMatchObject({ name: "ProxyFailure", reason: "proxy-error" });
  expect((await client.fetch(`${secure.url}/page`)).status).toBe(200);
  expect(await at.reports("garbage", 2)).toMatchObject([{ class: "proxy-error" }, { class: "success" }]);
});

test("takes a 304 with Content-Length for a success", async () => {
  secure.plays.set("/304", (socket) => void socket.write("HTTP/1.1 304 Not Modified\r\ncontent-length: 777\r\n\r\n"));
  await at.open("not-modified", [(await proxy("a")).entry]);
  const client = await at.client("http", { pool: "not-modified", tls });
  const response = await client.fetch(`${secure.url}/304`, { headers: { "if-none-match": '"x"' } });
  expect([response.status, await response.text()]).toEqual([304, ""]);
  await at.reports("not-modified", 1);
  expect(await at.proxies("not-modified")).toMatchObject([{ score: 1, state: "available" }]);
});

test("rests a proxy that hangs until the caller's time limit", async () => {
  const hanging = await proxy("hangs");
  hanging.lab.forward = () => {};
  await at.open("hanging", [hanging.entry]);
  const client = await at.client("http", { pool: "hanging" });
  const error = await client.fetch(`${plain.url}/page`, { signal: AbortSignal.timeout(400) }).catch((thrown) => thrown);
  expect(error.name).toBe("TimeoutError");
  expect(await at.reports("hanging", 1)).toMatchObject([{ class: "timeout" }]);
  expect(await at.proxies("hanging")).toMatchObject([{ score: -1, state: "cooling" }]);
});

test("rests no proxy because of a target's certificate, and the next target is served", async () => {
  await at.open("certificate", [(await proxy("a")).entry]);
  const client = await at.client("http", { pool: "certificate" });
  for (let i = 0; i < 2; i++) await expect(client.fetch(`${secure.url}/page`)).rejects.toThrow(TypeError);
  expect((await client.fetch(`${plain.url}/page`)).status).toBe(200);
  expect((await at.reports("certificate", 3)).map((each) => each.class)).toEqual([
    "target-error",
    "target-error",
    "success",
  ]);
});

test("counts a captcha with status 200 as blocked by a report after lease.fetch, and the proxy rests", async () => {
  await at.open("captcha", [(await proxy("a")).entry]);
  const client = await at.client("http", { pool: "captcha" });
  await client.withLease({}, async (lease) => {
    await (await lease.fetch(`${plain.url}/page`)).text();
    lease.report({ n: 1, reason: "blocked" });
  });
  expect(await at.reports("captcha", 1)).toMatchObject([{ class: "blocked", status: 200 }]);
  expect(await at.proxies("captcha")).toMatchObject([{ state: "cooling", score: -1 }]);
});

test("serves each request though kept connections are reset when they are used again", async () => {
  plain.plays.set("/old", (socket, told) => (told.before > 0 ? socket.resetAndDestroy() : ok(socket, told)));
  await at.open("reuse", [(await proxy("a")).entry]);
  const client = await at.client("http", { pool: "reuse" });
  for (let i = 0; i < 4; i++) expect(await (await client.fetch(`${plain.url}/old`)).text()).toBe("ok\n");
  await client.close();
  expect(await at.proxies("reuse")).toMatchObject([{ score: 4, state: "available", totals: { failed: 0 } }]);
});

test("sends a POST through another proxy if the first refuses the connection", async () => {
  const dead = { url: `http://127.0.0.1:${await deadPort()}`, labels: { exit: "dead" } };
  await at.open("post", [dead, (await proxy("good")).entry], drain);
  const client = await at.client("http", { pool: "post" });
  expect((await client.fetch(`${plain.url}/form`, { method: "POST", body: "q" })).status).toBe(200);
});

test("fails at once with the first error in a pool without another proxy", async () => {
  await at.open("alone", [`http://127.0.0.1:${await deadPort()}`]);
  const client = await at.client("nats", { pool: "alone" });
  const startedAt = performance.now();
  const error = await client.fetch(`${plain.url}/page`).catch((thrown) => thrown);
  expect(error.cause.code).toBe("ECONNREFUSED");
  expect(performance.now() - startedAt).toBeLessThan(3000);
});
