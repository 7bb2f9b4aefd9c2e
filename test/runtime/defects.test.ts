// Failures because of bugs: how they are logged and counted, how a responder answers, and when a part starts again.
import type { Msg, NatsConnection } from "@nats-io/transport-node";
import { pino } from "pino";
import { expect, test } from "vitest";
import { overNats } from "../../protocol/over-nats.ts";
import { Defects } from "../../runtime/defects.ts";
import { type Handle, Responder } from "../../runtime/responder.ts";
import { Restarts } from "../../runtime/restarts.ts";
import { HandClock } from "../kit/hand-clock.ts";

function recording() {
  const lines: { err?: { stack: string }; why?: string }[] = [];
  const log = pino({ level: "error" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { lines, log, defects: new Defects(log) };
}

test("shows the stack of a bug once, and counts every failure", () => {
  const { lines, defects } = recording();
  const bug = new TypeError("planted");
  defects.note("pool", bug, { pool: "shop" });
  defects.note("pool", bug, { pool: "other" });
  defects.note("source", new TypeError("another"), { source: "site" });
  expect(lines).toMatchObject([
    { part: "pool", pool: "shop", err: { message: "planted", stack: expect.stringContaining("defects.test.ts") } },
    { part: "pool", pool: "other", why: "planted" },
    { part: "source", source: "site", err: { message: "another" } },
  ]);
  expect(lines[1]).not.toHaveProperty("err");
  expect(defects.counts).toEqual({ pool: 2, source: 1 });
  expect([defects.ofPool("shop"), defects.ofPool("other"), defects.ofPool("third")]).toEqual([1, 1, 0]);
});

test("restarts a part after longer and longer pauses, and soon if it has run well", () => {
  const clock = new HandClock();
  const restarts = new Restarts(clock);
  const pauses = Array.from({ length: 11 }, () => restarts.pauseMs());
  expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
  clock.move(120_000);
  expect(restarts.pauseMs()).toBe(30_000);
  clock.move(120_001);
  expect(restarts.pauseMs()).toBe(100);
});

test.each<[string, Handle]>([
  [
    "at once",
    () => {
      throw new TypeError("planted");
    },
  ],
  ["later", () => Promise.reject(new TypeError("planted"))],
])("answers a request whose answering fails %s because of a bug", async (_when, handle) => {
  const { lines, log, defects } = recording();
  let callback: ((error: Error | null, message: Msg) => void) | undefined;
  const { promise: answered, resolve } = Promise.withResolvers<unknown>();
  const nc = {
    publish: (_inbox: string, body: string) => resolve(JSON.parse(body)),
    subscribe: (_subject: string, given: { callback: typeof callback }) => {
      callback = given.callback;
    },
  } as unknown as NatsConnection; // A responder uses no more of it.
  new Responder(nc, overNats, log, { defects }).serve({ name: "pool.list", subject: "remuda.pool.list.all" }, handle);
  const message = { subject: "remuda.pool.list.all", reply: "_INBOX.ann.1", data: Buffer.from("{}") };
  callback?.(null, message as unknown as Msg); // Likewise.
  expect(await answered).toMatchObject({
    code: "unavailable",
    retryAfterMs: 1000,
    message: expect.stringContaining("bug"),
  });
  expect(defects.counts).toEqual({ request: 1 });
  expect(lines).toMatchObject([{ part: "request", verb: "pool.list", err: { message: "planted" } }]);
});
