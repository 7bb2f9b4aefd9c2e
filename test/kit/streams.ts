// A broker of the test's own with the service's streams, and a connection.
import { type Bus, openBus } from "../../runtime/bus.ts";
import { ensureStreams, neededStreams } from "../../services/picker/stream-settings.ts";
import { startTestBroker, type TestBroker } from "./broker.ts";

export interface TestStreams {
  broker: TestBroker;
  bus: Bus;
  stop(): Promise<void>;
}

export async function startStreams(start = startTestBroker): Promise<TestStreams> {
  const broker = await start();
  try {
    const bus = await openBus(broker.url, "test");
    await ensureStreams(neededStreams({ ledger: bus, follower: bus }, { ledgerBytesMax: 64 * 1024 ** 2 }));
    return { broker, bus, stop: () => bus.close().finally(() => broker.stop()) };
  } catch (error) {
    await broker.stop();
    throw error;
  }
}
