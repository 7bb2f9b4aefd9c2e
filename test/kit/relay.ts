// A TCP relay between a client and a server, for tests of connections that break. It can cut its connections, or stop
// reading them: then they stay open, and nothing comes through, as after a machine has vanished from the network.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Relay {
  readonly port: number;
  /** How many connections there are now. */
  readonly connections: number;
  /** How many there have been. */
  readonly accepted: number;
  /** The URL with the relay's port in place of the server's. */
  urlOf(url: string): string;
  /** Ends all present connections abruptly. */
  cut(): void;
  /** Passes nothing on, in either direction, on all present connections. Later connections are passed on. */
  stopReading(): void;
  /** Passes on what clients say, and no answer, on all present connections. */
  swallowAnswers(): void;
  /**
   * From now on, new connections are passed on, accepted and not read, or ended at once. At first they are passed on.
   */
  newOnes(are: "passed" | "unread" | "ended"): void;
  /** Goes on where it stopped, on connections that still exist. */
  resume(): void;
  close(): Promise<void>;
}

/** Listens at 127.0.0.1, on a port that the system chooses. */
export async function startRelay(to: { port: number; host?: string }): Promise<Relay> {
  const pairs = new Set<[Socket, Socket]>();
  let accepted = 0;
  let newOnes: "passed" | "unread" | "ended" = "passed";
  const server = createServer((near) => {
    if (newOnes === "ended") return void near.destroy();
    accepted += 1;
    const far = connect(to.port, to.host ?? "127.0.0.1");
    const pair: [Socket, Socket] = [near, far];
    pairs.add(pair);
    for (const [from, onto] of [pair, pair.toReversed()] as [Socket, Socket][]) {
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => {
        pairs.delete(pair);
        onto.destroy();
      });
      from.pipe(onto);
    }
    if (newOnes === "unread") halt(pair);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // On TCP.
  const cut = (): void => {
    for (const pair of pairs) for (const socket of pair) socket.destroy();
  };
  return {
    port,
    get connections() {
      return pairs.size;
    },
    get accepted() {
      return accepted;
    },
    urlOf: (url) => url.replace(/:\d+$/, `:${port}`),
    cut,
    stopReading: () => pairs.forEach(halt),
    swallowAnswers() {
      for (const [, far] of pairs) far.unpipe().resume();
    },
    newOnes(are) {
      newOnes = are;
    },
    resume() {
      for (const [near, far] of pairs) {
        near.pipe(far);
        far.pipe(near);
      }
    },
    async close() {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}

function halt(pair: [Socket, Socket]): void {
  for (const socket of pair) socket.unpipe().pause();
}
