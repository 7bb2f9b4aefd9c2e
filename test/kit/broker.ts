// A real broker for a test: its own data directory, a port that the system chooses, and nothing left after stop().

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findBinary } from "../../runtime/broker/binary.ts";
import { type Broker, type BrokerOptions, openBroker } from "../../runtime/broker/broker.ts";
import { readConfig } from "../../runtime/config.ts";
import { removeAtEnd } from "./process.ts";

export type TestBroker = {
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly broker: Broker;
  /** Ends the broker and removes its data directory. */
  stop(): Promise<void>;
};

/**
 * `say` gets the lines of the broker and of the search for its executable; silent by default. On a fresh machine the
 * first call fetches the server (some 10 s): make it in a hook rather than in a test.
 */
export async function startTestBroker({
  say = () => {},
  ...options
}: Partial<Pick<BrokerOptions, "say" | "freeBytes">> = {}): Promise<TestBroker> {
  const dataDir = await mkdtemp(join(tmpdir(), "broker-test-"));
  const remove = () => rm(dataDir, { recursive: true, force: true });
  try {
    const binary = () => findTestBinary(say);
    const broker = await openBroker({ ...options, dataDir, host: "127.0.0.1", port: 0, binary, say });
    const { url, port } = broker;
    return {
      url,
      port,
      dataDir,
      broker,
      async stop() {
        await broker.stop();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

let shared: Promise<TestBroker> | undefined;

/** One that other files use as well. It ends with the test process. */
export function sharedTestBroker(): Promise<TestBroker> {
  shared ??= startTestBroker();
  void shared.then(({ dataDir }) => removeAtEnd(dataDir));
  return shared;
}

let found: Promise<string> | undefined;

/** The nats-server that this machine's settings lead to. It is searched once per process, and fetched if necessary. */
export function findTestBinary(say: (line: string) => void = () => {}): Promise<string> {
  const { natsServer, cacheDir } = readConfig(process.env);
  found ??= findBinary({ natsServer, path: process.env.PATH, cacheDir, say });
  return found;
}
