// One contract for both ledgers, and the failures that only the JetStream ledger must survive.
import { headers } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { commitHeader } from "../../events/commit.ts";
import { ledgerStream, ledgerSubject, ledgerSubjects } from "../../protocol/subjects.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import type { Fault } from "../../runtime/fault.ts";
import { whenFormed } from "../../runtime/forming.ts";
import { callJs, storedMessage } from "../../runtime/jetstream-api.ts";
import type { Ledger } from "../../runtime/ledger.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { MemoryLedger } from "../../runtime/ledger-memory.ts";
import { ensureStream } from "../../runtime/streams.ts";
import { ensureStreams, neededStreams } from "../../services/picker/stream-settings.ts";
import { eventually } from "../kit/poll.ts";
import { startRelay } from "../kit/relay.ts";
import { startStreams, type TestStreams } from "../kit/streams.ts";

let streams: TestStreams;
let bus: Bus;
let pools = 0;

beforeAll(async () => {
  streams = await startStreams();
  ({ bus } = streams);
});

afterAll(async () => {
  await streams?.stop();
});

const newPool = (): string => `pool-${++pools}`;
const onJetStream = (pool: string, through: Bus = bus): JetStreamLedger =>
  new JetStreamLedger({ bus: through, stream: ledgerStream, subject: ledgerSubject(pool) });
const bytes = (text: string): Uint8Array => Buffer.from(text);

async function texts(ledger: Ledger, afterSeq = 0): Promise<string[]> {
  const all: string[] = [];
  for await (const commit of ledger.read(afterSeq)) all.push(Buffer.from(commit.bytes).toString());
  return all;
}

test("reads a ledger no faster than it is folded, with a bounded read-ahead", async () => {
  const ledger = onJetStream(newPool());
  const body = Buffer.alloc(100_000, "a");
  const count = 120;
  let seq = 0;
  for (let i = 0; i < count; i++) {
    const appended = await ledger.append({ id: String(i), bytes: body, afterSeq: seq });
    seq = (appended as { seq: number }).seq;
  }
  const { inBytes: before } = bus.nc.stats();
  let read = 0;
  let ahead = 0;
  for await (const commit of ledger.read(0)) {
    expect(commit.bytes.length).toBe(body.length);
    read++;
    // By now, all messages that the broker may have sent have had time to arrive.
    if (read % 8 === 1) for (let i = 0; i < 20; i++) await bus.nc.flush();
    ahead = Math.max(ahead, bus.nc.stats().inBytes - before - read * body.length);
  }
  expect(read).toBe(count);
  expect(ahead).toBeGreaterThan(body.length);
  expect(ahead).toBeLessThan(40 * body.length);
});

test("tells why a ledger cannot be read, and goes on once it can", async () => {
  const pool = newPool();
  for (const [i, text] of ["one", "two"].entries()) {
    const { seq } = await onJetStream(pool).head();
    await onJetStream(pool).append({ id: String(i), bytes: bytes(text), afterSeq: seq });
  }
  const reader = await openBus(streams.broker.url, "reader");
  const publish = reader.nc.publish.bind(reader.nc);
  let refusals = 2;
  reader.nc.publish = (subject, payload, options) => {
    if (!subject.includes("DIRECT.GET") || refusals-- <= 0) return publish(subject, payload, options);
    publish(options?.reply ?? "", "", { headers: headers(408, "Bad Request") });
  };
  const told: string[] = [];
  const given = { bus: reader, stream: ledgerStream, subject: ledgerSubject(pool) };
  expect(await texts(new JetStreamLedger({ ...given, onTrouble: (why) => told.push(why) }))).toEqual(["one", "two"]);
  expect(told).toEqual(["JetStream error 408: Bad Request", "JetStream error 408: Bad Request"]);
  await reader.close();
});

describe.each([
  ["in memory", () => new MemoryLedger() as Ledger],
  ["on JetStream", () => onJetStream(newPool()) as Ledger],
])("a ledger %s", (_where, create) => {
  test("is empty at first, and keeps commits in order", async () => {
    const ledger = create();
    expect(await ledger.head()).toEqual({ seq: 0, id: "" });
    expect(await texts(ledger)).toEqual([]);
    let seq = 0;
    for (const text of ["one", "two", "three"]) {
      const appended = await ledger.append({ id: text, bytes: bytes(text), afterSeq: seq });
      expect(appended).toEqual({ seq: expect.any(Number) });
      seq = (appended as { seq: number }).seq;
    }
    expect(await ledger.head()).toEqual({ seq, id: "three" });
    expect(await texts(ledger)).toEqual(["one", "two", "three"]);
    expect(await texts(ledger, seq)).toEqual([]);
  });

  test("reports the time of the clock that stamps its commits", async () => {
    const ledger = create();
    const before = await ledger.now();
    await ledger.append({ id: "one", bytes: bytes("one"), afterSeq: 0 });
    const after = await ledger.now();
    for await (const { storedAt } of ledger.read(0)) {
      expect(storedAt).toBeGreaterThanOrEqual(before);
      expect(storedAt).toBeLessThanOrEqual(after);
    }
  });

  test("rejects a writer that has not seen the last commit", async () => {
    const ledger = create();
    const first = (await ledger.append({ id: "a", bytes: bytes("a"), afterSeq: 0 })) as { seq: number };
    expect(await ledger.append({ id: "b", bytes: bytes("b"), afterSeq: 0 })).toBe("fenced");
    await ledger.append({ id: "c", bytes: bytes("c"), afterSeq: first.seq });
    expect(await ledger.append({ id: "d", bytes: bytes("d"), afterSeq: first.seq })).toBe("fenced");
    expect(await texts(ledger)).toEqual(["a", "c"]);
  });

  test("stores the same commit once when it is sent again, and acknowledges it again", async () => {
    const ledger = create();
    const commit = { id: "a", bytes: bytes("a"), afterSeq: 0 };
    const first = await ledger.append(commit);
    expect(await ledger.append(commit)).toEqual(first);
    expect(await texts(ledger)).toEqual(["a"]);
  });

  test("stores one commit of many concurrent ones", async () => {
    const ledger = create();
    const tries = await Promise.all(
      ["a", "b", "c", "d"].map((id) => ledger.append({ id, bytes: bytes(id), afterSeq: 0 })),
    );
    expect(tries.filter((result) => result === "fenced")).toHaveLength(3);
    expect(await texts(ledger)).toHaveLength(1);
  });
});

test("separates the ledgers of several pools on one stream", async () => {
  const [a, b] = [onJetStream(newPool()), onJetStream(newPool())];
  const first = (await a.append({ id: "a1", bytes: bytes("a1"), afterSeq: 0 })) as { seq: number };
  await b.append({ id: "b1", bytes: bytes("b1"), afterSeq: 0 });
  await a.append({ id: "a2", bytes: bytes("a2"), afterSeq: first.seq });
  expect([await texts(a), await texts(b)]).toEqual([["a1", "a2"], ["b1"]]);
});

test("resolves a commit whose answer is lost with the connection, and does not store it twice", async () => {
  const link = await startRelay(streams.broker);
  const through = await openBus(link.urlOf(streams.broker.url), "test");
  try {
    const doubts: string[] = [];
    const pool = newPool();
    const ledger = new JetStreamLedger({
      bus: through,
      stream: ledgerStream,
      subject: ledgerSubject(pool),
      onDoubt: (why) => doubts.push(why),
    });
    link.swallowAnswers();
    const appending = ledger.append({ id: "a", bytes: bytes("a"), afterSeq: 0 });
    // It is stored, but the writer has no answer; then the link goes down.
    await eventually(async () =>
      expect(await storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject(pool) })).toBeDefined(),
    );
    link.cut();
    expect(await appending).toEqual({ seq: expect.any(Number) });
    expect(doubts.length).toBeGreaterThan(0);
    expect(await texts(onJetStream(pool))).toEqual(["a"]);
  } finally {
    await through.close();
    await link.close();
  }
});

test("fences a commit whose answer is lost if another writer was faster", async () => {
  const link = await startRelay(streams.broker);
  const through = await openBus(link.urlOf(streams.broker.url), "test");
  try {
    const pool = newPool();
    link.newOnes("ended");
    link.cut();
    const appending = onJetStream(pool, through).append({ id: "a", bytes: bytes("a"), afterSeq: 0 });
    await onJetStream(pool).append({ id: "b", bytes: bytes("b"), afterSeq: 0 });
    link.newOnes("passed");
    expect(await appending).toBe("fenced");
  } finally {
    await through.close();
    await link.close();
  }
});

test("repeats a commit and a read soon after the server that was asked has gone", async () => {
  const silent = await openBus(streams.broker.url, "test");
  const request = silent.nc.request.bind(silent.nc);
  const asked: string[] = [];
  // The first of each kind is lost.
  silent.nc.request = (subject, ...rest) => {
    const isFirst = !asked.includes(subject);
    asked.push(subject);
    return isFirst ? new Promise(() => {}) : request(subject, ...rest);
  };
  try {
    const pool = newPool();
    const ledger = onJetStream(pool, silent);
    const startedOn = performance.now();
    expect(await ledger.append({ id: "a", bytes: bytes("a"), afterSeq: 0 })).toEqual({ seq: expect.any(Number) });
    expect(await ledger.head()).toMatchObject({ id: "a" });
    expect(performance.now() - startedOn).toBeLessThan(1900);
    expect(await texts(onJetStream(pool))).toEqual(["a"]);
  } finally {
    await silent.close();
  }
});

test("accepts an answer that comes after the commit was sent again", async () => {
  const slow = await openBus(streams.broker.url, "test");
  const request = slow.nc.request.bind(slow.nc);
  const answers: (() => void)[] = [];
  slow.nc.request = async (subject, ...rest) => {
    const reply = await request(subject, ...rest);
    await new Promise<void>((resolve) => {
      answers.push(resolve);
      if (answers.length === 2) answers[0]!(); // It was pushed.
    });
    return reply;
  };
  try {
    const pool = newPool();
    const seq = await onJetStream(pool, slow).append({ id: "a", bytes: bytes("a"), afterSeq: 0 });
    const stored = await storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject(pool) });
    expect(seq).toEqual({ seq: stored?.seq });
  } finally {
    await slow.close();
  }
});

test("does not take a read that is behind for damage, and looks again", async () => {
  const behind = await openBus(streams.broker.url, "test");
  try {
    const pool = newPool();
    await onJetStream(pool).append({ id: "a", bytes: bytes("a"), afterSeq: 0 });
    const b = (await onJetStream(pool).append({
      id: "b",
      bytes: bytes("b"),
      afterSeq: (await onJetStream(pool).head()).seq,
    })) as { seq: number };
    // As from a server that was cut off before the last commit. It refuses, and its ledger ends earlier.
    const request = behind.nc.request.bind(behind.nc);
    const said: string[] = [];
    behind.nc.request = async (subject, payload, options) => {
      const reply = await request(subject, payload, options);
      const isBehind = said.filter((each) => each === subject).length < 2;
      said.push(subject);
      if (!isBehind) return reply;
      const answer = subject.includes("MSG.GET")
        ? { message: { subject, seq: b.seq - 1, time: "2026-01-01T00:00:00Z" } }
        : { error: { err_code: 10071 } };
      return { ...reply, string: () => JSON.stringify(answer) };
    };
    const appended = await onJetStream(pool, behind).append({ id: "c", bytes: bytes("c"), afterSeq: b.seq });
    expect(appended).toEqual({ seq: expect.any(Number) });
    expect(await texts(onJetStream(pool))).toEqual(["a", "b", "c"]);
  } finally {
    await behind.close();
  }
});

test("ends an append without a result when the ledger is closed", async () => {
  const link = await startRelay(streams.broker);
  const through = await openBus(link.urlOf(streams.broker.url), "test");
  link.newOnes("ended");
  link.cut();
  const appending = onJetStream(newPool(), through).append({ id: "a", bytes: bytes("a"), afterSeq: 0 });
  appending.catch(() => {});
  await through.close();
  await expect(appending).rejects.toMatchObject({
    code: expect.stringMatching(/step-down|retry-later/),
  } satisfies Partial<Record<keyof Fault, unknown>>);
  await link.close();
});

test("reports no doubt about a commit once its append has failed", async () => {
  const nc = {
    isClosed: () => true,
    request: () => Promise.reject(new Error("closed")),
  };
  const whenDown = () => ({ promise: new Promise(() => {}), cancel: () => {} });
  const closed = { nc, up: true, whenDown } as unknown as Bus;
  const doubts: string[] = [];
  const given = { bus: closed, stream: ledgerStream, subject: ledgerSubject(newPool()) };
  const ledger = new JetStreamLedger({ ...given, onDoubt: (why) => doubts.push(why) });
  const appended = ledger.append({ id: "a", bytes: bytes("a"), afterSeq: 0 });
  await expect(appended).rejects.toMatchObject({ code: "step-down" });
  await new Promise((resolve) => setTimeout(resolve, 400)); // Longer than an attempt waits for its answer.
  expect(doubts).toEqual([]);
});

test("refuses a stream with other settings, and names them", async () => {
  const settings = { name: "OTHER", fixed: { subjects: ["other.*"], storage: "file", discard: "new" }, initial: {} };
  await callJs(bus, "STREAM.CREATE.OTHER", { name: "OTHER", subjects: ["other.*"], storage: "memory", discard: "new" });
  await expect(ensureStream(bus, settings)).rejects.toThrow(/OTHER has storage "memory", and Remuda needs "file"/);
});

test("waits for a cluster that is still forming, and does not mistake it for a wrong set-up", async () => {
  const settings = { name: "FORMED", fixed: { subjects: ["formed.*"], storage: "file" }, initial: {} };
  const forming = await openBus(streams.broker.url, "test");
  try {
    const { request } = forming.nc;
    Object.defineProperty(forming.nc, "info", { value: { ...forming.nc.info, cluster: "three" } });
    const errors = [10008, 10009, 10005];
    forming.nc.request = async (...asked) => {
      const reply = await request.apply(forming.nc, asked);
      // While there is no leader, the stream's info is not there either. Later the stream cannot be placed.
      const number = asked[0].includes("STREAM.CREATE") || errors.length > 1 ? errors.shift() : undefined;
      return number === undefined ? reply : { ...reply, string: () => JSON.stringify({ error: { err_code: number } }) };
    };
    const ensure = () => ensureStream(forming, settings);
    await expect(whenFormed(forming, ensure, 0)).rejects.toMatchObject({
      code: "retry-later",
      message: expect.stringContaining("The NATS cluster has not formed"),
    });
    expect(await whenFormed(forming, ensure)).toMatchObject({ config: { name: "FORMED" } });
    expect(errors).toEqual([]);
  } finally {
    await forming.close();
  }
});

test("ends a read whose last message is purged meanwhile", async () => {
  const pool = newPool();
  const ledger = onJetStream(pool);
  let seq = 0;
  for (const text of ["one", "two", "three"])
    ({ seq } = (await ledger.append({ id: text, bytes: bytes(text), afterSeq: seq })) as { seq: number });
  const purging = await openBus(streams.broker.url, "test");
  try {
    const { publish } = purging.nc;
    // After the read has learned where the ledger ends, and before it reads.
    purging.nc.publish = (...said) => {
      const purged = callJs(bus, `STREAM.PURGE.${ledgerStream}`, { filter: ledgerSubject(pool), keep: 0 });
      void purged.then(() => publish.apply(purging.nc, said));
    };
    expect(await texts(onJetStream(pool, purging))).toEqual([]);
  } finally {
    await purging.close();
  }
});

test("keeps everything in the ledger's stream, on disk, and fails closed when full", async () => {
  const { config } = await callJs<{ config: Record<string, unknown> }>(bus, `STREAM.INFO.${ledgerStream}`);
  expect(config).toMatchObject({
    subjects: [ledgerSubjects],
    storage: "file",
    discard: "new",
    deny_delete: true,
    compression: "none",
  });
  const pool = newPool();
  await onJetStream(pool).append({ id: "x", bytes: bytes("x"), afterSeq: 0 });
  const stored = await storedMessage(bus, ledgerStream, { last_by_subj: ledgerSubject(pool) });
  expect(stored?.header(commitHeader)).toBe("x");
});

test("does not send a commit above the broker's max_payload, names both numbers, and stores it once it fits", async () => {
  let max_payload = 60_000;
  const info = { get: () => ({ ...bus.nc.info, max_payload }) };
  const nc = Object.create(bus.nc, { info });
  const small = Object.create(bus, { nc: { value: nc } }) as Bus;
  const pool = newPool();
  const doubts: string[] = [];
  const { stream, subject } = { stream: ledgerStream, subject: ledgerSubject(pool) };
  const ledger = new JetStreamLedger({ bus: small, stream, subject, onDoubt: (why) => void doubts.push(why) });
  const large = bytes("x".repeat(60_000));
  const appending = ledger.append({ id: "large", bytes: large, afterSeq: 0 });
  await eventually(() => expect(doubts.length).toBeGreaterThan(2));
  expect(doubts[0]).toMatch(/at most 60000 bytes, and Remuda needs 60512\. Set max_payload: 4MB/);
  expect(await storedMessage(bus, stream, { last_by_subj: subject })).toBeUndefined();
  expect(await ledger.head()).toMatchObject({ seq: 0 }); // Smaller messages go on.
  const needed = neededStreams({ ledger: small, follower: small }, { ledgerBytesMax: 2 ** 20 });
  await expect(ensureStreams(needed)).rejects.toMatchObject({
    code: "fix-setup",
    message: expect.stringMatching(/at most 60000 bytes, and Remuda needs 1048576\. Set max_payload/),
  });
  max_payload = 4 * 2 ** 20;
  expect(await appending).toHaveProperty("seq");
});
