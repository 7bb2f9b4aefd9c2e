// Commands that need every picker to be stopped: they change what a picker keeps in memory.
import { NoRespondersError, RequestError } from "@nats-io/transport-node";
import { given } from "../protocol/given.ts";
import { findBinary } from "../runtime/broker/binary.ts";
import { openBroker } from "../runtime/broker/broker.ts";
import { type Bus, openBus } from "../runtime/bus.ts";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { findAddress } from "./address.ts";
import { withBus } from "./connection.ts";
import { brokerUsers, natsUrlAs } from "./login.ts";

const name = "remuda command line";
const heardMs = 700;

/**
 * Opens a connection with the rights of a picker. The NATS server of the data directory is started for it, unless
 * REMUDA_NATS_URL names another one.
 * @throws Fault "in-use" if the service runs.
 */
export async function withStopped<T>(config: Config, use: (bus: Bus) => Promise<T>): Promise<T> {
  const { natsUrl, dataDir, natsServer, cacheDir, tlsCa: caFile } = config;
  if (natsUrl !== undefined) {
    if (await withBus(findAddress(config), name, hasPicker))
      throw new Fault("in-use", "a picker runs on this NATS server. Stop all pickers first.");
    return withBus({ natsUrl: natsUrlAs(config, natsUrl, "ledger"), tlsCa: caFile }, name, use);
  }
  const say = (): void => {};
  const find = { say, cacheDir, path: process.env.PATH ?? "", ...given({ natsServer }) };
  const loopback = { host: "127.0.0.1", port: 0 };
  const broker = await openBroker({
    ...{ ...loopback, dataDir, say, users: brokerUsers(config), binary: () => findBinary(find) },
  });
  try {
    const bus = await openBus(natsUrlAs(config, broker.url, "ledger"), name);
    try {
      return await use(bus);
    } finally {
      await bus.close();
    }
  } finally {
    await broker.stop();
  }
}

async function hasPicker({ nc }: Bus): Promise<boolean> {
  try {
    const asked = await nc.requestMany("$SRV.PING.remuda", "", { strategy: "timer", maxWait: heardMs });
    for await (const answer of asked) if (answer.data.length > 0) return true;
    return false;
  } catch (error) {
    if (error instanceof NoRespondersError || (error instanceof RequestError && error.isNoResponders())) return false;
    throw error;
  }
}
