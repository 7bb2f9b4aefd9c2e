// The executor as a process runs it: connect to NATS, work, stop.
import type { Logger } from "pino";
import { openBuses } from "../../runtime/bus.ts";
import type { Defects } from "../../runtime/defects.ts";
import type { Outbound } from "../../transport/outbound.ts";
import { Executor } from "./executor.ts";

export interface GuestTokenOptions {
  /** One connection may call leaders, the other may read ledgers. */
  natsUrls: { requests: string; events: string };
  /** The certificate authority that the NATS connections trust. */
  caFile: string | undefined;
  log: Logger;
  defects?: Defects;
  outbound: Outbound;
}

/**
 * Returns a function that stops it.
 * @throws Fault "retry-later" if NATS is away.
 */
export async function startGuestToken(options: GuestTokenOptions): Promise<() => Promise<void>> {
  const { natsUrls, caFile, log, defects, outbound } = options;
  const { buses, close } = await openBuses(natsUrls, "guest-token", { caFile });
  const executor = new Executor({ buses, log, defects, outbound });
  const stop = async (): Promise<void> => {
    await executor.stop();
    await close();
  };
  try {
    await executor.start();
    return stop;
  } catch (error) {
    await stop();
    throw error;
  }
}
