// An installation with many pools, almost all of them closed, as in `npm run bench -- pools`, but smaller. The cost of
// a start and of idling is counted in requests to the broker, which do not depend on the machine.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { callJs } from "../../runtime/jetstream-api.ts";
import { Picker } from "../../services/picker/picker.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { pickerOptions } from "../kit/picker.ts";
import { eventually } from "../kit/poll.ts";

const pools = Array.from({ length: 200 }, (_, i) => `pool-${i}`);
const open = pools.slice(0, 10);

let broker: TestBroker;
let client: Bus;

beforeAll(async () => {
  broker = await startTestBroker();
  client = await openBus(broker.url, "client");
  const { end } = await start();
  await Promise.all(pools.map((pool) => ask("open", pool)));
  await Promise.all(pools.slice(open.length).map((pool) => ask("close", pool)));
  await end();
}, 180_000);
afterAll(async () => {
  await client?.close();
  await broker?.stop();
});

const ask = async (verb: string, pool: string): Promise<{ code?: string; message?: string }> =>
  (await client.nc.request(`remuda.pool.${verb}.${pool}`, "{}", { timeout: 30_000 })).json();

/** A picker on connections that count what is sent over them. */
async function start(poolsMax?: number) {
  const [ledger, front, follower, peers] = await Promise.all(
    ["a", "b", "c", "d"].map((name) => openBus(broker.url, name)),
  );
  const buses = { ledger: ledger!, front: front!, follower: follower!, peers: peers! };
  const picker = new Picker({ ...pickerOptions(buses), ...(poolsMax === undefined ? {} : { poolsMax }) });
  await picker.start({ open: [] });
  const sent = (): number => Object.values(buses).reduce((sum, { nc }) => sum + nc.stats().outMsgs, 0);
  const end = async (): Promise<void> => {
    await picker.stop();
    await Promise.all(Object.values(buses).map((bus) => bus.close()));
  };
  return { sent, end };
}

/** Consumers of all streams, and the subjects to which the broker's clients subscribe. */
async function leftovers(): Promise<number> {
  const { streams } = await callJs<{ streams: { state: { consumer_count: number } }[] }>(client, "STREAM.LIST");
  return streams.reduce((sum, { state }) => sum + state.consumer_count, 0);
}

test("starts with a bounded number of requests per open pool, and closed pools cost one each", async () => {
  const { sent, end } = await start();
  expect(sent()).toBeLessThan(pools.length + open.length * 40 + 100);
  for (const pool of open) expect(await ask("get", pool)).toMatchObject({ pool });
  expect(await ask("get", "pool-150")).toMatchObject({ code: "unknown-pool" });
  expect(await leftovers()).toBe(0);
  await end();
});

test("idles with a few requests a second, however many pools there are", async () => {
  const { sent, end } = await start();
  await sleep(1000); // Requests may still follow a start.
  const before = sent();
  await sleep(4000);
  expect((sent() - before) / 4).toBeLessThan(25);
  await end();
});

test("lists the open pools without a question about closed ones", async () => {
  const { sent, end } = await start();
  const before = sent();
  const { pools: listed } = (await client.nc.request("remuda.pool.list.all", "")).json<{ pools: { pool: string }[] }>();
  expect(listed.map(({ pool }) => pool).sort()).toEqual(open.toSorted());
  expect(sent() - before).toBeLessThan(open.length * 3 + 20);
  await end();
});

test("opens a closed pool again, even one that another picker opens, and closes it again", async () => {
  const [one, two] = [await start(), await start()];
  expect(await ask("open", "pool-199")).toMatchObject({ pool: "pool-199" });
  await one.end();
  await eventually(async () => expect(await ask("get", "pool-199")).toMatchObject({ pool: "pool-199" }), {
    timeoutMs: 15_000,
  });
  expect(await ask("close", "pool-199")).toMatchObject({ pool: "pool-199" });
  expect(await ask("get", "pool-199")).toMatchObject({ code: "unknown-pool" });
  await two.end();
}, 30_000);

test("refuses a pool beyond the bound, and opens known ones", async () => {
  const { end } = await start(pools.length);
  expect(await ask("open", "one-more")).toMatchObject({
    code: "overloaded",
    message: expect.stringContaining("REMUDA_POOLS_MAX"),
  });
  expect(await ask("open", "pool-198")).toMatchObject({ pool: "pool-198" });
  expect(await ask("close", "pool-198")).toMatchObject({ pool: "pool-198" });
  await end();
});
