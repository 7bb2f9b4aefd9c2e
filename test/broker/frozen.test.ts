// A stream that could not be written takes no messages until its server restarts. A folder that is moved away stands
// for a full disk: the server cannot begin its next file.
import { readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ledgerStream } from "../../protocol/subjects.ts";
import { requestOn } from "../../runtime/bus.ts";
import { storedMessage } from "../../runtime/jetstream-api.ts";
import { neededStreams } from "../../services/picker/stream-settings.ts";
import { StreamWatch } from "../../services/picker/stream-watch.ts";
import { startTestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { startStreams, type TestStreams } from "../kit/streams.ts";

let streams: TestStreams;
let free = 0;
beforeAll(async () => {
  streams = await startStreams(() => startTestBroker({ freeBytes: async () => free }));
});
afterAll(() => streams?.stop());

const megabyte = Buffer.alloc(2 ** 20 - 1024, "x");
const publish = async (body: Uint8Array | string, timeoutMs = 400): Promise<{ seq: number }> =>
  (await requestOn(streams.bus, "remuda.ledger.shop", body, { timeoutMs })).json();

test("a frozen stream is found, and its managed server restarts once there is room", async () => {
  const { bus, broker } = streams;
  const said: string[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void said.push(JSON.parse(line).msg) });
  const needed = neededStreams({ ledger: bus, follower: bus }, { ledgerBytesMax: 1 });
  let frozen = 0;
  const watch = new StreamWatch({ needed, log, secretEntries: () => 0, onFrozen: () => void frozen++ });
  await watch.look();
  expect(watch.troubles()).toEqual([]);

  const store = join(broker.dataDir, "nats/store/jetstream/$G/streams", ledgerStream);
  const { seq: kept } = await publish("kept", 5000);
  renameSync(join(store, "msgs"), join(store, "away"));
  await expect(
    (async () => {
      for (let i = 0; i < 40; i++) await publish(megabyte);
    })(),
  ).rejects.toThrow("timeout");
  renameSync(join(store, "away"), join(store, "msgs"));
  // There is room again, and yet it takes nothing.
  await expect(publish("x")).rejects.toThrow("timeout");
  await eventually(async () => {
    await watch.look();
    expect(watch.troubles()).toMatchObject([
      { stream: ledgerStream, message: expect.stringContaining("has taken no mess") },
    ]);
  });
  await watch.look();
  expect(frozen).toBeGreaterThanOrEqual(2);
  expect(said).toHaveLength(1);
  expect(said[0]).toMatch(/Make room there\. Then restart the NATS server/);

  const { pid } = broker.broker;
  free = 1000;
  expect(await broker.broker.thaw()).toBe(false);
  free = 2 ** 30;
  expect(await broker.broker.thaw()).toBe(true);
  await eventually(async () => expect(await publish("again", 2000)).toHaveProperty("seq"));
  expect(broker.broker.pid).not.toBe(pid);
  expect((await storedMessage(bus, ledgerStream, { seq: kept }))?.bytes.toString()).toBe("kept");
  await watch.look();
  expect(watch.troubles()).toEqual([]);
  expect(readdirSync(store)).not.toContain("away");
});
