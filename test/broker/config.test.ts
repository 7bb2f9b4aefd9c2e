import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { readConfig } from "../../runtime/config.ts";

test("gives the defaults for an empty environment", () => {
  expect(readConfig({})).toEqual({
    dataDir: resolve(".remuda"),
    sourcesFile: resolve(".remuda/sources.json"),
    natsHost: "127.0.0.1",
    natsPort: 4222,
    httpHost: "127.0.0.1",
    httpPort: 7480,
    gatewayHost: "127.0.0.1",
    gatewayPort: 7481,
    cacheDir: join(homedir(), ".cache/remuda"),
    ledgerBytesMax: 8 * 1024 ** 3,
    ledgerKeepBytes: 1024 ** 3,
    ledgerKeepDays: 7,
    archive: resolve(".remuda/archive"),
    poolsMax: 5000,
    proxiesMax: 1_000_000,
    outboundAllow: { hosts: [], blocks: [] },
    logLevel: "warn",
  });
});

test("counts an empty variable as unset", () => {
  expect(readConfig({ REMUDA_NATS_PORT: "", REMUDA_NATS_URL: "", REMUDA_LOG_LEVEL: "" })).toEqual(readConfig({}));
});

test("reads every variable, and makes paths absolute", () => {
  expect(
    readConfig({
      REMUDA_DATA_DIR: "here/data",
      REMUDA_NATS_URL: "nats://a:4222,b:4223",
      REMUDA_NATS_HOST: "::1",
      REMUDA_NATS_PORT: "0",
      REMUDA_HTTP_HOST: "localhost",
      REMUDA_HTTP_PORT: "65535",
      REMUDA_GATEWAY_HOST: "0.0.0.0",
      REMUDA_GATEWAY_PORT: "0",
      REMUDA_GATEWAY_VIA: "remuda",
      REMUDA_NATS_USERS: "here/users.json",
      REMUDA_HTTP_NAMES: "Proxies.example, api",
      REMUDA_TLS_CERT: "here/cert.pem",
      REMUDA_TLS_KEY: "here/key.pem",
      REMUDA_NATS_SERVER: "./nats-server",
      REMUDA_CACHE_DIR: "/cache",
      REMUDA_LEDGER_BYTES_MAX: "1073741824",
      REMUDA_LEDGER_KEEP_BYTES: "536870912",
      REMUDA_LEDGER_KEEP_DAYS: "30",
      REMUDA_ARCHIVE_DIR: "here/archive",
      REMUDA_ARCHIVE_KEEP_DAYS: "365",
      REMUDA_LOG_LEVEL: "debug",
      REMUDA_SOURCES: "here/sources.json",
      REMUDA_HTTP_URL: "http://api:7480/",
      REMUDA_ALIVE_FILE: "here/alive",
      REMUDA_OUTBOUND_ALLOW: "*.Corp.example, 10.0.0.0/8 ::1",
    }),
  ).toEqual({
    dataDir: resolve("here/data"),
    sourcesFile: resolve("here/sources.json"),
    natsUrl: "nats://a:4222,b:4223",
    natsHost: "::1",
    natsPort: 0,
    httpHost: "localhost",
    httpPort: 65_535,
    gatewayHost: "0.0.0.0",
    gatewayPort: 0,
    gatewayVia: "remuda",
    natsUsers: resolve("here/users.json"),
    httpUrl: "http://api:7480",
    aliveFile: resolve("here/alive"),
    httpNames: ["proxies.example", "api"],
    tls: { cert: resolve("here/cert.pem"), key: resolve("here/key.pem") },
    tlsCa: resolve("here/cert.pem"),
    natsServer: resolve("nats-server"),
    cacheDir: "/cache",
    ledgerBytesMax: 1_073_741_824,
    ledgerKeepBytes: 536_870_912,
    ledgerKeepDays: 30,
    archive: resolve("here/archive"),
    archiveKeepDays: 365,
    poolsMax: 5000,
    proxiesMax: 1_000_000,
    outboundAllow: {
      hosts: ["*.corp.example"],
      blocks: [
        ["10.0.0.0", 8],
        ["::1", 128],
      ],
    },
    logLevel: "debug",
  });
});

test("follows XDG_CACHE_HOME for the cache", () => {
  expect(readConfig({ XDG_CACHE_HOME: "/x" }).cacheDir).toBe("/x/remuda");
});

test.each([
  ["REMUDA_NATS_PORT", "4222x"],
  ["REMUDA_NATS_PORT", "65536"],
  ["REMUDA_NATS_PORT", "-1"],
  ["REMUDA_HTTP_PORT", "0x10"],
  ["REMUDA_LEDGER_BYTES_MAX", "8GiB"],
  ["REMUDA_LEDGER_BYTES_MAX", "1000"],
  ["REMUDA_LEDGER_KEEP_BYTES", "1G"],
  ["REMUDA_LEDGER_KEEP_DAYS", "0"],
  ["REMUDA_ARCHIVE_KEEP_DAYS", "never"],
  ["REMUDA_LOG_LEVEL", "loud"],
  ["REMUDA_NATS_URL", "http://example.org"],
  ["REMUDA_NATS_HOST", "127.0.0"],
  ["REMUDA_NATS_HOST", "here:4222"],
  ["REMUDA_HTTP_HOST", "http://here"],
  ["REMUDA_HTTP_NAMES", "http://here"],
  ["REMUDA_HTTP_URL", "nats://here"],
  ["REMUDA_TLS_CERT", "alone.pem"],
])("refuses %s=%s, naming the variable, the value and the expected form", (name, value) => {
  expect(() => readConfig({ [name]: value })).toThrow(
    expect.objectContaining({ code: "fix-setup", message: expect.stringMatching(new RegExp(`${name}.*expected`)) }),
  );
  if (!name.startsWith("REMUDA_TLS_")) expect(() => readConfig({ [name]: value })).toThrow(value);
});

test.each(["0.0.0.0", "::", "192.0.2.1", "remuda.example", "fe80::1"])("allows listening on %s", (host) => {
  expect(readConfig({ REMUDA_NATS_HOST: host, REMUDA_HTTP_HOST: host })).toMatchObject({
    natsHost: host,
    httpHost: host,
  });
});

test("reads the trusted certificates separately from the own certificate", () => {
  const both = { REMUDA_TLS_CERT: "/a", REMUDA_TLS_KEY: "/b" };
  expect(readConfig({ ...both, REMUDA_TLS_CA: "/ca" })).toMatchObject({ tlsCa: "/ca" });
  expect(readConfig({ REMUDA_TLS_CA: "/ca" })).toMatchObject({ tlsCa: "/ca" });
});

test("keeps the password in a bad REMUDA_NATS_URL out of the message", () => {
  expect(() => readConfig({ REMUDA_NATS_URL: "http://me:hush@host" })).toThrow(
    expect.objectContaining({ message: expect.not.stringContaining("hush") }),
  );
});
