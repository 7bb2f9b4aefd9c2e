// A slow reader, or none, of a server that closes the connection after its answer: the whole answer is readable, and
// the process survives. The server stands in for the proxy: it answers forwarded requests itself.
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as pass } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";
import { setting } from "./setting.ts";

const at = setting();
const servers: Server[] = [];
const sockets = new Set<Socket>();

afterAll(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
});

/** Opens a pool with one proxy, which answers the head of a request with this. A CONNECT leads to the proxy itself. */
async function proxyThat(pool: string, answer: (socket: Socket) => void): Promise<{ left: Promise<unknown>[] }> {
  const left: Promise<unknown>[] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    left.push(new Promise((resolve) => socket.once("close", resolve)));
    socket.on("error", () => {});
    socket.on("data", (head) => {
      if (head.toString().startsWith("CONNECT")) socket.write("HTTP/1.1 200 OK\r\n\r\n");
      else answer(socket);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("it listens on TCP");
  await at.open(pool, [`http://127.0.0.1:${address.port}`], { backoff: { kind: "none" } });
  return { left };
}

/** As the size says, and as undici reads: 64 KiB at a time. */
const small = Buffer.alloc(65_536, "s");
const large = Buffer.alloc(2_000_000, "l");
const framed = {
  "by its length": (body: Buffer) => [`content-length: ${body.length}\r\nconnection: close\r\n\r\n`, body],
  "by its length, on a connection that was to be kept": (body: Buffer) => [
    `content-length: ${body.length}\r\n\r\n`,
    body,
  ],
  "in chunks": (body: Buffer) => [
    `transfer-encoding: chunked\r\nconnection: close\r\n\r\n${body.length.toString(16)}\r\n`,
    body,
    "\r\n0\r\n\r\n",
  ],
  "by the connection's end": (body: Buffer) => ["connection: close\r\n\r\n", body],
} as const;

const cases = Object.entries(framed).flatMap(([how, frame]) => [
  { how, frame, way: "forwarded", tunnelHttp: false },
  { how, frame, way: "through a tunnel", tunnelHttp: true },
]);

test.each(cases)("delivers a body that ends $how whole to a late reader ($way)", async ({ frame, tunnelHttp }) => {
  const pool = `late-${servers.length}`;
  const { left } = await proxyThat(pool, (socket) => {
    for (const part of ["HTTP/1.1 200 OK\r\n", ...frame(small)]) socket.write(part);
    socket.end();
  });
  const client = await at.client("nats", { pool, fetch: { tunnelHttp } });
  const response = await client.fetch("http://127.0.0.1:8080/");
  await pass(50); // Most of it has arrived, and the connection's end.
  expect((await response.text()).length).toBe(small.length);
  await Promise.all(left);
  expect(await at.reports(pool, 1)).toMatchObject([{ class: "success", bytes: small.length }]);
});

test.each(cases)("delivers a body that ends $how whole to a slow reader ($way)", async ({ frame, tunnelHttp }) => {
  const pool = `slow-${servers.length}`;
  await proxyThat(pool, (socket) => {
    for (const part of ["HTTP/1.1 200 OK\r\n", ...frame(large)]) socket.write(part);
    socket.end();
  });
  const client = await at.client("nats", { pool, fetch: { tunnelHttp } });
  const response = await client.fetch("http://127.0.0.1:8080/");
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength;
    await pass(2);
  }
  expect(bytes).toBe(large.length);
  expect(await at.reports(pool, 1)).toMatchObject([{ class: "success", bytes: large.length }]);
});

test("fails only the reader of an answer that breaks off while it is held back", async () => {
  const answering: Socket[] = [];
  await proxyThat("broken", (socket) => {
    answering.push(socket);
    socket.write("HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\nconnection: close\r\n\r\n");
    socket.write(large);
  });
  const client = await at.client("nats", { pool: "broken" });
  const [first, second] = [await client.fetch("http://127.0.0.1:8080/"), await client.fetch("http://127.0.0.1:8080/")];
  await pass(50);
  answering[0]?.resetAndDestroy();
  answering[1]?.end();
  await expect(first.text()).rejects.toThrow(TypeError);
  await expect(second.text()).rejects.toThrow(TypeError);
  expect(await at.reports("broken", 2)).toHaveLength(2);
});

test("leaves an unread body with the sender", async () => {
  let sent = 0;
  await proxyThat("left-unread", (socket) => {
    socket.write("HTTP/1.1 200 OK\r\ncontent-length: 400000000\r\n\r\n");
    const more = (): void => {
      sent += large.length;
      if (sent < 400_000_000) socket.write(large, more);
    };
    socket.write(large, more);
  });
  const client = await at.client("nats", { pool: "left-unread" });
  const response = await client.fetch("http://127.0.0.1:8080/");
  await eventually(async () => {
    const before = sent;
    await pass(300);
    expect(sent).toBe(before);
  });
  expect(sent).toBeLessThan(100_000_000); // The capacity of the system's buffers.
  await response.body?.cancel();
});

test("does not mistake a slow reader for a slow target", async () => {
  await proxyThat("patient", (socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${large.length + 1}\r\n\r\n`);
    socket.write(large);
  });
  const client = await at.client("nats", { pool: "patient", fetch: { bodyTimeoutMs: 1000 } });
  const response = await client.fetch("http://127.0.0.1:8080/");
  await pass(2500); // Held back by the reader.
  let bytes = 0;
  const reading = (async () => {
    for await (const chunk of response.body ?? []) bytes += chunk.byteLength;
  })();
  const error = await reading.catch((thrown) => thrown);
  expect(error.cause).toMatchObject({ code: "UND_ERR_BODY_TIMEOUT" }); // The last byte never comes.
  expect(bytes).toBe(large.length);
  expect(await at.reports("patient", 1)).toMatchObject([{ status: 200 }]);
});
