// For a service that must come back at the same port after it was killed.
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

const [lowest, end] = [20_000, 30_000];

/**
 * A port of 127.0.0.1 at which nothing listens. It is below the range of outgoing connections: a client that reconnects
 * while the port is closed could otherwise get this port as its own, and connect to itself. Nor does the system give
 * the port to a server that asks for any.
 */
export async function freePort(pick: () => number = () => randomInt(lowest, end)): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const server = createServer();
    try {
      const port = pick();
      await once(server.listen(port, "127.0.0.1"), "listening");
      return port;
    } catch {
      // Another program listens there.
    } finally {
      await new Promise((closed) => server.close(closed));
    }
  }
  throw new Error(`no port between ${lowest} and ${end - 1} is free`);
}
