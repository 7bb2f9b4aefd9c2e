// The brokers of a chaos run: one that is managed as `remuda up` manages its own, or a cluster of three. A broker that
// ends is started again.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../demo/free-port.ts";
import { ledgerStream } from "../../protocol/subjects.ts";
import { openBroker } from "../../runtime/broker/broker.ts";
import { openFiles } from "../../runtime/broker/files.ts";
import { reloadServer } from "../../runtime/broker/reload.ts";
import { findTestBinary } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { connectRaw } from "../kit/raw-nats.ts";

export interface Brokers {
  /** Of a broker that runs. Of three, each call gives another one. */
  readonly port: number;
  readonly stores: readonly string[];
  /** Of the one that leads the ledgers' stream, of two of three, or of all. */
  pids(which: "leader" | "majority" | "all"): Promise<number[]>;
  /** In the configurations of the brokers that run, until they start again. */
  setMaxPayload(bytes: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startOne(dataDir: string): Promise<Brokers> {
  const binary = (): Promise<string> => findTestBinary();
  const broker = await openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {} });
  const files = openFiles(dataDir);
  return {
    port: broker.port,
    stores: [files.store],
    pids: async () => [broker.pid],
    async setMaxPayload(bytes) {
      await setIn(files.conf, bytes);
      await reloadServer(files);
      await untilAccepted(broker.port, bytes);
    },
    stop: () => broker.stop(),
  };
}

interface Node {
  readonly name: string;
  readonly port: number;
  readonly conf: string;
  readonly store: string;
  child?: ChildProcess;
}

/** Clients are not told the other brokers' addresses, so that they do not get round their relays. */
const confOf = ({ name, port, store }: Node, route: number, routes: readonly number[]): string => `
server_name: ${name}
listen: "127.0.0.1:${port}"
max_payload: 4MB
jetstream { store_dir: "${store}", sync_interval: always, strict: true }
cluster {
  name: chaos
  listen: "127.0.0.1:${route}"
  no_advertise: true
  routes: [${routes.map((each) => `"nats://127.0.0.1:${each}"`).join(", ")}]
}
`;

export async function startThree(dataDir: string): Promise<Brokers> {
  const binary = await findTestBinary();
  const routes = [await freePort(), await freePort(), await freePort()];
  const nodes: Node[] = [];
  for (const [i, route] of routes.entries()) {
    const folder = join(dataDir, `node-${i}`);
    const node = {
      name: `node-${i}`,
      port: await freePort(),
      conf: join(folder, "nats.conf"),
      store: join(folder, "store"),
    };
    mkdirSync(folder, { recursive: true });
    await writeFile(node.conf, confOf(node, route, routes));
    nodes.push(node);
  }
  let isStopping = false;
  const keep = (node: Node): void => {
    // It ends with this process, however that ends.
    const child = spawn("setpriv", ["--pdeathsig", "KILL", binary, "-c", node.conf], { stdio: "ignore" });
    node.child = child;
    child.once("exit", () => void (isStopping || keep(node)));
  };
  nodes.forEach(keep);
  let next = 0;
  const port = (): number => nodes[next++ % nodes.length]!.port; // There are three.
  await eventually(async () => {
    const found = await call(port(), "$JS.API.INFO");
    if ("error" in found) throw new Error(JSON.stringify(found));
  });
  return {
    get port() {
      return port();
    },
    stores: nodes.map(({ store }) => store),
    async pids(which) {
      const { cluster } = await eventually(async () => {
        const info = await call(port(), `$JS.API.STREAM.INFO.${ledgerStream}`);
        if (info.cluster?.leader === undefined) throw new Error("the stream of ledgers has no leader");
        return info as { cluster: { leader: string } };
      });
      const leaderFirst = [...nodes].sort(
        (a, b) => Number(b.name === cluster.leader) - Number(a.name === cluster.leader),
      );
      const count = { leader: 1, majority: 2, all: 3 }[which];
      return leaderFirst.slice(0, count).map(({ child }) => child?.pid ?? 0);
    },
    async setMaxPayload(bytes) {
      for (const node of nodes) {
        await setIn(node.conf, bytes);
        node.child?.kill("SIGHUP");
        await untilAccepted(node.port, bytes);
      }
    },
    async stop() {
      isStopping = true;
      const running = nodes.flatMap(({ child }) =>
        child === undefined || child.exitCode !== null || child.signalCode !== null ? [] : [child],
      );
      await Promise.all(
        running.map((child) => {
          child.kill("SIGTERM");
          return once(child, "exit");
        }),
      );
    },
  };
}

async function setIn(conf: string, bytes: number): Promise<void> {
  const text = await readFile(conf, "utf8");
  await writeFile(conf, text.replace(/^max_payload: .*$/m, `max_payload: ${bytes}`));
}

async function untilAccepted(port: number, bytes: number): Promise<void> {
  await eventually(async () => {
    const nats = await connectRaw(`nats://127.0.0.1:${port}`);
    await nats.close();
    if (nats.info["max_payload"] !== bytes) throw new Error(`max_payload is ${nats.info["max_payload"]}`);
  });
}

async function call(port: number, subject: string): Promise<{ error?: object; cluster?: { leader?: string } }> {
  const nats = await connectRaw(`nats://127.0.0.1:${port}`, { timeoutMs: 1000 });
  try {
    return (await nats.request(subject, "", { timeoutMs: 1000 })).json();
  } finally {
    await nats.close();
  }
}
