// Logging in on a machine that is too busy: a server that has heard no login in its time has not refused one.

import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:net";
import { afterEach, expect, test } from "vitest";
import { openBus } from "../../runtime/bus.ts";

let server: Server | undefined;

afterEach(() => void server?.close());

/** As much of a NATS server as a login needs; the first so many hear what is given. */
async function serverThatSays(complaint: string, times: number): Promise<{ url: string; logins(): number }> {
  let logins = 0;
  server = createServer((socket) => {
    logins += 1;
    const isRefused = logins <= times;
    socket.on("error", () => {});
    socket.write(
      `INFO ${JSON.stringify({ server_id: "x", version: "2.15.0", max_payload: 1048576, headers: true })}\r\n`,
    );
    if (isRefused) return socket.end(`-ERR '${complaint}'\r\n`);
    socket.on("data", (chunk) => String(chunk).includes("PING") && socket.write("PONG\r\n"));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server?.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `nats://user:s3cret@127.0.0.1:${port}`, logins: () => logins };
}

test("a login that came too late is made again", async () => {
  const { url, logins } = await serverThatSays("Authentication Timeout", 2);
  const bus = await openBus(url, "bus test");
  expect(logins()).toBe(3);
  await bus.close();
});

test("one that always comes too late is given up, and nobody is told that it is wrong", async () => {
  const { url, logins } = await serverThatSays("Authentication Timeout", 100);
  await expect(openBus(url, "bus test")).rejects.toMatchObject({
    code: "retry-later",
    message: expect.stringMatching(/^NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ has heard no login in its time, 5 times/),
  });
  expect(logins()).toBe(5);
});

test("one that is refused is refused at once", async () => {
  const { url, logins } = await serverThatSays("Authorization Violation", 100);
  await expect(openBus(url, "bus test")).rejects.toMatchObject({ code: "fix-setup" });
  expect(logins()).toBe(1);
});
