// The HTTP service rides out a change of leader. NATS is a stand-in whose answers the test gives.
import { setImmediate, setTimeout } from "node:timers/promises";
import { NoRespondersError, RequestError } from "@nats-io/transport-node";
import { expect, test } from "vitest";
import type { Bus } from "../../runtime/bus.ts";
import { type Asked, askOver } from "../../services/api/ask.ts";
import { Notices } from "../../services/api/notices.ts";
import { eventually } from "../kit/poll.ts";

interface Sent {
  subject: string;
  body: Record<string, unknown>;
  answer(body: object): void;
  noResponders(): void;
}

function service() {
  const sent: Sent[] = [];
  let hear = (_error: null, _message: object): void => {};
  const never = new Promise<never>(() => {});
  const nc = {
    request: (subject: string, text: string) =>
      new Promise((resolve, reject) => {
        sent.push({
          ...{ subject, body: JSON.parse(text) },
          answer: (body) => resolve({ data: Buffer.from(JSON.stringify(body)) }),
          noResponders: () => reject(new RequestError("", { cause: new NoRespondersError(subject) })),
        });
      }),
    subscribe(_subject: string, { callback }: { callback: typeof hear }) {
      hear = callback;
    },
  };
  const bus = { nc, up: true, whenDown: () => ({ promise: never, cancel: () => {} }) } as unknown as Bus;
  const ledgers = { isOpen: async (pool: string) => pool === "shop" };
  const asking = askOver(bus, ledgers, new Notices(bus))(undefined);
  const notice = (pool: string, term: number): void =>
    hear(null, { subject: `remuda.notice.${pool}`, string: () => JSON.stringify({ leader: "next", term }) });
  const ask = async (asked: Partial<Asked>): Promise<object> => {
    const answer = await asking({ verb: "lease", pool: "shop", ...asked });
    return "refusal" in answer ? answer.refusal : JSON.parse(answer.bytes.toString());
  };
  return { sent, notice, ask };
}

test("sends a request without an answer to the new leader at once, with the time that it may still wait", async () => {
  const { sent, notice, ask } = service();
  const body = { requestId: "a-request-0000000001", waitMs: 30_000 };
  const asked = ask({ body, waitMs: 30_000 });
  expect(sent).toHaveLength(1);
  await setTimeout(5);
  notice("shop", 2);
  await eventually(() => expect(sent).toHaveLength(2));
  expect(sent[1]?.body["requestId"]).toBe(body.requestId);
  expect(sent[1]?.body["waitMs"]).toBeLessThan(30_000);
  sent[1]?.answer({ leaseId: "l_1" });
  expect(await asked).toEqual({ leaseId: "l_1" });
});

test("repeats nothing for a term that it knows, for another pool, or for a verb that any picker answers", async () => {
  const { sent, notice, ask } = service();
  notice("shop", 2);
  const asked = [ask({ verb: "renew" }), ask({ verb: "pool.get" })];
  for (const [pool, term] of [
    ["shop", 2],
    ["other", 9],
  ] as const)
    notice(pool, term);
  await setImmediate();
  expect(sent).toHaveLength(2);
  notice("shop", 3);
  await eventually(() => expect(sent).toHaveLength(3));
  expect(sent.map(({ subject }) => subject)).toEqual([
    "remuda.renew.shop",
    "remuda.pool.get.shop",
    "remuda.renew.shop",
  ]);
  for (const { answer } of sent) answer({});
  expect(await Promise.all(asked)).toEqual([{}, {}]);
});

test("sends a request again until the pool has a leader, and not if the pool is closed", async () => {
  const { sent, ask } = service();
  const closed = ask({ pool: "closed" });
  sent[0]?.noResponders();
  expect(await closed).toMatchObject({ code: "unknown-pool" });
  const open = ask({ verb: "release", body: { leaseId: "l_1" } });
  sent[1]?.noResponders();
  await eventually(() => expect(sent).toHaveLength(3));
  sent[2]?.answer({ leaseId: "l_1" });
  expect(await open).toEqual({ leaseId: "l_1" });
});

test("refuses a request at once if it is too large to be kept until there is a new leader", async () => {
  const { sent, notice, ask } = service();
  const asked = ask({ body: { requestId: "a-request-0000000001", padding: "x".repeat(5000) }, waitMs: 30_000 });
  notice("shop", 2);
  expect(await asked).toMatchObject({ code: "unavailable", retryAfterMs: 1000 });
  expect(sent).toHaveLength(1);
});
