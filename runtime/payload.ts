// The largest message that a NATS server accepts. A commit that is larger is never stored, however often it is sent.
import type { Bus } from "./bus.ts";
import { Fault } from "./fault.ts";

/** The largest commit, and some room. It is also the server's default. */
export const payloadBytesMin = 1024 ** 2;

/** Undefined if the server accepts a message of this size, or does not say. It may change with a reconnect. */
export function payloadFault({ nc }: Pick<Bus, "nc">, bytes = payloadBytesMin): Fault | undefined {
  const max = nc.info?.max_payload;
  if (max === undefined || max >= bytes) return undefined;
  const what = `The NATS server accepts messages of at most ${max} bytes, and Remuda needs ${bytes}.`;
  return new Fault("fix-setup", `${what} Set max_payload: 4MB in the server's configuration, and reload it.`);
}
