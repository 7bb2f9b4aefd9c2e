// Which origins may send requests: those that a foreign web page makes a browser here send are all refused.
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { text as content } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCommand } from "../kit/command.ts";
import { usersIn } from "../kit/login.ts";
import { runCli } from "../kit/process.ts";
import { type Service, sharedService } from "./http.ts";

let service: Service;
const call: Service["call"] = (...sent) => service.call(...sent);

beforeAll(async () => {
  service = await sharedService();
}, 150_000);
afterAll(() => service?.stop());

test.each([
  ["Origin", "http://evil.example"],
  ["Origin", "https://localhost.evil.example"],
  ["Origin", "http://127.0.0.1.evil.example:7480"],
  ["Origin", "null"],
  ["Origin", "chrome-extension://localhost"],
  ["Origin", "http://localhost:3000"],
  ["Origin", "http://127.0.0.1"],
  ["Origin", "http://127.0.0.2:{port}"],
  ["Origin", "https://127.0.0.1:{port}"],
  ["Origin", "http://localhost:{port}/"],
  ["Sec-Fetch-Site", "cross-site"],
  ["Sec-Fetch-Site", "same-site"],
  ["Host", "evil.example"],
  ["Host", "evil.example:7480"],
  ["Host", "127.evil.example"],
  ["Host", "localhost.evil.example"],
  ["Host", "user@localhost"],
  ["Host", "192.0.2.1"],
])("refuses a foreign %s, %s, with 403, and does nothing", async (field, text) => {
  const value = text.replace("{port}", new URL(service.url).port);
  for (const line of [
    "PUT /v1/pools/foreign",
    "GET /v1/pools",
    "GET /docs",
    "GET /nothing",
    "GET /metrics",
    "GET /",
    "POST /v1/login",
  ]) {
    const { status, body, headers } = await call(line, undefined, { [field]: value });
    expect([line, status, body.code, body.field]).toEqual([line, 403, "invalid-request", field]);
    expect(headers["access-control-allow-origin"]).toBeUndefined();
  }
  expect((await call("GET /v1/pools/foreign")).status).toBe(404);
});

test.each([
  ["Origin", "http://127.0.0.1:{port}"],
  ["Origin", "http://localhost:{port}"],
  ["Origin", "http://[::1]:{port}"],
  ["Sec-Fetch-Site", "same-origin"],
  ["Sec-Fetch-Site", "none"],
  ["Host", "localhost"],
  ["Host", "LOCALHOST:7480"],
  ["Host", "127.0.0.2:1"],
  ["Host", "[::1]:7480"],
])("accepts this machine's own %s, %s", async (field, text) => {
  const value = text.replace("{port}", new URL(service.url).port);
  expect((await call("GET /v1/pools", undefined, { [field]: value })).status).toBe(200);
});

test("answers 400 to two Host headers, even to two of the same", async () => {
  const { port } = new URL(service.url);
  for (const other of ["evil.example", `127.0.0.1:${port}`]) {
    const lines = ["GET /v1/pools HTTP/1.1", `Host: 127.0.0.1:${port}`, `hOST: ${other}`, "Connection: close", "", ""];
    const socket = connect(Number(port), "127.0.0.1");
    socket.end(lines.join("\r\n"));
    const answer = await content(socket);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('"field":"Host"');
  }
});

test("reports a port in use in a sentence that names the variable", async () => {
  const env = { REMUDA_HTTP_PORT: new URL(service.url).port, REMUDA_NATS_URL: service.remuda.natsUrlAs("operator") };
  const { code, stderr } = await runCli(["run", "api"], { dataDir: `${service.dataDir}/other`, env });
  expect([code, stderr]).toEqual([
    2,
    expect.stringMatching(/^remuda: port \d+ on 127\.0\.0\.1 is in use.*REMUDA_HTTP_PORT/),
  ]);
});

test("prints the HTTP address in `env`, even if its own variables are in the environment", async () => {
  const { dataDir, remuda, url } = service;
  const key = usersIn(dataDir).find(({ name }) => name === "client")?.key;
  const { gatewayUrl } = JSON.parse(readFileSync(join(dataDir, "address.json"), "utf8"));
  const expected = [
    `REMUDA_NATS_URL=${remuda.natsUrlAs("client")}`,
    `REMUDA_HTTP_URL=${url}`,
    `REMUDA_GATEWAY_URL=${gatewayUrl}`,
    `REMUDA_HTTP_KEY=${key}\n`,
  ].join("\n");
  for (const natsUrl of [undefined, remuda.natsUrl, remuda.bareNatsUrl]) {
    expect((await runCommand(["env"], { dataDir, env: { REMUDA_NATS_URL: natsUrl } })).stdout).toBe(expected);
  }
  const elsewhere = { REMUDA_NATS_URL: "nats://127.0.0.1:1" };
  expect((await runCommand(["env"], { dataDir, env: elsewhere })).stdout).toBe("REMUDA_NATS_URL=nats://127.0.0.1:1\n");
});
