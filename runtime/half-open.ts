// Ends a connection to NATS that hears nothing any more while it has bytes to send. The library notices that it is
// stale, and then waits for the callback of an empty write behind those bytes, which never comes. So it would never
// dial again.
import type { NatsConnection } from "@nats-io/transport-node";

/** A connection without bytes to send ends at once. */
const endMs = 300;

/** How the library 3.4 keeps its socket. A test tells when another version does not. */
interface Inside {
  protocol?: { transport?: { socket?: { destroy(): void } } };
}

/** Until the connection is closed. */
export async function endWhenStale(nc: NatsConnection): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  for await (const { type } of nc.status()) {
    if (type === "staleConnection")
      timer ??= setTimeout(() => (nc as unknown as Inside).protocol?.transport?.socket?.destroy(), endMs);
    if (type !== "disconnect" && type !== "close") continue;
    clearTimeout(timer);
    timer = undefined;
  }
}
