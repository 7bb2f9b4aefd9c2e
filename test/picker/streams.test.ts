// A picker notices within seconds what happens to its streams, and makes the stream of outcomes again.
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { outcomesMessageBytesMax } from "../../protocol/outcome.ts";
import { ledgerStream, ledgerSubject, outcomesStream, secretsBucket } from "../../protocol/subjects.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { callJs, type StreamInfo, streamInfo } from "../../runtime/jetstream-api.ts";
import { Picker } from "../../services/picker/picker.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { pickerOptions } from "../kit/picker.ts";
import { eventually } from "../kit/poll.ts";

const bucketStream = `KV_${secretsBucket}`;
const bytesMax = 64 * 1024 ** 2;

let broker: TestBroker;
let bus: Bus;
let picker: Picker;
const logged: { level: number; msg: string; stream?: string }[] = [];

beforeAll(async () => {
  broker = await startTestBroker();
  bus = await openBus(broker.url, "test");
});
afterAll(async () => {
  await picker?.stop();
  await bus?.close();
  await broker?.stop();
});

const config = async (stream: string): Promise<StreamInfo["config"]> => (await streamInfo(bus, stream)).config;
const change = async (stream: string, changes: object): Promise<void> =>
  void (await callJs(bus, `STREAM.UPDATE.${stream}`, { ...(await config(stream)), ...changes }));
const ask = async (verb: string, pool: string, body: object = {}): Promise<Record<string, unknown>> =>
  (await bus.nc.request(`remuda.${verb}.${pool}`, JSON.stringify(body), { timeout: 10_000 })).json();
const linesAbout = (stream: string) => logged.filter((line) => line.stream === stream).map(({ msg }) => msg);

async function start(ledgerBytesMax = bytesMax): Promise<void> {
  const log = pino({ level: "warn" }, { write: (line: string) => void logged.push(JSON.parse(line)) });
  const buses = { ledger: bus, front: bus, follower: bus, peers: bus };
  picker = new Picker({ ...pickerOptions(buses), log, ledgerBytesMax, streamsEveryMs: 50 });
  await picker.start({ open: ["shop"] });
}

/** Waits until the picker reports a problem of its streams that matches, or until it reports none. */
const troubles = (about: RegExp | undefined): Promise<void> =>
  eventually(async () => {
    const { code, message, streams } = await ask("pool.list", "all");
    const said = code === undefined ? ((streams as { message: string }[]) ?? []) : [{ message: message as string }];
    if (about === undefined) expect(said).toEqual([]);
    else expect(said.map((each) => each.message).join(" ")).toMatch(about);
  });

test("changes existing streams at the start: none is compressed, and a bound is raised but never lowered", async () => {
  const old = { storage: "file", compression: "s2" };
  const ledger = { ...old, subjects: ["remuda.ledger.*"], discard: "new", deny_delete: true, max_bytes: bytesMax / 2 };
  const bucket = { ...old, subjects: [`$KV.${secretsBucket}.>`], discard: "new", max_msgs_per_subject: 1 };
  const outcomes = { ...old, subjects: ["remuda.outcome.>"], max_bytes: 2 * bytesMax };
  for (const [name, settings] of Object.entries({
    [ledgerStream]: ledger,
    [bucketStream]: { ...bucket, allow_rollup_hdrs: true },
    [outcomesStream]: outcomes,
  }))
    await callJs(bus, `STREAM.CREATE.${name}`, { name, ...settings });
  await start();
  for (const stream of [ledgerStream, bucketStream, outcomesStream])
    expect(await config(stream)).toMatchObject({ compression: "none", allow_direct: true });
  expect(await config(ledgerStream)).toMatchObject({ max_bytes: bytesMax });
  expect(await config(outcomesStream)).toMatchObject({ max_bytes: 2 * bytesMax });
  await picker.stop();
  await start(bytesMax / 4);
  expect(await config(ledgerStream)).toMatchObject({ max_bytes: bytesMax });
  expect(await ask("proxies.add", "shop", { proxies: ["ann:hush@10.0.0.1:80"] })).toMatchObject({ added: 1 });
});

test("makes the stream of outcomes again, with all of its settings, and follows it", async () => {
  logged.length = 0;
  await callJs(bus, `STREAM.DELETE.${outcomesStream}`);
  await eventually(async () => expect(await config(outcomesStream)).toMatchObject({ discard: "old" }));
  expect(logged.filter((line) => line.stream !== outcomesStream)).toEqual([]); // None for each pool.
  // The server keeps ids in memory for the window: with its default, two minutes, a flood of them fills the memory.
  await change(outcomesStream, { max_msg_size: 10, max_msgs: 1, duplicate_window: 120e9 });
  const bounds = { max_msg_size: outcomesMessageBytesMax, max_msgs: -1, duplicate_window: 1e9 };
  await eventually(async () => expect(await config(outcomesStream)).toMatchObject(bounds));
  const { leaseId } = await ask("lease", "shop");
  await bus.nc.request("remuda.outcome.shop", JSON.stringify({ leaseId, n: 1, status: 200 }));
  await eventually(async () => expect(await ask("pool.stats", "shop")).toMatchObject({ outcomes: { succeeded: 1 } }));
  expect(linesAbout(outcomesStream)).toHaveLength(2);
});

test("leads a pool although the stream of outcomes is gone when it is claimed", async () => {
  await callJs(bus, `STREAM.DELETE.${outcomesStream}`);
  expect(await ask("pool.open", "late")).toMatchObject({ pool: "late" });
  await ask("pool.close", "late");
});

test("names a stream with wrong limits, one that is full, and a purged bucket, in one line each", async () => {
  logged.length = 0;
  await change(ledgerStream, { max_msgs: 1_000_000 });
  await troubles(/REMUDA_LEDGER has max_msgs 1000000, and Remuda needs -1.*nats stream edit REMUDA_LEDGER/);
  await change(ledgerStream, { max_msgs: -1 });
  await troubles(undefined);
  const { bytes } = (await streamInfo(bus, ledgerStream)).state;
  await change(ledgerStream, { max_bytes: bytes + 10 });
  await troubles(/REMUDA_LEDGER is full: \d+ of \d+ bytes.*--max-bytes/);
  await change(ledgerStream, { max_bytes: bytesMax });
  await troubles(undefined);
  expect(linesAbout(ledgerStream)).toHaveLength(4);
  await callJs(bus, `STREAM.PURGE.${bucketStream}`);
  await troubles(/KV_remuda-secrets was purged: 0 of at least 1 entries.*proxies export/);
  expect(linesAbout(bucketStream)).toHaveLength(1);
});

test("names a deleted bucket and a deleted stream of ledgers, which it does not make again", async () => {
  await callJs(bus, `STREAM.DELETE.${bucketStream}`);
  await troubles(/KV_remuda-secrets is missing.*Export each pool now/);
  logged.length = 0;
  await callJs(bus, `STREAM.DELETE.${ledgerStream}`);
  await troubles(/REMUDA_LEDGER is missing.*restore the stream from a backup/);
  expect(linesAbout(ledgerStream)).toHaveLength(1);
});

test("notices that the ledger of a leader without requests was purged", async () => {
  await picker.stop();
  await start();
  await ask("pool.open", "quiet");
  logged.length = 0;
  await callJs(bus, `STREAM.PURGE.${ledgerStream}`, { filter: ledgerSubject("quiet") });
  await eventually(async () =>
    expect(await ask("pool.list", "all")).toMatchObject({
      unusable: expect.arrayContaining([{ pool: "quiet", message: expect.stringMatching(/quiet has 0 of 1 commits/) }]),
    }),
  );
  expect(JSON.stringify(logged)).toMatch(/quiet has 0 of 1 commits: others were purged\. Restore the stream/);
});
