// The doctor's checks of the machine: Node, the nats-server to start, and the processes that use the ports.
import { connect } from "node:net";
import { join } from "node:path";
import { Agent, request } from "undici";
import { findBinary } from "../runtime/broker/binary.ts";
import { oldestVersion } from "../runtime/broker/executable.ts";
import { readInfo } from "../runtime/broker/info.ts";
import { readBrokerRecord } from "../runtime/broker/record.ts";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { maskedNatsUrl } from "../runtime/nats-url.ts";
import { trustIn } from "../runtime/tls.ts";
import type { Address } from "./address.ts";
import { type Finding, findingsOf, ok, problem, warning } from "./finding.ts";
import { listenerAt } from "./listener.ts";

const checkMs = 5000;
const answerMs = 1500;

export async function lookAtMachine(
  config: Config,
  given: { env: NodeJS.ProcessEnv; address: Address },
): Promise<Finding[]> {
  const found = await Promise.all([
    findingsOf("node", () => [node()], checkMs),
    findingsOf("nats-server", () => natsServer(config, given.env), checkMs),
    findingsOf("ports", () => ports(config, given.address), checkMs),
  ]);
  return found.flat();
}

function node(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const what = `${process.versions.node} at ${process.execPath}`;
  const isNew = major > 22 || (major === 22 && minor >= 18);
  return isNew
    ? ok("node", what)
    : problem("node", `${what} is too old`, "Install Node 22.18 or newer, or run npm ci.");
}

/** The nats-server that a start would use. Nothing is fetched for this check. */
async function natsServer(config: Config, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  const about = "nats-server";
  if (config.natsUrl !== undefined) return [ok(about, "none is started here: REMUDA_NATS_URL names one that runs")];
  const said: string[] = [];
  const { natsServer, cacheDir } = config;
  try {
    await findBinary({ natsServer, cacheDir, path: env.PATH, say: (line) => void said.push(line), sources: [] });
    const passedOver = said.slice(0, -1).map((line) => warning(about, line));
    return [...passedOver, ok(about, (said.at(-1) ?? "").replace(/^nats-server /, ""))];
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    if (natsServer !== undefined) return [problem(about, error.message)];
    const older = said.length === 0 ? "" : ` (${said.join("; ")})`;
    const what = `none of ${oldestVersion.join(".")} or newer is here${older}; the first start fetches one`;
    return [ok(about, what)];
  }
}

async function ports(config: Config, address: Address): Promise<Finding[]> {
  const nats = config.natsUrl === undefined ? [natsPort(config)] : [];
  return (await Promise.all([...nats, httpPort(config, address)])).flat();
}

async function natsPort({ dataDir, natsHost: host, natsPort: port }: Config): Promise<Finding[]> {
  if (port === 0) return [];
  const about = `port ${port}`;
  if (!(await answersAt(host, port))) return [ok(about, "free, for the NATS server")];
  const record = readBrokerRecord(join(dataDir, "nats", "broker.json"));
  const info = await readInfo({ host, port }, answerMs).catch(() => undefined);
  if (info !== undefined && info.serverName === record?.serverName) return [ok(about, "our NATS server has it")];
  const ours = record !== undefined && record.port !== port && (await answersAt(record.host, record.port));
  const what = `${info === undefined ? "something" : `a NATS server (${info.version})`} that is not of this data directory has it`;
  const who = listenerAt(port);
  const sentence = who === undefined ? what : `${what}: ${who}`;
  if (ours) return [ok(about, `${sentence}; ours is at ${record.host}:${record.port}`)];
  const todo =
    info === undefined
      ? "Stop it, or set REMUDA_NATS_PORT to another port (0: any that is free)."
      : `Stop it, set REMUDA_NATS_PORT to another port (0: any), or use it: REMUDA_NATS_URL=nats://${host}:${port}`;
  return [problem(about, sentence, todo)];
}

async function httpPort(config: Config, address: Address): Promise<Finding[]> {
  const url = address.httpUrl;
  if (url !== undefined && (await isAlive(url, address.tlsCa))) return [ok("http", `answers at ${url}`)];
  if (url !== undefined) {
    const todo = `Start the service again with "npx remuda up" (it was killed if it left this behind).`;
    return [
      warning(
        "http",
        `nobody answers at ${url}, where it is said to be (NATS ${maskedNatsUrl(address.natsUrl)})`,
        todo,
      ),
    ];
  }
  const { httpHost: host, httpPort: port } = config;
  if (port === 0) return [];
  const about = `port ${port}`;
  if (!(await answersAt(host, port))) return [ok(about, "free, for HTTP")];
  if (await isAlive(`http://${host.includes(":") ? `[${host}]` : host}:${port}`)) {
    return [
      warning(
        about,
        "another Remuda, not of this data directory, has it",
        "Set REMUDA_DATA_DIR as it is set there, or REMUDA_HTTP_PORT.",
      ),
    ];
  }
  const who = listenerAt(port);
  const what = `something else has it${who === undefined ? "" : `: ${who}`}`;
  return [problem(about, what, "Stop it, or set REMUDA_HTTP_PORT to another port (0: any that is free).")];
}

/** Whether Remuda itself answers there. @param ca the trusted certificates, if set. */
async function isAlive(url: string, ca?: string): Promise<boolean> {
  let agent: Agent | undefined;
  try {
    const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
    agent = new Agent({ connect: trustIn(ca, [host]) });
    const { body } = await request(`${url}/livez`, { dispatcher: agent, signal: AbortSignal.timeout(answerMs) });
    return ((await body.json()) as { live?: unknown }).live === true;
  } catch {
    return false;
  } finally {
    await agent?.destroy();
  }
}

function answersAt(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: answerMs });
    const settle = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.once("connect", () => settle(true));
    socket.once("error", () => settle(false));
    socket.once("timeout", () => settle(true)); // A busy process holds the port.
  });
}
