import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { readConfig } from "../../runtime/config.ts";

test("an empty environment gives the defaults", () => {
  expect(readConfig({})).toEqual({
    dataDir: resolve(".remuda"),
    natsHost: "127.0.0.1",
    natsPort: 4222,
    httpHost: "127.0.0.1",
    httpPort: 7480,
    cacheDir: join(homedir(), ".cache/remuda"),
    ledgerBytesMax: 8 * 1024 ** 3,
    logLevel: "warn",
  });
});

test("an empty variable counts as unset", () => {
  expect(readConfig({ REMUDA_NATS_PORT: "", REMUDA_NATS_URL: "", REMUDA_LOG_LEVEL: "" })).toEqual(readConfig({}));
});

test("every variable is read, and paths become absolute", () => {
  expect(
    readConfig({
      REMUDA_DATA_DIR: "here/data",
      REMUDA_NATS_URL: "nats://a:4222,b:4223",
      REMUDA_NATS_HOST: "::1",
      REMUDA_NATS_PORT: "0",
      REMUDA_HTTP_HOST: "localhost",
      REMUDA_HTTP_PORT: "65535",
      REMUDA_NATS_SERVER: "./nats-server",
      REMUDA_CACHE_DIR: "/cache",
      REMUDA_LEDGER_BYTES_MAX: "1073741824",
      REMUDA_LOG_LEVEL: "debug",
    }),
  ).toEqual({
    dataDir: resolve("here/data"),
    natsUrl: "nats://a:4222,b:4223",
    natsHost: "::1",
    natsPort: 0,
    httpHost: "localhost",
    httpPort: 65_535,
    natsServer: resolve("nats-server"),
    cacheDir: "/cache",
    ledgerBytesMax: 1_073_741_824,
    logLevel: "debug",
  });
});

test("the cache follows XDG_CACHE_HOME", () => {
  expect(readConfig({ XDG_CACHE_HOME: "/x" }).cacheDir).toBe("/x/remuda");
});

test.each([
  ["REMUDA_NATS_PORT", "4222x"],
  ["REMUDA_NATS_PORT", "65536"],
  ["REMUDA_NATS_PORT", "-1"],
  ["REMUDA_HTTP_PORT", "0x10"],
  ["REMUDA_LEDGER_BYTES_MAX", "8GiB"],
  ["REMUDA_LEDGER_BYTES_MAX", "1000"],
  ["REMUDA_LOG_LEVEL", "loud"],
  ["REMUDA_NATS_URL", "http://example.org"],
  ["REMUDA_NATS_HOST", "0.0.0.0"],
  ["REMUDA_NATS_HOST", "127.example.org"],
])("%s=%s is refused, naming the variable, the value and what is expected", (name, value) => {
  expect(() => readConfig({ [name]: value })).toThrow(
    expect.objectContaining({ code: "fix-setup", message: expect.stringMatching(new RegExp(`${name}.*expected`)) }),
  );
  expect(() => readConfig({ [name]: value })).toThrow(value);
});

test("listening beyond loopback says why not, and what to do instead", () => {
  expect(() => readConfig({ REMUDA_NATS_HOST: "10.0.0.1" })).toThrow(/no credentials yet.*REMUDA_NATS_URL/);
});

test("a password in a bad REMUDA_NATS_URL does not get into the message", () => {
  expect(() => readConfig({ REMUDA_NATS_URL: "http://me:hush@host" })).toThrow(
    expect.objectContaining({ message: expect.not.stringContaining("hush") }),
  );
});
