// The successor of a leader, beside a leader that is late, and connections that go down.
import type { Msg, Subscription } from "@nats-io/transport-node";
import { expect, onTestFinished, test, vi } from "vitest";
import { Gate } from "../../services/picker/gate.ts";
import { handOver, inherit, Successor } from "../../services/picker/hand-over.ts";
import type { Prepared } from "../../services/picker/serving.ts";

/** A successor that is asked by a leader of the test. */
function successorOn(subscribe: () => Promise<void>) {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  let hear: ((error: Error | null, message: Msg) => void) | undefined;
  const nc = {
    subscribe(_subject: string, { callback }: { callback: typeof hear }): Pick<Subscription, "unsubscribe"> {
      hear = callback;
      return {
        unsubscribe() {
          hear = undefined;
        },
      };
    },
    flush: async () => {},
  };
  const given = { id: "picker-b", bus: { nc } as never, pool: "default", respond: () => {} };
  const readOn = Promise.withResolvers<void>();
  const gate = { subscribe, clear: vi.fn(), drop: vi.fn() };
  const prepared = { gate, readOn: () => readOn.promise, finish: async () => ({}) };
  const { signal } = new AbortController();
  const inheriting = inherit(prepared as unknown as Prepared, { successor: new Successor(given), signal });
  /** Whether the successor answers. */
  const told = async (body: object): Promise<boolean> => {
    const respond = vi.fn();
    hear?.(null, { reply: "_INBOX.a", json: () => body, respond } as never);
    await vi.advanceTimersByTimeAsync(1);
    return respond.mock.calls.length > 0;
  };
  return { inheriting, told, readOn: readOn.resolve };
}

test("does not accept an estate that comes too late, while it reads the ledger", async () => {
  const { inheriting, told, readOn } = successorOn(async () => {});
  await vi.advanceTimersByTimeAsync(1);
  expect(await told({ queue: true })).toBe(true);
  await vi.advanceTimersByTimeAsync(5000);
  expect(await told({ isLast: true })).toBe(false);
  readOn();
  expect(await inheriting).toEqual({});
});

test("gives the leader no answer if it cannot hear the pool's clients, and takes no estate", async () => {
  const { inheriting, told, readOn } = successorOn(() => Promise.reject(new Error("connection disconnected")));
  await vi.advanceTimersByTimeAsync(1);
  expect(await told({ queue: true })).toBe(false);
  await vi.advanceTimersByTimeAsync(5000);
  readOn();
  expect(await inheriting).toEqual({});
});

test("a gate whose connection went down while it subscribed can be subscribed again", async () => {
  const flush = vi.fn(() => Promise.resolve());
  flush.mockRejectedValueOnce(new Error("connection disconnected"));
  const serve = vi.fn(() => ({ unsubscribe() {} }) as Subscription);
  const gate = new Gate({ pool: "default", responder: { serve }, front: { nc: { flush } } as never });
  await expect(gate.subscribe()).rejects.toThrow("disconnected");
  const subjects = serve.mock.calls.length;
  await gate.subscribe();
  expect(serve).toHaveBeenCalledTimes(subjects);
});

test("a gate has room again once it has dropped what the last leader took", async () => {
  const gateOf = () => {
    const served: { admits: (unread: object) => boolean; handle: (asked: object) => unknown }[] = [];
    const serve = ({ admits }: object & { admits?: unknown }, handle: unknown): Subscription => {
      served.push({ admits, handle } as never);
      return { unsubscribe() {}, drain: async () => {} } as Subscription;
    };
    const whenDown = () => ({ promise: new Promise(() => {}), cancel() {} });
    const front = { nc: { flush: async () => {} }, whenDown } as never;
    return { gate: new Gate({ pool: "default", responder: { serve }, front }), served: () => served[0]! };
  };
  const [leader, successor] = [gateOf(), gateOf()];
  await Promise.all([leader.gate.subscribe(), successor.gate.subscribe()]);
  const large = { inbox: "_INBOX.a", body: {}, bytes: 20 * 1024 ** 2, header: () => undefined, respond: () => {} };
  leader.gate.note();
  void leader.served().handle(large);
  void successor.served().handle(large);
  expect(successor.served().admits(large)).toBe(false);
  successor.gate.drop(await leader.gate.shut());
  expect(successor.served().admits(large)).toBe(true);
});

test.each([
  ["refuses the waiting requests if there is no successor", true],
  ["says nothing once another picker has claimed the pool", false],
] as const)("a leader that leaves %s", async (_what, leads) => {
  const respond = vi.fn();
  const waiting = { all: () => [{ request: {}, copies: [{ respond }], cancelled: 0 }] };
  const engine = { waiting, tokenWaiters: { all: () => [] } };
  const leader = { leads, isSure: true, engine, now: () => 0, finish: async () => {} };
  const gate = { note() {}, shut: async () => [], unanswered: 0 };
  const nc = { request: () => Promise.reject(new Error("no responders")) };
  const bus = { up: true, nc, whenDown: () => ({ promise: new Promise(() => {}), cancel() {} }) };
  const served = { pool: "shop", leader, gate } as unknown as Parameters<typeof handOver>[0];
  await handOver(served, { id: "picker-a", bus: bus as never, shut: async () => {} });
  expect(respond).toHaveBeenCalledTimes(leads ? 1 : 0);
});
