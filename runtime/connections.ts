// Bounds the connections of clients, so that they cannot use up all file descriptors of the process: the connections to
// NATS and the files need some, too. A connection beyond the bound is closed at once, and so are idle ones.
import { readFileSync } from "node:fs";
import type { Server } from "node:http";
import type { Logger } from "pino";
import { resultOr } from "./fault.ts";

const connectionsMax = 10_000;
/** Where the system does not tell. */
const descriptorsMaxUsual = 1024;

/** The head of a request must have arrived by then. A connection that sends nothing is closed as well. */
export const headMsMax = 10_000;
/** How often to look which heads are late. */
export const headLookMs = 2000;

/**
 * @param given.max absent: half of the file descriptors that this process may have, and at most 10 000.
 * @param given.descriptors how many a connection takes. With two, for one connection further on, half as many may come.
 */
export function boundConnections(
  server: Server,
  { log, max, descriptors = 1 }: { log: Logger; max?: number | undefined; descriptors?: number },
): void {
  server.maxConnections = max ?? Math.min(connectionsMax, Math.floor(descriptorsMax() / 2 / descriptors));
  server.on("drop", () => {
    log.warn({ connectionsMax: server.maxConnections }, "too many connections; one was closed");
    server.closeIdleConnections();
  });
}

function descriptorsMax(): number {
  const limits = resultOr(() => readFileSync("/proc/self/limits", "utf8"), "");
  return Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? descriptorsMaxUsual);
}
