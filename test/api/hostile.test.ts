// Bounds for a client that sends too much, or leaves answers unread. They are tested with the app alone, without a
// service.
import { once } from "node:events";
import { type IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { type AddressInfo, connect, Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, onTestFinished, test } from "vitest";
import { parseJson } from "../../protocol/request.ts";
import type { Bus } from "../../runtime/bus.ts";
import { openLog } from "../../runtime/log.ts";
import { buildApi } from "../../services/api/app.ts";
import { type AskFor, askOver } from "../../services/api/ask.ts";
import type { Ledgers } from "../../services/api/ledger.ts";
import { addList } from "../../services/api/proxy-list.ts";
import { Uploads } from "../../services/api/uploads.ts";
import { eventually } from "../kit/poll.ts";

const host = "127.0.0.1";
const mebi = 1 << 20;

async function startApi(ask: AskFor) {
  // The tests request no other reads of ledgers.
  const ledgers = { openNames: async () => ["shop"], size: async () => undefined } as unknown as Ledgers;
  const log = openLog({ level: "info", version: "0", isTerminal: false, write: () => {} })("api");
  const door = { host, names: [], userOf: () => undefined, needsKey: false, hasTls: false };
  const api = await buildApi({ ask, ledgers, log, version: "0", door });
  await api.listen({ host, port: 0 });
  onTestFinished(() => api.close());
  const { port } = api.server.address() as AddressInfo; // It listens on TCP.
  return async (): Promise<Socket> => {
    const socket = connect(port, host).on("error", () => {});
    onTestFinished(() => void socket.destroy());
    await once(socket, "connect");
    return socket;
  };
}

test("a waiting request keeps nothing of its body", async () => {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  let asked = 0;
  const never = new Promise<never>(() => {});
  const request = (): Promise<never> => {
    asked++;
    return never;
  };
  const nc = { request };
  // A request uses no more of it.
  const bus = { nc, up: true, whenDown: () => ({ promise: never, cancel: () => {} }) } as unknown as Bus;
  const open = await startApi(askOver(bus, {} as Ledgers)); // Read only if a request is not answered.
  const held = (): number => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = held();
  const body = JSON.stringify({ waitMs: 60_000, padding: "x".repeat(500_000) });
  for (let i = 0; i < 60; i++) {
    const path = i % 2 === 0 ? "leases" : "token";
    const head = `POST /v1/pools/shop/${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n`;
    (await open()).write(head + body);
    await eventually(() => expect(asked).toBe(i + 1));
  }
  await eventually(() => expect(held() - before).toBeLessThan(10 * mebi));
});

test("closes the connection that leaves the most answers unread, and serves others", async () => {
  const open = await startApi(() => async () => ({ bytes: Buffer.alloc(mebi, " ") }));
  const idle = await open();
  idle.pause();
  idle.write("GET /v1/pools HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100));
  await once(idle.resume() && idle, "close");
  const other = await open();
  other.write("GET /v1/pools HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const [chunk] = await once(other, "data");
  expect(String(chunk)).toMatch(/^HTTP\/1\.1 200 /);
});

test("looks at all pools once for all that ask at the same time", async () => {
  const asked: string[] = [];
  const open = await startApi(() => async ({ verb }) => {
    asked.push(verb);
    await new Promise((resolve) => setTimeout(resolve, 300));
    return { bytes: Buffer.from('{"pools":[]}') };
  });
  const sockets = await Promise.all(Array.from({ length: 20 }, open));
  for (const socket of sockets) socket.write("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await Promise.all(sockets.map((socket) => once(socket, "data")));
  expect(asked.length).toBeLessThan(10); // Two for each look.
});

test("one user may take half of the room for bodies", () => {
  const uploads = new Uploads();
  const begin = (user: string | undefined, bytes: number, bytesMax = 32 * mebi) => {
    const headers: IncomingHttpHeaders = { "content-length": String(bytes) };
    const socket = new Socket();
    const answer = new ServerResponse(new IncomingMessage(socket));
    return uploads.begin(headers, { bytesMax, user, socket, answer });
  };
  const first = begin("alice", 32 * mebi);
  expect("refusal" in begin("alice", 32 * mebi)).toBe(false);
  expect(begin("alice", 32 * mebi)).toMatchObject({ refusal: { code: "overloaded" } });
  expect("refusal" in begin("bob", 32 * mebi)).toBe(false);
  if ("done" in first) first.done();
  expect("refusal" in begin("alice", 32 * mebi)).toBe(false);
  const short = Array.from({ length: 200 }, () => begin("carol", mebi / 2, mebi / 2));
  expect(short.filter((each) => !("refusal" in each))).toHaveLength(64);
});

test.each([
  ["levels", "[".repeat(6 * mebi)],
  ["empty objects", `[{}${",{}".repeat(4 * mebi)}]`],
])("does not parse JSON that would take far more memory than its text: %s", (_what, text) => {
  expect(parseJson(text)).toMatchObject({ refusal: { code: "too-large" } });
});

test("parses long JSON of an ordinary kind", () => {
  const outcomes = Array.from({ length: 100_000 }, (_, i) => ({ leaseId: `l_${i}`, n: 1, error: '[[[[,,,,\\"[[[' }));
  expect(parseJson(JSON.stringify(outcomes))).toEqual({ value: outcomes });
});

/** How often other work could run meanwhile. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  await work().catch(() => {});
  isOver = true;
  return turns;
}

const add = (bytes: Buffer, contentType = "text/plain", stopping = new AbortController().signal) =>
  addList(async () => ({ bytes: Buffer.from('{"added":0,"rejected":[]}') }), {
    ...{ pool: "shop", bytes, contentType, stopping },
  });

test("runs other work while it reads a list without entries, or JSON that is not a list", async () => {
  expect(await turnsDuring(() => add(Buffer.alloc(mebi, "\n")))).toBeGreaterThan(10);
  const numbers = Buffer.from(`[1${",[]".repeat(mebi)}]`);
  expect(await turnsDuring(() => add(numbers, "application/json"))).toBeGreaterThan(10);
});

test("lists that are read at the same time take turns", async () => {
  const list = (): Buffer => Buffer.alloc(mebi / 2, "\n");
  const one = await turnsDuring(() => add(list()));
  const six = await turnsDuring(() => Promise.all(Array.from({ length: 6 }, () => add(list()))));
  expect(six).toBeGreaterThan(2 * one);
});

test("a list is not read on when its client has gone, whether or not it has entries", async () => {
  const gone = new AbortController();
  const reading = add(Buffer.alloc(2 * mebi, "x\n"), "text/plain", gone.signal);
  setImmediate(() => gone.abort());
  await expect(reading).rejects.toThrow("gone");
});
