// Logging in to NATS. A wrong, a late and an expired login are each reported as such, and never with the password.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { connect } from "../../client/client.ts";
import { startRemuda } from "../kit/process.ts";
import { natsThatSays } from "../kit/rejecting-nats.ts";
import { loopbackTls } from "../kit/tls/loopback.ts";

test("repeats a login that came too late", async () => {
  const { url, logins } = await natsThatSays("Authentication Timeout", 2);
  const remuda = await connect({ natsUrl: url });
  expect(logins()).toBe(3);
  await remuda.close();
});

test("reports a login that always comes too late as no connection, and not as wrong", async () => {
  const { url, logins } = await natsThatSays("Authentication Timeout", 100);
  await expect(connect({ natsUrl: url })).rejects.toMatchObject({
    code: "no-connection",
    message: expect.stringMatching(/^NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ received no login in time, 5 times/),
  });
  expect(logins()).toBe(5);
});

test.each([
  ["Authorization Violation", /^NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ does not accept these credentials\.$/],
  ["User Authentication Expired", /^These credentials for NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ have expired\.$/],
  ["Account Authentication Expired", /^These credentials for NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ have expired\.$/],
])("%s: reports not-allowed at once, with the reason", async (errorMessage, message) => {
  const { url, logins } = await natsThatSays(errorMessage, 100);
  await expect(connect({ natsUrl: url })).rejects.toMatchObject({
    code: "not-allowed",
    message: expect.stringMatching(message),
  });
  expect(logins()).toBe(1);
});

test.each([
  ["127.0.0.40", "in it", undefined],
  ["127.0.0.30", "not in it, though localhost is", "no-connection"],
])(
  "checks the address of a TLS URL in the certificate: %s is %s",
  async (address, _where, code) => {
    const dataDir = await mkdtemp(join(tmpdir(), "client-login-"));
    const file = (name: string) => fileURLToPath(new URL(`../kit/tls/${name}`, import.meta.url));
    const env = {
      REMUDA_TLS_CERT: file("certificate.pem"),
      REMUDA_TLS_KEY: file("key.pem"),
      REMUDA_NATS_HOST: address,
    };
    const remuda = await startRemuda({ dataDir, env });
    onTestFinished(async () => {
      await remuda.stop();
      await rm(dataDir, { recursive: true, force: true, maxRetries: 20 });
    });
    const connecting = connect({ natsUrl: remuda.natsUrl, tls: { ca: loopbackTls.cert } });
    if (code === undefined) await (await connecting).close();
    else await expect(connecting).rejects.toMatchObject({ code, message: expect.stringContaining("altnames") });
  },
  60_000,
);
