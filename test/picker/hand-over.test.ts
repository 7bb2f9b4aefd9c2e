// A planned change of leader between two pickers of one process, under requests of clients that repeat nothing.
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { requestSubject } from "../../protocol/subjects.ts";
import type { Verb } from "../../protocol/verbs.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { JetStreamLedger } from "../../runtime/ledger-jetstream.ts";
import { Picker } from "../../services/picker/picker.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { pickerOptions } from "../kit/picker.ts";
import { eventually } from "../kit/poll.ts";

type Reply = { leaseId?: string; code?: string; leader?: { id: string; term: number }; [field: string]: unknown };

let broker: TestBroker;
let client: Bus;

beforeAll(async () => {
  broker = await startTestBroker();
  client = await openBus(broker.url, "client");
});
afterAll(async () => {
  await client?.close();
  await broker?.stop();
});

async function startPicker(open: string[]): Promise<Picker & { die(): Promise<void> }> {
  const [ledger, front, follower, peers] = await Promise.all(
    ["ledger", "front", "follower", "peers"].map((name) => openBus(broker.url, name)),
  );
  const buses = { ledger: ledger!, front: front!, follower: follower!, peers: peers! };
  const picker = new Picker(pickerOptions(buses));
  onTestFinished(async () => {
    await picker.stop();
    await Promise.all(Object.values(buses).map((bus) => bus.close()));
  });
  await picker.start({ open });
  // As by kill -9: its connections end, and it cannot say anything.
  const die = async (): Promise<void> => void (await Promise.all(Object.values(buses).map((bus) => bus.close())));
  return Object.assign(picker, { die });
}

async function ask(verb: Verb, pool: string, body: object = {}, timeout = 5000): Promise<Reply> {
  return (await client.nc.request(requestSubject(verb, pool), JSON.stringify(body), { timeout })).json<Reply>();
}

/** A pool with a proxy that one request at a time may have, and one that is always free. */
async function openPool(pool: string): Promise<void> {
  await ask("pool.policy", pool, { policy: { rate: null, concurrency: null, usage: null } });
  const rare = { url: "http://u:secret@192.0.2.1:80", labels: { kind: "rare" }, limits: { concurrency: 1 } };
  await ask("proxies.add", pool, { proxies: [rare, { url: "http://192.0.2.2:80", labels: { kind: "common" } }] });
}

const rare = { labels: { kind: "rare" }, waitMs: 60_000 };
const waits = (pool: string, count: number): Promise<void> =>
  eventually(async () => expect((await ask("pool.stats", pool))["waiting"]).toBe(count));

/** Sends requests without waiting for answers, half of them with an inbox of their own, until it is stopped. */
function probe(pool: string) {
  const answers = new Map<string, Reply[]>();
  let sent = 0;
  let isOver = false;
  const subscription = client.nc.subscribe("_INBOX.probe.>", {
    callback: (_error, message) => {
      const reply = message.headers?.status === "No Responders" ? { code: "no-responders" } : message.json<Reply>();
      const key = message.subject.endsWith(".shared") ? String(reply["requestId"]) : message.subject;
      answers.set(key, [...(answers.get(key) ?? []), reply]);
    },
  });
  const run = async (): Promise<void> => {
    while (!isOver) {
      const requestId = `${pool}-request-${String(sent).padStart(8, "0")}`;
      const reply = sent % 2 === 0 ? `_INBOX.probe.${pool}.${sent}` : `_INBOX.probe.${pool}.shared`;
      const body = { labels: { kind: "common" }, ...(sent % 2 === 0 ? {} : { requestId }) };
      client.nc.publish(requestSubject("lease", pool), JSON.stringify(body), { reply });
      sent++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  const running = run();
  return {
    answers,
    sent: () => sent,
    async stop(): Promise<void> {
      isOver = true;
      await running;
      await eventually(() => expect(answers.size).toBe(sent));
      subscription.unsubscribe();
    },
  };
}

// First, because the pickers of later tests lead the pools of earlier ones, too.
test("takes over from a leader that dies, and reads nothing of the ledger that it has read before", async () => {
  const first = await startPicker(["dies"]);
  await openPool("dies");
  const last = Number((await ask("pool.stats", "dies"))["sequence"]);
  const read = vi.spyOn(JetStreamLedger.prototype, "read");
  onTestFinished(() => read.mockRestore());
  const second = await startPicker([]);
  // It has read the last commit, and reads on.
  const readAfter = (): number[] => read.mock.calls.map(([afterSeq]) => afterSeq);
  await eventually(() => expect(readAfter()).toContain(last));
  read.mockClear();
  await first.die();
  await eventually(async () => expect((await ask("pool.stats", "dies")).leader?.id).toBe(second.id));
  expect(readAfter()).not.toContain(0);
  expect(await ask("lease", "dies", rare)).toMatchObject({ password: "secret" });
}, 30_000);

test("hands a pool over: each request has one answer, none is refused, and those that wait keep their order", async () => {
  const first = await startPicker(["moves"]);
  await openPool("moves");
  const second = await startPicker([]);
  const before = await ask("pool.stats", "moves");
  expect(before.leader?.id).toBe(first.id);
  const { leaseId } = await ask("lease", "moves", rare);
  const asked = [];
  for (const count of [1, 2]) {
    asked.push(ask("lease", "moves", rare, 60_000));
    await waits("moves", count);
  }
  const prober = probe("moves");
  await eventually(() => expect(prober.answers.size).toBeGreaterThan(20));
  let isOver = false;
  const looks: Reply[] = [];
  const looking = (async () => {
    while (!isOver) looks.push(await ask("pool.get", "moves"));
  })();
  await first.stop();
  const after = await ask("pool.stats", "moves");
  expect(after.leader).toEqual({ id: second.id, term: Number(before.leader?.term) + 1 });
  const soFar = prober.answers.size;
  await eventually(() => expect(prober.answers.size).toBeGreaterThan(soFar + 20));
  isOver = true;
  await Promise.all([prober.stop(), looking]);
  expect([...prober.answers.values()].flat().filter((reply) => reply.leaseId === undefined)).toEqual([]);
  expect(prober.answers.size).toBe([...prober.answers.values()].flat().length);
  expect(looks.filter(({ code }) => code !== undefined)).toEqual([]);
  // Nothing was granted twice.
  expect((await ask("pool.stats", "moves"))["leases"]).toMatchObject({ granted: prober.sent() + 1 });
  expect(after["waiting"]).toBe(2);
  await ask("release", "moves", { leaseId, used: 0 });
  const next = await asked[0]!;
  expect(next).toMatchObject({ password: "secret", leaseId: expect.any(String) });
  await ask("release", "moves", { leaseId: next.leaseId, used: 0 });
  expect(await asked[1]).toMatchObject({ password: "secret" });
}, 30_000);

test("answers all requests when no other picker runs, and refuses those that wait", async () => {
  const lone = await startPicker(["ends"]);
  await openPool("ends");
  await ask("lease", "ends", rare);
  const waiting = ask("lease", "ends", rare, 60_000);
  await waits("ends", 1);
  const asked = Array.from({ length: 20 }, () => ask("lease", "ends", { labels: { kind: "common" } }));
  await client.nc.flush();
  await lone.stop();
  expect(await waiting).toMatchObject({ code: "unavailable", retryAfterMs: 1000 });
  for (const reply of await Promise.all(asked)) expect(reply.leaseId).toBeDefined();
}, 30_000);
