// Following a subject with direct gets, on a real broker. A replica that is behind is played by answers without
// messages.
import { headers } from "@nats-io/transport-node";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { callJs } from "../../runtime/jetstream-api.ts";
import { StreamNews } from "../../runtime/stream-news.ts";
import { tail } from "../../runtime/tail.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";

let broker: TestBroker;

beforeAll(async () => {
  broker = await startTestBroker();
}, 180_000);
afterAll(() => broker?.stop());

async function connected(): Promise<Bus> {
  const bus = await openBus(broker.url, "test");
  onTestFinished(() => bus.close());
  return bus;
}

/** A stream of its own with these messages, each followed by one of another subject. */
async function streamOf(name: string, texts: readonly string[], config: object = { allow_direct: true }) {
  const bus = await connected();
  await callJs(bus, `STREAM.CREATE.${name}`, { name, subjects: [`${name}.*`], storage: "memory", ...config });
  const store = async (text: string): Promise<void> => {
    await bus.nc.request(`${name}.a`, text);
    await bus.nc.request(`${name}.b`, "of another subject");
  };
  for (const text of texts) await store(text);
  return { bus, stream: name, subject: `${name}.a`, store };
}

async function all(messages: AsyncIterable<{ bytes: Uint8Array }>): Promise<string[]> {
  const read: string[] = [];
  for await (const { bytes } of messages) read.push(Buffer.from(bytes).toString());
  return read;
}

const start = { seq: 0, at: 0 };

/** The connection's next direct gets are answered as by a replica that has nothing yet, or as given. */
function behind(bus: Bus, times: number, answer = headers(404, "Message Not Found")): () => number {
  const publish = bus.nc.publish.bind(bus.nc);
  let left = times;
  bus.nc.publish = (subject, payload, options) => {
    if (!subject.startsWith("$JS.API.DIRECT.GET.") || left === 0) return publish(subject, payload, options);
    left--;
    publish(options?.reply ?? "", "", { headers: answer });
  };
  return () => left;
}

test("reads up to the bound, although the replicas that answer have nothing yet", async () => {
  const texts = ["1", "", "3", "4", "5"];
  const { bus, stream, subject } = await streamOf("behind", texts);
  const left = behind(bus, 3);
  expect(await all(tail({ bus, stream, subject, from: start, until: 9 }))).toEqual(texts);
  expect(left()).toBe(0);
});

test("follows although the replicas that answer have nothing yet", async () => {
  const { bus, stream, subject, store } = await streamOf("later", ["1", "2", "3"]);
  const stopping = new AbortController();
  const left = behind(bus, 4);
  const read: string[] = [];
  const following = (async () => {
    for await (const { bytes } of tail({ bus, stream, subject, from: start, signal: stopping.signal }))
      read.push(Buffer.from(bytes).toString());
  })();
  await eventually(() => expect(read).toEqual(["1", "2", "3"]));
  for (const text of ["4", "5", "6", "7"]) await store(text);
  await eventually(() => expect(read).toEqual(["1", "2", "3", "4", "5", "6", "7"]));
  expect(left()).toBeLessThan(4);
  stopping.abort();
  await following;
});

test("reads a stream without direct gets, message by message", async () => {
  const { bus, stream, subject } = await streamOf("single", ["1", "2", "3"], { allow_direct: false });
  expect(await all(tail({ bus, stream, subject, from: start, until: 5 }))).toEqual(["1", "2", "3"]);
});

test("reads in batches again after a moment without JetStream", async () => {
  const texts = Array.from({ length: 110 }, (_, i) => String(i));
  const { bus, stream, subject } = await streamOf("absent", texts);
  behind(bus, 1, headers(503, "No Responders"));
  const publish = bus.nc.publish.bind(bus.nc);
  let batches = 0;
  bus.nc.publish = (subject, ...more) => {
    if (subject.startsWith("$JS.API.DIRECT.GET.")) batches++;
    publish(subject, ...more);
  };
  expect(await all(tail({ bus, stream, subject, from: start, until: 219 }))).toEqual(texts);
  expect(batches).toBe(2); // The second one after a hundred messages that were requested alone.
});

test("ends when the messages up to the bound are removed while it reads", async () => {
  const { bus, stream, subject } = await streamOf("shorter", ["1", "2", "3"]);
  await callJs(bus, `STREAM.PURGE.${stream}`, { filter: subject });
  expect(await all(tail({ bus, stream, subject, from: start, until: 5 }))).toEqual([]);
});

test("goes on by time where a stream was made again, and skips nothing", async () => {
  const { bus, stream, subject, store } = await streamOf("again", ["1", "2", "3"]);
  const stopping = new AbortController();
  const read: string[] = [];
  const following = (async () => {
    for await (const { bytes } of tail({ bus, stream, subject, from: start, signal: stopping.signal }))
      read.push(Buffer.from(bytes).toString());
  })();
  await eventually(() => expect(read).toHaveLength(3));
  const { config } = await callJs<{ config: object }>(bus, `STREAM.INFO.${stream}`);
  await callJs(bus, `STREAM.DELETE.${stream}`);
  await callJs(bus, `STREAM.CREATE.${stream}`, config);
  await store("new");
  await eventually(() => expect(read).toEqual(["1", "2", "3", "new"]));
  stopping.abort();
  await following;
});

test("asks for all followers of a stream at once, and leaves nothing on the server", async () => {
  const { bus, stream, subject, store } = await streamOf("shared", ["1"]);
  const news = new StreamNews(bus, stream);
  const stopping = new AbortController();
  const followers = Array.from({ length: 50 }, async () => {
    const read: string[] = [];
    const followed = tail({ bus, stream, subject, from: start, news, signal: stopping.signal });
    for await (const { bytes } of followed) {
      read.push(Buffer.from(bytes).toString());
      if (read.length === 2) return read;
    }
    return read;
  });
  let asked = 0;
  const request = bus.nc.request.bind(bus.nc);
  bus.nc.request = (subject, ...rest) => {
    if (subject.includes("STREAM.INFO")) asked++;
    return request(subject, ...rest);
  };
  await eventually(() => expect(asked).toBeGreaterThan(5));
  const { nc } = await connected();
  await store("2");
  expect(await Promise.all(followers)).toEqual(followers.map(() => ["1", "2"]));
  expect(asked).toBeLessThan(100);
  const { state } = (await nc.request(`$JS.API.STREAM.INFO.${stream}`)).json<{ state: { consumer_count: number } }>();
  expect(state.consumer_count).toBe(0);
  stopping.abort();
});
