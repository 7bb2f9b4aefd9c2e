// Beyond one machine: listening where others can connect, with keys for HTTP and TLS for both. Another loopback address
// stands for the other machine.

import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { hostname, networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { connect } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Call, callerOf } from "../api/http.ts";
import { runCommand } from "../kit/command.ts";
import { usersIn } from "../kit/login.ts";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw } from "../kit/raw-nats.ts";

const folders: string[] = [];
async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "beyond-test-"));
  folders.push(made);
  return made;
}
afterAll(async () => {
  await stopAllRemudas();
  await Promise.all(folders.map((each) => rm(each, { recursive: true, force: true, maxRetries: 20 })));
});

const own = Object.values(networkInterfaces())
  .flatMap((each) => each ?? [])
  .find(({ internal, family }) => !internal && family === "IPv4")?.address;

describe("a service that listens on all addresses", () => {
  let dataDir: string;
  let remuda: RemudaProcess;
  let call: Call;
  let key: string;

  beforeAll(async () => {
    dataDir = await folder();
    const env = {
      REMUDA_NATS_HOST: "0.0.0.0",
      REMUDA_HTTP_HOST: "0.0.0.0",
      REMUDA_HTTP_NAMES: "proxies.test, Other.test",
    };
    remuda = await startRemuda({ dataDir, env });
    call = callerOf((remuda.httpUrl ?? "").replace("127.0.0.1", "127.0.0.2"));
    key = usersIn(dataDir).find(({ name }) => name === "operator")?.key ?? "";
    expect((await runCommand(["proxies", "add", "-"], { dataDir, stdin: "192.0.2.1:80\n192.0.2.2:80\n" })).code).toBe(
      0,
    );
  }, 150_000);

  const withKey = (value = key) => ({ authorization: `Bearer ${value}` });

  test("warns once that TLS is off", () => {
    expect(
      remuda.output().match(/warning: NATS \(0\.0\.0\.0\) and HTTP \(0\.0\.0\.0\) .*REMUDA_TLS_CERT/g),
    ).toHaveLength(1);
  });

  test("leases to another address over NATS with a login, and refuses without one", async () => {
    const there = (url: string): string => url.replace("127.0.0.1", "127.0.0.2");
    await expect(connectRaw(there(remuda.bareNatsUrl))).rejects.toMatchObject({ message: "Authorization Violation" });
    const nats = await connectRaw(there(remuda.natsUrl));
    expect((await nats.request("remuda.lease.default", "{}")).json()).toMatchObject({ leaseId: expect.any(String) });
    await nats.close();
  });

  test("leases over HTTP with a key", async () => {
    expect((await call("POST /v1/pools/default/leases", {}, withKey())).status).toBe(201);
    expect((await call("GET /v1/pools", undefined, { authorization: `bearer  ${key}` })).status).toBe(200);
  });

  test.each([
    ["GET /v1/pools"],
    ["POST /v1/pools/default/leases"],
    ["PUT /v1/pools/foreign"],
    ["GET /v1/pools/default/events"],
    ["GET /docs"],
    ["GET /docs/json"],
    ["GET /metrics"],
    ["GET /readyz"],
    ["GET /nothing"],
    ["GET /livez/x"],
    ["GET //livez"],
  ])("refuses %s with 401 without a key and with a wrong one", async (line) => {
    const wrong = [undefined, "", "Bearer", "Bearer ", `Bearer ${key}x`, `Bearer ${key.slice(1)}`, `Basic ${key}`, key];
    for (const authorization of wrong) {
      const { status, body, headers } = await call(
        line,
        undefined,
        authorization === undefined ? {} : { authorization },
      );
      expect([status, body.code, headers["www-authenticate"]]).toEqual([401, "invalid-request", "Bearer"]);
      expect(JSON.stringify(body)).not.toContain(key.slice(1));
    }
  });

  test("answers the liveness check to every caller", async () => {
    expect((await call("GET /livez")).status).toBe(200);
    expect((await call("GET /livez?x")).status).toBe(200);
  });

  test("accepts the key of a new user at once, and rejects that of a removed user", async () => {
    const { REMUDA_HTTP_KEY: fresh = "" } = JSON.parse(
      (await runCommand(["user", "add", "eve", "--json"], { dataDir })).stdout,
    );
    expect((await call("GET /v1/pools", undefined, withKey(fresh))).status).toBe(200);
    expect((await runCommand(["user", "remove", "eve"], { dataDir })).code).toBe(0);
    expect((await call("GET /v1/pools", undefined, withKey(fresh))).status).toBe(401);
    expect((await call("GET /v1/pools", undefined, withKey())).status).toBe(200);
  });

  test.each(["proxies.test", "other.test:80", "127.0.0.1", hostname(), ...(own === undefined ? [] : [own])])(
    "is itself under the name %s",
    async (host) => {
      expect((await call("GET /v1/pools", undefined, { host, ...withKey() })).status).toBe(200);
      const origin = `http://${host}`;
      expect((await call("GET /v1/pools", undefined, { host, origin, ...withKey() })).status).toBe(200);
    },
  );

  test("refuses a foreign host or origin, even with a key", async () => {
    for (const foreign of [{ host: "evil.test" }, { origin: "http://evil.test" }, { host: "192.0.2.99" }]) {
      expect((await call("GET /v1/pools", undefined, { ...foreign, ...withKey() })).status).toBe(403);
    }
  });

  test("`env` prints an address for others, or the requested one; commands on this machine use loopback", async () => {
    const env = async (...args: string[]) =>
      JSON.parse((await runCommand(["env", "--json", ...args], { dataDir })).stdout);
    const natsPort = new URL(remuda.bareNatsUrl).port;
    const httpPort = new URL(remuda.httpUrl ?? "").port;
    const named = await env("--host", "remuda.example");
    expect(new URL(named.REMUDA_NATS_URL).host).toBe(`remuda.example:${natsPort}`);
    expect(named).toMatchObject({ REMUDA_HTTP_URL: `http://remuda.example:${httpPort}` });
    expect((await env("--as", "operator")).REMUDA_HTTP_KEY).toBe(key);
    expect(new URL((await env()).REMUDA_NATS_URL).hostname).toBe(own ?? expect.any(String));
    expect((await runCommand(["lease"], { dataDir })).code).toBe(0);
  });
});

test("on another loopback address NATS needs a login too, and HTTP no key", async () => {
  const dataDir = await folder();
  const env = { REMUDA_NATS_HOST: "127.0.0.2", REMUDA_HTTP_HOST: "127.0.0.2" };
  const remuda = await startRemuda({ dataDir, env });
  expect(remuda.bareNatsUrl).toMatch(/^nats:\/\/127\.0\.0\.2:/);
  await expect(connectRaw(remuda.bareNatsUrl)).rejects.toMatchObject({ code: "refused" });
  expect((await runCommand(["pool", "list"], { dataDir })).code).toBe(0);
  const call = callerOf(remuda.httpUrl ?? "");
  expect((await call("GET /v1/pools")).status).toBe(200);
  expect((await call("GET /v1/pools", undefined, { authorization: "Bearer nonsense" })).status).toBe(200);
  expect(remuda.output()).not.toContain("warning");
  await remuda.stop();
});

describe("TLS", () => {
  const cert = fileURLToPath(new URL("tls/cert.pem", import.meta.url));
  const key = fileURLToPath(new URL("tls/key.pem", import.meta.url));

  test("serves NATS and HTTP, and commands on this machine trust the certificate automatically", async () => {
    const dataDir = await folder();
    const env = { REMUDA_TLS_CERT: cert, REMUDA_TLS_KEY: key, REMUDA_HTTP_HOST: "0.0.0.0" };
    const remuda = await startRemuda({ dataDir, env });
    expect(remuda.output()).not.toContain("warning");
    expect([remuda.bareNatsUrl, remuda.httpUrl]).toEqual([
      expect.stringMatching(/^tls:\/\/127\.0\.0\.1:\d+$/),
      expect.stringMatching(/^https:\/\/127\.0\.0\.1:\d+$/),
    ]);
    expect(await runCommand(["pool", "list"], { dataDir })).toMatchObject({ code: 0, stderr: "" });
    expect((await runCommand(["user", "add", "far"], { dataDir })).code).toBe(0);
    expect((await runCommand(["env"], { dataDir })).stdout).toContain(`REMUDA_TLS_CA=${cert}\n`);
    const { findings } = JSON.parse((await runCommand(["doctor", "--json"], { dataDir })).stdout) as {
      findings: { about: string; what: string }[];
    };
    expect(findings).toContainEqual({ severity: "ok", about: "http", what: `answers at ${remuda.httpUrl}` });

    // From elsewhere, without a trusted certificate, and with the certificate of another authority.
    const elsewhere = await folder();
    const mistrusting = { REMUDA_NATS_URL: remuda.natsUrlAs("auditor"), REMUDA_TLS_CA: undefined };
    for (const [command, ca] of [
      ["lease", {}],
      ["watch", {}],
      ["lease", { REMUDA_TLS_CA: fileURLToPath(new URL("../kit/tls/certificate.pem", import.meta.url)) }],
    ] as const) {
      expect(await runCommand([command], { dataDir: elsewhere, env: { ...mistrusting, ...ca } })).toEqual({
        code: 2,
        stdout: "",
        stderr: expect.stringMatching(
          /^remuda: The certificate of NATS at tls:\/\/\*\*\*@127\.0\.0\.1:\d+ is not trusted \([^;)]+\)\. Set REMUDA_TLS_CA to a file [^\n]+\n$/,
        ),
      });
    }

    const { port } = new URL(remuda.bareNatsUrl);
    const { name: user, password: pass } = usersIn(dataDir).find(({ name }) => name === "far") ?? {
      name: "",
      password: "",
    };
    const dial = (tls: object) =>
      connect({ servers: `127.0.0.1:${port}`, user, pass, inboxPrefix: "_INBOX.far", reconnect: false, tls });
    // A certificate of an unknown authority is rejected, and so is a name that is not in the certificate.
    await expect(dial({})).rejects.toThrow();
    await expect(dial({ caFile: cert })).rejects.toThrow();
    const trusting = { caFile: cert, checkServerIdentity: () => undefined };
    const nats = await dial(trusting);
    expect((await nats.request("remuda.pool.get.default", "")).json()).toMatchObject({ pool: "default" });
    await nats.close();

    const ca = await readFile(cert, "utf8");
    const get = async (headers: Record<string, string>) => {
      const url = `${remuda.httpUrl}/v1/pools`;
      const response = await new Promise<import("node:http").IncomingMessage>((resolve, reject) =>
        request(url, { ca, servername: "remuda.test", headers, agent: false }, resolve).on("error", reject).end(),
      );
      return { status: response.statusCode, body: await text(response) };
    };
    expect((await get({})).status).toBe(401);
    const bearer = usersIn(dataDir).find(({ name }) => name === "far")?.key;
    expect((await get({ authorization: `Bearer ${bearer}` })).status).toBe(200);
    await remuda.stop();
  });

  test("with invalid files is an error message that names the variable", async () => {
    const dataDir = await folder();
    const other = join(dataDir, "other.pem");
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
    await writeFile(other, privateKey.export({ type: "pkcs8", format: "pem" }));
    const said = async (env: Record<string, string>) => {
      const { code, stderr } = await runCommand(["up"], {
        dataDir,
        env: { REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0", ...env },
      });
      expect(code).toBe(2);
      return stderr;
    };
    expect(await said({ REMUDA_TLS_CERT: cert })).toMatch(/^remuda: REMUDA_TLS_CERT is set and REMUDA_TLS_KEY is not/);
    expect(await said({ REMUDA_TLS_KEY: key })).toMatch(/^remuda: REMUDA_TLS_KEY is set and REMUDA_TLS_CERT is not/);
    const both = (REMUDA_TLS_CERT: string, REMUDA_TLS_KEY: string) => said({ REMUDA_TLS_CERT, REMUDA_TLS_KEY });
    expect(await both(cert, other)).toMatch(/^remuda: REMUDA_TLS_KEY \(\S+\) is not the key of the certificate/);
    expect(await both("/nonexistent.pem", key)).toMatch(
      /^remuda: REMUDA_TLS_CERT names \/nonexistent\.pem, which cannot be read/,
    );
    expect(await both(key, cert)).toMatch(/^remuda: REMUDA_TLS_CERT names \S+, which does not hold a certificate/);
    expect(await both(cert, cert)).toMatch(/^remuda: REMUDA_TLS_KEY names \S+, which does not hold a private key/);
  });
});
