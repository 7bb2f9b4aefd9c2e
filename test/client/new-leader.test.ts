// A client over NATS hears of a new leader, and repeats the requests that the old one has not answered.
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { askThrough } from "../../client/ask.ts";
import { connect } from "../../client/client.ts";
import { Broken, type Port } from "../../client/port.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { connectRaw, type RawMessage, type RawNats } from "../kit/raw-nats.ts";

let broker: TestBroker;
let leader: RawNats;

beforeAll(async () => {
  broker = await startTestBroker();
  leader = await connectRaw(broker.url);
});

afterAll(async () => {
  await leader?.close();
  await broker?.stop();
});

/** A leader that the test lets answer. */
async function leaderOf(pool: string) {
  const requests: (RawMessage & { id: string })[] = [];
  leader.subscribe(`remuda.lease.${pool}`, (message) => {
    requests.push({ ...message, id: message.json<{ requestId: string }>().requestId });
  });
  await leader.flush();
  const client = await connect({ url: broker.url, pool });
  const lease = client.lease();
  await eventually(() => expect(requests).toHaveLength(1));
  const notice = (body: string): void => leader.publish(`remuda.notice.${pool}`, body);
  const answer = (): void =>
    leader.publish(String(requests.at(-1)?.reply), JSON.stringify({ leaseId: "l_1", leftMs: 60_000, uses: 1 }));
  return { requests, client, lease, notice, answer };
}

test("repeats an unanswered lease request under its requestId when it hears of a new term", async () => {
  const { requests, client, lease, notice, answer } = await leaderOf("moved");
  notice('{"leader":"second","term":2}');
  await eventually(() => expect(requests).toHaveLength(2), { timeoutMs: 3000 });
  expect(requests[1]?.id).toBe(requests[0]?.id);
  answer();
  expect(await lease).toMatchObject({ leaseId: "l_1" });
  await client.close();
});

test("repeats nothing for a term that it knows, for another pool, or for a message that is not a notice", async () => {
  const { requests, client, lease, notice, answer } = await leaderOf("calm");
  notice('{"leader":"second","term":2}');
  await eventually(() => expect(requests).toHaveLength(2), { timeoutMs: 3000 });
  for (const body of ['{"leader":"second","term":2}', '{"leader":"first","term":1}', "garbage", "null", "{}"])
    notice(body);
  leader.publish("remuda.notice.other", '{"leader":"second","term":9}');
  await leader.flush();
  answer();
  expect(await lease).toMatchObject({ leaseId: "l_1" });
  expect(requests).toHaveLength(2);
  await client.close();
});

test("ends a pause, and sends the request at once, when it hears of a new leader", async () => {
  vi.useFakeTimers(); // So no pause ends by itself.
  onTestFinished(() => void vi.useRealTimers());
  let tell = (): void => {};
  const attempts: string[] = [];
  const port: Port = {
    bytesMax: 1000,
    async attempt({ verb }) {
      attempts.push(verb);
      if (attempts.length === 1) throw new Broken("no-leader", "No service answers.");
      if (attempts.length === 2) throw new Broken("new-leader", "The pool has a new leader.");
      return { leaseId: "l_1" };
    },
    onNewLeader(_pool, callback) {
      tell = callback;
      return () => {};
    },
    cancel: async () => {},
    close: async () => {},
  };
  const ask = askThrough(port, { retryMs: 10_000, isClosed: () => false, track: () => {} });
  const asked = ask({ verb: "renew", pool: "shop", body: {} });
  await vi.advanceTimersByTimeAsync(0);
  expect(attempts).toHaveLength(1);
  tell();
  expect(await asked).toEqual({ leaseId: "l_1" });
  expect(attempts).toHaveLength(3);
});
