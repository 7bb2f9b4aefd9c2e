// The outcomes stream on a real broker: what it has acknowledged survives the broker's own crash.
import { expect, test } from "vitest";
import { outcomeSubject, outcomesStream } from "../../events/subjects.ts";
import { openBus } from "../../runtime/bus.ts";
import { streamInfo } from "../../runtime/jetstream-api.ts";
import { ensureStreams } from "../../services/picker/streams.ts";
import { startTestBroker } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";

test("an outcome that the broker has acknowledged is there after kill -9 of the broker", async () => {
  const broker = await startTestBroker();
  const bus = await openBus(broker.url, "test");
  try {
    await ensureStreams({ ledger: bus, follower: bus }, { ledgerBytesMax: 64 * 1024 ** 2 });
    let acknowledged = 0;
    for (let n = 1; n <= 60; n++) {
      const ack = await bus.nc.request(outcomeSubject("test"), JSON.stringify({ leaseId: "l_1", n, status: 200 }));
      acknowledged = ack.json<{ seq: number }>().seq;
    }
    process.kill(broker.broker.pid, "SIGKILL");
    expect(acknowledged).toBe(60);
    await eventually(() => expect(bus.up).toBe(false));
    await bus.whenUp();
    const { state } = await eventually(() => streamInfo(bus, outcomesStream));
    expect(state).toMatchObject({ messages: acknowledged, last_seq: acknowledged });
  } finally {
    await bus.close();
    await broker.stop();
  }
});
