// A TCP relay between a client and a server, for tests of connections that break. It can cut its connections, or stop
// reading them: then they stay open, and nothing comes through, as after a machine has vanished from the network.
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";

/** With a name: only for the connections of NATS clients with this name. */
export interface Relay {
  readonly port: number;
  /** How many connections there are now. */
  readonly connections: number;
  /** How many there have been. */
  readonly accepted: number;
  /** The names under which NATS clients are connected now. */
  readonly names: string[];
  /** The URL with the relay's port in place of the server's. */
  urlOf(url: string): string;
  /** Ends all present connections abruptly. */
  cut(name?: string): void;
  /** Passes nothing on, in either direction, on all present connections. Later connections are passed on. */
  stopReading(name?: string): void;
  /** Passes on the server's bytes, and none of the clients', on all present connections. */
  stopReadingClients(name?: string): void;
  /** Passes on the clients' bytes, and no answer, on all present connections. */
  swallowAnswers(name?: string): void;
  /**
   * From now on, new connections are passed on, accepted and not read, or ended at once. At first they are passed on.
   */
  newOnes(are: "passed" | "unread" | "ended"): void;
  /** Goes on where it stopped, on connections that still exist. */
  resume(): void;
  close(): Promise<void>;
}

interface Pair {
  /** Of the client. */
  near: Socket;
  far: Socket;
  name: string;
  lenses: { [direction in keyof Lenses]: Duplex } | undefined;
}

/** Each makes a stream that changes what passes in this direction. */
export interface Lenses {
  requests: () => Duplex;
  answers: () => Duplex;
}

/**
 * Listens at 127.0.0.1, on a port that the system chooses.
 * @param to.port read at each new connection.
 */
export async function startRelay(to: { port: number; host?: string }, lenses?: Lenses): Promise<Relay> {
  const pairs = new Set<Pair>();
  let accepted = 0;
  let newOnes: "passed" | "unread" | "ended" = "passed";
  const server = createServer((near) => {
    if (newOnes === "ended") return void near.destroy();
    accepted += 1;
    const far = connect(to.port, to.host ?? "127.0.0.1");
    const made = lenses && { requests: lenses.requests(), answers: lenses.answers() };
    const pair: Pair = { near, far, name: "", lenses: made };
    pairs.add(pair);
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on("error", () => {});
      socket.on("close", () => {
        pairs.delete(pair);
        for (const each of [near, far]) each.destroy();
      });
    }
    near.once("data", (login: Buffer) => {
      pair.name = /"name":"([^"]*)"/.exec(login.toString("latin1"))?.[1] ?? "";
    });
    passOn(pair);
    if (newOnes === "unread") halt(pair);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // On TCP.
  const called = (name?: string): Pair[] => [...pairs].filter((pair) => name === undefined || pair.name === name);
  const cut = (name?: string): void => {
    for (const { near, far } of called(name)) for (const socket of [near, far]) socket.destroy();
  };
  return {
    port,
    get connections() {
      return pairs.size;
    },
    get accepted() {
      return accepted;
    },
    get names() {
      return [...pairs].map(({ name }) => name);
    },
    urlOf: (url) => url.replace(/:\d+$/, `:${port}`),
    cut,
    stopReading: (name) => called(name).forEach(halt),
    stopReadingClients(name) {
      for (const { near } of called(name)) near.unpipe().pause();
    },
    swallowAnswers(name) {
      for (const { far } of called(name)) far.unpipe().resume();
    },
    newOnes(are) {
      newOnes = are;
    },
    resume: () => pairs.forEach(passOn),
    async close() {
      cut();
      server.close();
      await once(server, "close");
    },
  };
}

function passOn({ near, far, lenses }: Pair): void {
  for (const stream of [near, far, lenses?.requests, lenses?.answers]) stream?.unpipe();
  if (lenses === undefined) {
    near.pipe(far);
    far.pipe(near);
  } else {
    near.pipe(lenses.requests).pipe(far);
    far.pipe(lenses.answers).pipe(near);
  }
}

function halt({ near, far }: Pair): void {
  for (const socket of [near, far]) socket.unpipe().pause();
}
