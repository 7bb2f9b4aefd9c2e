// Load that is shed, without a service: the app alone, with a picker and ledgers that answer when the test says so.
import { once } from "node:events";
import { request } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { openLog } from "../../runtime/log.ts";
import { buildApi } from "../../services/api/app.ts";
import type { Asked } from "../../services/api/ask.ts";
import type { Ledgers } from "../../services/api/ledger.ts";
import { Readers } from "../../services/api/readers.ts";
import type { HttpUser } from "../../services/api/session.ts";
import { eventually } from "../kit/poll.ts";
import type { Json } from "./http.ts";

type UserOf = (key: string) => HttpUser;
const viewer: UserOf = (name) => ({ name, role: "viewer" });
const mebi = 1 << 20;
const host = "127.0.0.1";

/** An app that listens. `asked` has the requests that it makes. They are answered by `answer`, once it is called. */
async function startApi({
  connectionsMax,
  ...own
}: {
  connectionsMax?: number;
  ledgers?: Ledgers;
  userOf?: UserOf;
} = {}) {
  const said: Json[] = [];
  const asked: Asked[] = [];
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  const write = (line: string): void => void said.push(JSON.parse(line));
  const api = await buildApi({
    ask: () => async (one) => {
      asked.push(one);
      await answered;
      return { bytes: Buffer.from('{"added":1,"already":0,"updated":0,"rejected":[],"rejectedCount":0}') };
    },
    // The broker does not say which commit is the last.
    ledgers: own.ledgers ?? ({ last: () => new Promise(() => {}) } as unknown as Ledgers),
    log: openLog({ level: "info", version: "0", isTerminal: false, write })("api"),
    version: "0",
    door: { host, names: [], userOf: own.userOf ?? viewer, needsKey: false, hasTls: false },
    ...(connectionsMax === undefined ? {} : { connectionsMax }),
  });
  await api.listen({ host, port: 0 });
  onTestFinished(() => api.close());
  const { port } = api.server.address() as AddressInfo; // It listens on TCP.
  const open = async (): Promise<Socket> => {
    const socket = connect(port, host).on("error", () => {});
    onTestFinished(() => void socket.destroy());
    await once(socket, "connect");
    return socket;
  };
  /** Status and code of the answer to a request. */
  const get = (path: string, key?: string): Promise<unknown[]> =>
    new Promise((resolve, reject) => {
      const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
      const sent = request({ host, port, path, headers, agent: false }, (response) => {
        let text = "";
        response.on("data", (chunk) => (text += chunk));
        response.on("end", () => resolve([response.statusCode, JSON.parse(text).code]));
      });
      onTestFinished(() => void sent.destroy());
      sent.on("error", reject).end();
    });
  return { api, said, asked, answer, open, get };
}

const events = "/v1/pools/shop/events?from=0";

test("counts a reader of events before it asks for anything", async () => {
  const { get } = await startApi();
  const all = Array.from({ length: 101 }, () => get(events).catch(() => undefined));
  expect(await Promise.race(all)).toEqual([503, "overloaded"]);
});

test.each([
  { what: "role", change: { role: "worker" } },
  { what: "role (to one that may follow as well)", change: { role: "admin" } },
  { what: "pools", change: { pools: ["other"] } },
] as const)("cuts off a reader of events whose $what changes", async ({ change }) => {
  const users = new Map<string, HttpUser>();
  const silent = async function* (_pool: string, _from: unknown, signal: AbortSignal) {
    await once(signal, "abort");
    yield* [];
  };
  const ledgers = { last: async () => ({ seq: 1, storedAt: 1 }), follow: silent } as unknown as Ledgers;
  const { api } = await startApi({ ledgers, userOf: (name) => users.get(name) ?? viewer(name) });
  const { port } = api.server.address() as AddressInfo; // It listens on TCP.
  const headers = { authorization: "Bearer alice" };
  const followed = await fetch(`http://${host}:${port}${events}`, { headers });
  users.set("alice", { ...viewer("alice"), ...change });
  expect(await followed.text()).toBe("retry: 1000\n\n");
});

test("bounds the readers of events of one user, and leaves room for others", async () => {
  const { get } = await startApi();
  const all = Array.from({ length: 21 }, () => get(events, "alice").catch(() => undefined));
  expect(await Promise.race(all)).toEqual([503, "overloaded"]);
  const other = await Promise.race([get(events, "bob").catch(() => undefined), get("/livez")]);
  expect(other).toEqual([200, undefined]);
});

test("spends at most half of its time on readers of events", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const readers = new Readers();
  const done: string[] = [];
  const work = (name: string, ms: number): Promise<void> =>
    readers.work(() => {
      vi.advanceTimersByTime(ms);
      done.push(name);
    });
  await work("short", 1);
  await work("long", 30);
  const next = work("next", 1);
  await vi.advanceTimersByTimeAsync(30);
  expect(done).toEqual(["short", "long"]); // As long as both took: 31 ms.
  await vi.advanceTimersByTimeAsync(1);
  await next;
  expect(done).toEqual(["short", "long", "next"]);
});

test("keeps an upload's room until its job is over, and stops the job when its client has gone", async () => {
  const { api, asked, answer, open } = await startApi();
  const head = "POST /v1/pools/shop/proxies HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
  // Its length is not announced, so it has the room of the longest. A thousand entries make a slice.
  const list = Array.from({ length: 3000 }, (_, i) => `10.0.${i >> 8}.${i & 255}:80\n`).join("");
  const chunked = `Transfer-Encoding: chunked\r\n\r\n${list.length.toString(16)}\r\n${list}\r\n0\r\n\r\n`;
  const uploads = await Promise.all([0, 1, 2, 3].map(open));
  for (const socket of uploads) socket.write(`${head}${chunked}`);
  await eventually(() => expect(asked).toHaveLength(4));
  for (const socket of uploads) socket.destroy();
  await eventually(async () => {
    const count = await new Promise<number>((resolve) => api.server.getConnections((_error, each) => resolve(each)));
    expect(count).toBe(0);
  });
  const statusOfNext = async (): Promise<string> => {
    const socket = await open();
    socket.write(`${head}Content-Length: ${mebi}\r\n\r\n${"#".repeat(mebi)}`);
    const [chunk] = (await once(socket, "data")) as [Buffer];
    return chunk.toString().slice(9, 12);
  };
  expect(await statusOfNext()).toBe("503"); // Their slices are under way.
  answer();
  await eventually(async () => expect(await statusOfNext()).toBe("200"));
  expect(asked.filter(({ verb, body }) => verb === "proxies.add" && isFull(body))).toHaveLength(4); // No second slices.
});

function isFull(body: unknown): boolean {
  return (body as { proxies: unknown[] }).proxies.length === 1000;
}

test("closes a connection beyond the bound, says so, and goes on with the others", async () => {
  const { api, said, open } = await startApi({ connectionsMax: 2 });
  const [first] = await Promise.all([open(), open()]);
  await eventually(async () => {
    const count = await new Promise<number>((resolve) => api.server.getConnections((_error, each) => resolve(each)));
    expect(count).toBe(2);
  });
  const third = await open();
  await once(third, "close");
  expect(said).toContainEqual(expect.objectContaining({ level: "warn", connectionsMax: 2 }));
  first?.write("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const [chunk] = (await once(first!, "data")) as [Buffer];
  expect(chunk.toString()).toMatch(/^HTTP\/1\.1 200 /);
});

test("bounds its connections by the file descriptors that the process may have, and the time for a head", async () => {
  const { server } = (await startApi()).api;
  expect(server.maxConnections).toBeGreaterThan(0);
  expect(server.maxConnections).toBeLessThanOrEqual(10_000);
  expect(server.headersTimeout).toBe(10_000);
});
