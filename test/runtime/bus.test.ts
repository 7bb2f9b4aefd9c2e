// Logging in. On a busy machine, a server that did not hear a login in time has not refused it. An expired login is not
// reported as wrong. A URL that asks for encryption gets it, or no connection.
import { expect, onTestFinished, test } from "vitest";
import { openBus } from "../../runtime/bus.ts";
import { startTestBroker } from "../kit/broker.ts";
import { natsThatSays } from "../kit/rejecting-nats.ts";

test("repeats a login that came too late", async () => {
  const { url, logins } = await natsThatSays("Authentication Timeout", 2);
  const bus = await openBus(url, "bus test");
  expect(logins()).toBe(3);
  await bus.close();
});

test("gives up a login that always comes too late, and does not report it as wrong", async () => {
  const { url, logins } = await natsThatSays("Authentication Timeout", 100);
  await expect(openBus(url, "bus test")).rejects.toMatchObject({
    code: "retry-later",
    message: expect.stringMatching(/^NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ received no login in time, 5 times/),
  });
  expect(logins()).toBe(5);
});

test("rejects a refused login at once", async () => {
  const { url, logins } = await natsThatSays("Authorization Violation", 100);
  await expect(openBus(url, "bus test")).rejects.toMatchObject({ code: "fix-setup" });
  expect(logins()).toBe(1);
});

test.each(["User Authentication Expired", "Account Authentication Expired"])(
  "%s: reports an expired login as expired, at once",
  async (errorMessage) => {
    const { url, logins } = await natsThatSays(errorMessage, 100);
    await expect(openBus(url, "bus test")).rejects.toMatchObject({
      code: "fix-setup",
      message: expect.stringMatching(
        /^The login of the user "user" at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ has expired\. Set REMUDA_NATS_URL to a valid one/,
      ),
    });
    expect(logins()).toBe(1);
  },
);

test("does not follow a tls:// URL without encryption, and sends no password", async () => {
  const { url } = await natsThatSays("", 0);
  await expect(openBus(url.replace("nats://", "tls://"), "bus test")).rejects.toMatchObject({
    code: "retry-later",
    message: expect.stringMatching(
      /^No NATS server answers at tls:\/\/\*\*\*@127\.0\.0\.1:\d+ \(server does not support 'tls'\)/,
    ),
  });
  const broker = await startTestBroker();
  onTestFinished(() => broker.stop());
  await expect(openBus(broker.url.replace("nats://", "tls://"), "bus test")).rejects.toMatchObject({
    code: "retry-later",
  });
});
