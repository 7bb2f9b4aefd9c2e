// Long lists that arrive at the same time: as many as there is room for. Nothing beyond that is read.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { type Service, sharedService } from "./http.ts";

const mebi = 1 << 20;
let service: Service;
let pool: string;

beforeAll(async () => {
  service = await sharedService();
  pool = await service.pool("uploads");
}, 150_000);
afterAll(() => service.stop());

/** A list that is announced, and stops after its first line. */
async function begin(route: string, size: string): Promise<Socket> {
  const { hostname, port } = new URL(service.url);
  const socket = connect(Number(port), hostname);
  await once(socket, "connect");
  socket.write(`POST ${pool}/${route} HTTP/1.1\r\nHost: localhost\r\n${size}\r\n\r\n`);
  return socket;
}

const long = `${"# a comment that makes the list long\n".repeat(16_000)}192.0.2.1:80\n`;

test("refuses more than four of the longest as overloaded until there is room, but not short ones", async () => {
  const sizes = [`Content-Length: ${32 * mebi}`, `Content-Length: ${32 * mebi}`, `Content-Length: ${32 * mebi}`];
  const sockets = await Promise.all([
    ...sizes.map((size) => begin("proxies", size)),
    begin("outcomes", "Transfer-Encoding: chunked"), // May become the longest.
  ]);
  expect(long.length).toBeGreaterThan(mebi / 2);
  const refused = await eventually(async () => {
    const reply = await service.call(`POST ${pool}/proxies`, long, { "content-type": "text/plain" });
    expect(reply.status).toBe(503);
    return reply;
  });
  expect(refused.body).toMatchObject({ code: "overloaded", retryAfterMs: 1000 });
  expect(refused.headers).toMatchObject({ "retry-after": "1", connection: "close" });
  // Bodies within every route's limit go on.
  expect((await service.call(`POST ${pool}/proxies`, ["192.0.2.2:80"])).body).toMatchObject({ added: 1 });
  expect((await service.call(`POST ${pool}/outcomes`, [])).status).toBe(200);

  sockets[0]?.destroy();
  const taken = await eventually(async () => {
    const reply = await service.call(`POST ${pool}/proxies`, long, { "content-type": "text/plain" });
    expect(reply.status).toBe(200);
    return reply;
  });
  expect(taken.body).toMatchObject({ added: 1 });
  // The room of an answered one is free again. It is not enough for two of them.
  sockets.push(await begin("proxies", `Content-Length: ${31 * mebi}`));
  for (let i = 0; i < 3; i++)
    expect((await service.call(`POST ${pool}/proxies`, long, { "content-type": "text/plain" })).status).toBe(200);
  for (const socket of sockets) socket.destroy();
});

test("refuses a body longer than the limit as too-large, however much room there is", async () => {
  const socket = await begin("proxies", `Content-Length: ${33 * mebi}`);
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 413 /);
  socket.destroy();
});
