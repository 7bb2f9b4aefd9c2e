// The executor against a real broker, with the test as the leader: what it requests, how often, and until when.

import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { Defects } from "../../runtime/defects.ts";
import { Executor, type ExecutorPorts } from "../../services/guest-token/executor.ts";
import { startTestBroker } from "../kit/broker.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { type GuestSite, startGuestSite } from "../kit/guest-site.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { eventually } from "../kit/poll.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

const deadlineMs = 60_000;

let broker: Awaited<ReturnType<typeof startTestBroker>>;
let nats: RawNats;
let site: GuestSite;
let proxy: ForwardProxy;
let buses: { requests: Bus; events: Bus };
const executors: Executor[] = [];
const lines: string[] = [];
const log = pino({ level: "debug" }, { write: (line: string) => void lines.push(line) });

beforeAll(async () => {
  broker = await startTestBroker();
  nats = await connectRaw(broker.url);
  site = await startGuestSite();
  proxy = await startForwardProxy({ exit: "127.0.0.92" });
  buses = { requests: await openBus(broker.url, "requests"), events: await openBus(broker.url, "events") };
  const stream = { name: "REMUDA_LEDGER", subjects: ["remuda.ledger.>"], storage: "memory" };
  await nats.request("$JS.API.STREAM.CREATE.REMUDA_LEDGER", JSON.stringify(stream));
  nats.subscribe("remuda.pool.list.all", ({ reply }) => {
    const pools = [...listed].map((pool) => ({ pool, policy: { token: { deadlineMs } } }));
    nats.publish(reply ?? "", JSON.stringify({ pools: [...pools, { pool: "without", policy: { token: null } }] }));
    looks++;
  });
}, 180_000);

afterEach(() => {
  vi.useRealTimers();
  for (const executor of executors.splice(0)) void executor.stop();
  listed.clear();
});

afterAll(async () => {
  await Promise.all([buses?.requests.close(), buses?.events.close(), nats?.close()]);
  await Promise.all([broker, site, proxy].map((each) => each?.stop()));
});

const listed = new Set<string>();
let looks = 0;
let names = 0;

/** A pool whose leader records each take, and has no work to give. */
function openPool(): { pool: string; taken: { tokenId: string; executor: string }[]; leave: () => void } {
  const pool = `pool-${++names}`;
  const taken: { tokenId: string; executor: string }[] = [];
  listed.add(pool);
  const leave = nats.subscribe(`remuda.token.take.${pool}`, ({ reply, json }) => {
    taken.push(json());
    nats.publish(reply ?? "", "{}");
  });
  return { pool, taken, leave };
}

async function start(ports: ExecutorPorts = { buses, log, outbound: loopbackAllowed }): Promise<Executor> {
  const executor = new Executor(ports);
  executors.push(executor);
  await executor.start();
  return executor;
}

/** @param aheadMs how far the pool's time is ahead of the broker's. */
async function requestRefresh(pool: string, tokenId: string, aheadMs = 0): Promise<void> {
  const at = Date.now() + aheadMs;
  const event = { type: "TokenRequested", tokenId, scope: "pool", leaseId: "l", deadlineAt: at + deadlineMs };
  const commit = { v: 2, n: 1, prev: "", term: 1, at, cursor: { seq: 0, at: 0 }, events: [event] };
  await write(pool, JSON.stringify(commit));
}

async function write(pool: string, text: string): Promise<void> {
  await nats.request(`remuda.ledger.${pool}`, text);
}

/** After two more looks, the work begun by the first one is under way. */
async function looked(): Promise<void> {
  const before = looks;
  await eventually(() => expect(looks).toBeGreaterThan(before + 2));
}

test("takes a refresh once, though its ledger is read again", async () => {
  const { pool, taken } = openPool();
  await start();
  await requestRefresh(pool, "t_one");
  await eventually(() => expect(taken).toHaveLength(1));
  // It is missing from the list for a moment. Afterwards its ledger is read from some time before.
  listed.delete(pool);
  await looked();
  listed.add(pool);
  await looked();
  await requestRefresh(pool, "t_two");
  await eventually(() => expect(taken.map(({ tokenId }) => tokenId)).toContain("t_two"));
  expect(taken.map(({ tokenId }) => tokenId)).toEqual(["t_one", "t_two"]);
});

test("takes a refresh that was requested before the executor started, in each executor that asks", async () => {
  const { pool, taken } = openPool();
  await requestRefresh(pool, "t_before");
  const both = await Promise.all([start(), start()]);
  await eventually(() => expect(taken).toHaveLength(2));
  expect(new Set(taken.map(({ executor }) => executor))).toEqual(new Set(both.map(({ id }) => id)));
});

test("repeats its request while the pool has no leader, and takes the refresh once it has one", async () => {
  const { pool, taken, leave } = openPool();
  leave();
  await start();
  await requestRefresh(pool, "t_orphan");
  await looked();
  let asked = 0;
  const end = nats.subscribe(`remuda.token.take.${pool}`, ({ reply }) => {
    asked++;
    const starting = { code: "unavailable", message: "The leader is starting.", retryAfterMs: 10 };
    nats.publish(reply ?? "", JSON.stringify(asked < 3 ? starting : {}));
  });
  await eventually(() => expect(asked).toBe(3));
  await looked();
  expect(asked).toBe(3);
  expect(taken).toEqual([]);
  end();
});

test("skips a commit that cannot be read, says so, and goes on following its pool", async () => {
  const { pool, taken } = openPool();
  await start();
  await write(pool, '{"v": 99, "events": "TokenRequested", "type":"TokenRequested"}');
  await eventually(() => expect(lines.join("")).toContain("cannot be read"));
  await requestRefresh(pool, "t_after");
  await eventually(() => expect(taken.map(({ tokenId }) => tokenId)).toEqual(["t_after"]));
  expect(lines.filter((line) => line.includes("cannot be read"))).toHaveLength(1);
});

test("continues after the commit that showed a bug, and counts the bug", async () => {
  const { pool, taken } = openPool();
  const defects = new Defects(log);
  let isPlanted = true;
  await start({
    ...{ buses, log, defects },
    get outbound() {
      if (isPlanted) throw new TypeError("planted");
      return loopbackAllowed;
    },
  });
  await requestRefresh(pool, "t_breaks");
  await eventually(() => expect(defects.counts).toEqual({ executor: 1 }));
  isPlanted = false;
  await requestRefresh(pool, "t_after");
  await eventually(() => expect(taken.map(({ tokenId }) => tokenId)).toContain("t_after"));
  expect(defects.counts).toEqual({ executor: 1 });
});

test.each([
  ["an hour ahead", 3_600_000],
  ["an hour behind", -3_600_000],
])(
  "takes the right refreshes, and repeats its request while there is no leader, with a clock %s",
  async (_title, offMs) => {
    const { pool, taken, leave } = openPool();
    await requestRefresh(pool, "t_skewed");
    leave();
    const real = Date.now();
    vi.useFakeTimers({ toFake: ["Date"], now: real + offMs });
    await start();
    await looked();
    nats.subscribe(`remuda.token.take.${pool}`, ({ reply, json }) => {
      taken.push(json());
      nats.publish(reply ?? "", "{}");
    });
    await eventually(() => expect(taken.map(({ tokenId }) => tokenId)).toEqual(["t_skewed"]));
  },
);

test.each([
  ["behind the broker's, as a leader's is that has slept", -3_600_000],
  ["ahead of it", 3_600_000],
])("takes the refreshes of a pool whose time is an hour %s, before and after it starts", async (_title, aheadMs) => {
  const { pool, taken } = openPool();
  await requestRefresh(pool, "t_before", aheadMs);
  await start();
  await eventually(() => expect(taken.map(({ tokenId }) => tokenId)).toEqual(["t_before"]));
  await requestRefresh(pool, "t_since", aheadMs);
  await eventually(() => expect(taken.map(({ tokenId }) => tokenId)).toEqual(["t_before", "t_since"]));
});

describe("an executor that is stopped in the middle of a refresh", () => {
  /** A pool whose leader gives away a refresh from the site, and records the results. */
  function giving(): { pool: string; brought: { tokenId: string; value?: string }[] } {
    const pool = `pool-${++names}`;
    const brought: { tokenId: string; value?: string }[] = [];
    listed.add(pool);
    const { hostname: host, port } = new URL(proxy.url);
    const source = { method: "POST", url: `${site.url}/guest`, headers: {}, body: null, timeoutMs: 60_000, life: null };
    nats.subscribe(`remuda.token.take.${pool}`, ({ reply, json }) => {
      const { tokenId } = json<{ tokenId: string }>();
      const left = { leftMs: 60_000, deadlineMs: 60_000 };
      const address = { url: proxy.url, scheme: "http", host, port: Number(port) };
      const value = { jsonPointer: "/guest_token" };
      const job = { tokenId, leaseId: "l", proxyId: "p", ...address, ...left, source: { ...source, value } };
      nats.publish(reply ?? "", JSON.stringify(job));
    });
    nats.subscribe(`remuda.token.result.${pool}`, ({ reply, json }) => {
      brought.push(json());
      nats.publish(reply ?? "", '{"accepted":true}');
    });
    return { pool, brought };
  }

  test("brings its token before it ends, because no other executor would fetch it until the deadline", async () => {
    const { pool, brought } = giving();
    site.delayMs = 200;
    const executor = await start();
    await requestRefresh(pool, "t_last");
    await eventually(() => expect(site.fetching).toBe(1), { everyMs: 2 });
    await executor.stop();
    expect(brought).toMatchObject([{ tokenId: "t_last", value: expect.stringMatching(/^secret-guest-/) }]);
    site.delayMs = 0;
  });

  test("does not wait for a site that does not answer", async () => {
    const { pool, brought } = giving();
    let asked = 0;
    site.answer = () => void asked++;
    const executor = await start();
    await requestRefresh(pool, "t_never");
    await eventually(() => expect(asked).toBe(1));
    await executor.stop();
    expect(brought).toEqual([]);
    site.answer = undefined;
  });
});
