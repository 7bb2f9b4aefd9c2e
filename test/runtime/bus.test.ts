// Logging in: on a machine that is too busy, a server that has heard no login in its time has not refused one; one that has
// run out is no wrong one; and who asks for encryption gets it, or no connection.
import { expect, onTestFinished, test } from "vitest";
import { openBus } from "../../runtime/bus.ts";
import { startTestBroker } from "../kit/broker.ts";
import { natsThatSays } from "../kit/rejecting-nats.ts";

test("a login that came too late is made again", async () => {
  const { url, logins } = await natsThatSays("Authentication Timeout", 2);
  const bus = await openBus(url, "bus test");
  expect(logins()).toBe(3);
  await bus.close();
});

test("one that always comes too late is given up, and nobody is told that it is wrong", async () => {
  const { url, logins } = await natsThatSays("Authentication Timeout", 100);
  await expect(openBus(url, "bus test")).rejects.toMatchObject({
    code: "retry-later",
    message: expect.stringMatching(/^NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ has heard no login in its time, 5 times/),
  });
  expect(logins()).toBe(5);
});

test("one that is refused is refused at once", async () => {
  const { url, logins } = await natsThatSays("Authorization Violation", 100);
  await expect(openBus(url, "bus test")).rejects.toMatchObject({ code: "fix-setup" });
  expect(logins()).toBe(1);
});

test.each(["User Authentication Expired", "Account Authentication Expired"])(
  "%s: one that has run out is told as that, at once",
  async (errorMessage) => {
    const { url, logins } = await natsThatSays(errorMessage, 100);
    await expect(openBus(url, "bus test")).rejects.toMatchObject({
      code: "fix-setup",
      message: expect.stringMatching(
        /^The login of the user "user" at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ has expired\. Set REMUDA_NATS_URL to one that/,
      ),
    });
    expect(logins()).toBe(1);
  },
);

test("a URL that says tls:// is not followed without encryption, and no password is sent", async () => {
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
