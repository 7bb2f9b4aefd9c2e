// The executor as a process runs it: connect to NATS, work, stop.
import type { Logger } from "pino";
import { type Bus, openBus } from "../../runtime/bus.ts";
import type { Outbound } from "../../transport/outbound.ts";
import { Executor } from "./executor.ts";

export interface GuestTokenOptions {
  /** One connection may call leaders, the other may read ledgers. */
  natsUrls: { requests: string; events: string };
  /** The certificate authority that the NATS connections trust. */
  caFile: string | undefined;
  log: Logger;
  outbound: Outbound;
}

/**
 * Returns a function that stops it.
 * @throws Fault "retry-later" if NATS is away.
 */
export async function startGuestToken({
  natsUrls,
  caFile,
  log,
  outbound,
}: GuestTokenOptions): Promise<() => Promise<void>> {
  const buses: Bus[] = [];
  const open = async (url: string, name: string): Promise<Bus> => {
    const bus = await openBus(url, `remuda ${name}`, { caFile });
    buses.push(bus);
    return bus;
  };
  let executor: Executor | undefined;
  const stop = async (): Promise<void> => {
    await executor?.stop();
    await Promise.all(buses.map((bus) => bus.close()));
  };
  try {
    const requests = await open(natsUrls.requests, "guest-token");
    const events = await open(natsUrls.events, "guest-token follower");
    executor = new Executor({ buses: { requests, events }, log, outbound });
    await executor.start();
    return stop;
  } catch (error) {
    await stop();
    throw error;
  }
}
