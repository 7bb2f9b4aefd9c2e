// Connections to NATS that hear nothing any more, but stay open.
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { openNats } from "../../client/nats.ts";
import { requestBytesMax } from "../../protocol/refusal.ts";
import { openBus } from "../../runtime/bus.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { startRelay } from "../kit/relay.ts";

/** More than the buffers of the system take. */
const pendingBytes = 16 * 1024 ** 2;
const chunk = new Uint8Array(1024 ** 2);

let broker: TestBroker;
beforeAll(async () => {
  broker = await startTestBroker();
});
afterAll(() => broker?.stop());

async function relayed() {
  const relay = await startRelay(broker);
  onTestFinished(() => relay.close());
  return { relay, url: relay.urlOf(broker.url) };
}

test("dials again after a connection that is half open with bytes to send", async () => {
  const { relay, url } = await relayed();
  const bus = await openBus(url, "half open", { pingMs: 100 });
  onTestFinished(() => bus.close());
  relay.stopReading();
  for (let sent = 0; sent < pendingBytes; sent += chunk.length) bus.nc.publish("test.sink", chunk);
  await eventually(() => expect(relay.accepted).toBe(2));
  await bus.whenUp();
  await bus.nc.flush();
});

test("a client dials again after its connection is half open with bytes to send", async () => {
  const { relay, url } = await relayed();
  const port = await openNats(url, { pingMs: 100 });
  onTestFinished(() => port.close());
  relay.stopReading();
  const outcomes = "x".repeat(requestBytesMax - 100);
  for (let sent = 0; sent < pendingBytes; sent += outcomes.length)
    port.attempt({ verb: "report", pool: "shop", body: { outcomes }, timeoutMs: 60_000 }).catch(() => {});
  await eventually(() => expect(relay.accepted).toBe(2));
});
