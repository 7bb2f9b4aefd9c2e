import { once } from "node:events";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { freePort } from "../../demo/free-port.ts";

test("gives a port below those of the system's choice, and none at which a program listens", async () => {
  const [first, second] = [await freePort(), await freePort()];
  expect(Math.min(first, second)).toBeGreaterThanOrEqual(20_000);
  expect(Math.max(first, second)).toBeLessThan(30_000);
  const server = createServer().listen(first, "127.0.0.1");
  await once(server, "listening");
  const picked = [first, first, second];
  expect(await freePort(() => picked.shift() ?? 0)).toBe(second);
  await new Promise((closed) => server.close(closed));
});
