// Requests that may be sent again, on another proxy or on a new connection, and requests that are never sent twice.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { deadPort, type LabProxy, ok, startLabProxy, startTarget, type Target } from "./lab.ts";
import { type StandIn, standIn } from "./stand-in.ts";

let target: Target;
let good: LabProxy;
let dead: string;
let open: StandIn | undefined;

beforeAll(async () => {
  [target, good] = [await startTarget({ secure: false }), await startLabProxy()];
  dead = `http://127.0.0.1:${await deadPort()}`;
});
afterEach(async () => {
  await open?.client.close();
  target.arrived.length = 0;
  target.plays.clear();
});
afterAll(() => Promise.all([target.stop(), good.stop()]));

const through = (proxies: string[], options: Parameters<typeof standIn>[1] = {}): StandIn => {
  open = standIn(proxies, { uses: 10, ...options });
  return open;
};
const address = (): string => `http://127.0.0.1:${good.port}`;
const stream = (text: string) => new Blob([text]).stream();

test.each<[string, () => RequestInit & { duplex?: "half" }]>([
  ["a text", () => ({ body: "all of it" })],
  ["a form", () => ({ body: new URLSearchParams({ a: "b" }) })],
  ["a stream", () => ({ body: stream("all of it"), duplex: "half" })],
  ["two megabytes", () => ({ body: "x".repeat(2_000_000) })],
])("sends a POST with %s through another proxy if the first refuses the connection", async (_title, init) => {
  const { client, outcomes } = through([dead, address()]);
  const response = await client.fetch(`${target.url}/form`, { method: "POST", ...(init() as object) });
  expect([response.status, await response.text()]).toEqual([200, "ok\n"]);
  expect(target.arrived).toHaveLength(1);
  await expect.poll(() => outcomes.map((each) => each.class)).toEqual(["unreachable", "success"]);
});

test("sends a POST once if the connection closes after it was sent, and a PUT again with its body", async () => {
  const other = await startLabProxy();
  target.plays.set("/order", (socket, told) => (told.nth === 0 ? socket.destroy() : ok(socket, told)));
  const { client } = through([address(), `http://127.0.0.1:${other.port}`]);
  await expect(client.fetch(`${target.url}/order`, { method: "POST", body: "once" })).rejects.toThrow(TypeError);
  expect(target.arrived).toHaveLength(1);
  target.plays.set("/document", (socket, told) => (told.nth === 0 ? socket.destroy() : ok(socket, told)));
  expect((await client.fetch(`${target.url}/document`, { method: "PUT", body: "all of it" })).status).toBe(200);
  expect(target.arrived.slice(1).map((head) => /content-length: \d+/i.exec(head)?.[0])).toEqual([
    "content-length: 9",
    "content-length: 9",
  ]);
  await other.stop();
});

test("does not send a POST again on a new connection, and blames no proxy", async () => {
  target.plays.set("/form", (socket, told) => (told.before > 0 ? socket.destroy() : ok(socket, told)));
  const { client, outcomes } = through([address()]);
  await (await client.fetch(`${target.url}/form`)).text();
  await expect(client.fetch(`${target.url}/form`, { method: "POST", body: "once" })).rejects.toThrow(TypeError);
  expect(target.arrived).toHaveLength(2);
  await expect.poll(() => outcomes.map((each) => each.class)).toEqual(["success", "client-abort"]);
});

test("uses a new connection for the second try, even if several kept connections had become old", async () => {
  let resets = 0;
  target.plays.set("/old", (socket, told) => {
    if (told.before === 0) return setTimeout(() => ok(socket, told), 50);
    resets += 1;
    return socket.destroy();
  });
  const { client } = through([address()]);
  const page = async () => (await client.fetch(`${target.url}/old`)).text();
  await Promise.all([page(), page(), page()]); // Three connections are kept.
  for (let i = 0; i < 3; i++) expect(await page()).toBe("ok\n");
  expect(resets).toBeGreaterThan(1);
});

test("fails at once if no other proxy is left, with the first error", async () => {
  const { client, asked } = through([dead]);
  const startedAt = performance.now();
  const error = await client.fetch(`${target.url}/page`).catch((thrown) => thrown);
  expect(error.cause.code).toBe("ECONNREFUSED");
  expect(performance.now() - startedAt).toBeLessThan(2000); // It would have waited for 5 s.
  expect(asked.at(-1)).toMatchObject({ exclude: [dead] });
});

test("warns of no leak with a hundred requests on one signal", async () => {
  const warnings: Error[] = [];
  const hear = (warning: Error): void => void warnings.push(warning);
  process.on("warning", hear);
  const { signal } = new AbortController();
  const added: string[] = [];
  const add = signal.addEventListener.bind(signal);
  signal.addEventListener = (...given: Parameters<typeof add>) => {
    added.push(given[0]);
    add(...given);
  };
  const { client } = through([address()]);
  await Promise.all(
    Array.from({ length: 100 }, async () => (await client.fetch(`${target.url}/page`, { signal })).text()),
  );
  process.off("warning", hear);
  expect(warnings).toEqual([]);
  expect(added.length - 100).toBeLessThan(10); // undici adds one for each request, and allows for that.
});
