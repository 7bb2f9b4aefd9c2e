// A responder and the bytes of its requests.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Msg, NatsConnection } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import { overNats } from "../../protocol/over-nats.ts";
import { Intake } from "../../runtime/intake.ts";
import { openLog } from "../../runtime/log.ts";
import { Responder, type Unread } from "../../runtime/responder.ts";
import { eventually } from "../kit/poll.ts";

function respond(admits?: (unread: Unread) => boolean, bytesMax = 1024 ** 2, intake = new Intake()) {
  const sent: string[] = [];
  const kept: Unread["respond"][] = [];
  let deliver = (_message: Msg): void => {};
  const nc = {
    subscribe(_subject: string, { callback }: { callback: (error: null, message: Msg) => void }) {
      deliver = (message) => callback(null, message);
    },
    info: { max_payload: bytesMax },
    publish(_inbox: string, body: string) {
      if (body.length > bytesMax) throw new Error("too large");
      sent.push(body);
    },
  } as unknown as NatsConnection; // A responder uses no more of it.
  const log = openLog({ level: "info", version: "0", isTerminal: false, write: () => {} })("picker");
  const endpoint = { name: "lease", subject: "remuda.lease.shop", ...(admits === undefined ? {} : { admits }) };
  new Responder(nc, overNats, log, { intake }).serve(endpoint, ({ respond: each }) => void kept.push(each));
  /** Delivers a request, and returns its bytes. */
  const ask = (body: string): WeakRef<Uint8Array> => {
    const data = Buffer.from(body);
    deliver({ subject: "remuda.lease.shop", reply: "_INBOX.alice.1", data } as unknown as Msg); // Likewise.
    return new WeakRef(data);
  };
  return { ask, kept, sent };
}

test("keeps nothing of a large request while it waits for its answer", async () => {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  const { ask, kept, sent } = respond();
  const bytes = ask(JSON.stringify({ waitMs: 60_000, padding: "x".repeat(500_000) }));
  await eventually(() => {
    collect();
    expect(bytes.deref() === undefined).toBe(true);
  });
  kept[0]?.({ leaseId: "l_1" });
  expect(sent).toEqual(['{"leaseId":"l_1"}']);
});

test("asks whether there is room for a request by its size alone, before it reads the request", () => {
  const sizes: number[] = [];
  const { ask, kept, sent } = respond(({ bytes, respond: each }) => {
    sizes.push(bytes);
    each({ code: "overloaded", message: "full" });
    return false;
  });
  ask("not JSON at all");
  expect(sizes).toEqual([15]);
  expect(kept).toEqual([]);
  expect(sent).toEqual(['{"code":"overloaded","message":"full"}']);
});

test.each([
  [4096, "Set max_payload: 4MB in its configuration, and reload it."],
  [1024 ** 2, "Ask for less (limit)."],
])("says what to do about an answer that is larger than the server's %d bytes", (bytesMax, todo) => {
  const { ask, kept, sent } = respond(undefined, bytesMax);
  ask("{}");
  kept[0]?.({ pools: "x".repeat(bytesMax) });
  const message = `The answer is larger than the NATS server accepts (${bytesMax} bytes). ${todo}`;
  expect(sent).toEqual([JSON.stringify({ code: "too-large", message })]);
});

test("rejects a flood unread, without an answer to most of it, and keeps no memory of the messages that wait", async () => {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  let turn = (): void => {};
  const { ask, kept, sent } = respond(
    undefined,
    1024 ** 2,
    new Intake({
      soon(callback) {
        turn = callback;
      },
      after: () => () => {},
      monotonic: () => 0,
    }),
  );
  const messages = Array.from({ length: 7000 }, (_, i) => ask(`{"n":${i}}`));
  expect(kept.length).toBe(500);
  expect(sent.length).toBe(1000);
  expect(JSON.parse(sent[0] ?? "")).toMatchObject({ code: "overloaded", retryAfterMs: 1000 });
  await eventually(() => {
    collect();
    expect(messages.slice(500).every((bytes) => bytes.deref() === undefined)).toBe(true);
  });
  turn();
  expect(kept.length).toBe(1000);
});
