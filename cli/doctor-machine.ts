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

/** The nats-server that a start would use. Nothing is downloaded. */
async function natsServer(config: Config, env: NodeJS.ProcessEnv): Promise<Finding[]> {
  const about = "nats-server";
  if (config.natsUrl !== undefined) return [ok(about, "not started here: REMUDA_NATS_URL names a running server")];
  const said: string[] = [];
  const { natsServer, cacheDir } = config;
  try {
    await findBinary({ natsServer, cacheDir, path: env.PATH, say: (line) => void said.push(line), sources: [] });
    const skipped = said.slice(0, -1).map((line) => warning(about, line));
    return [...skipped, ok(about, (said.at(-1) ?? "").replace(/^nats-server /, ""))];
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    if (natsServer !== undefined) return [problem(about, error.message)];
    const older = said.length === 0 ? "" : ` (${said.join("; ")})`;
    const what = `version ${oldestVersion.join(".")} or newer is not installed${older}. The first start downloads it`;
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
  if (!(await answersAt(host, port))) return [ok(about, "free for the NATS server")];
  const record = readBrokerRecord(join(dataDir, "nats", "broker.json"));
  const info = await readInfo({ host, port }, answerMs).catch(() => undefined);
  if (info !== undefined && info.serverName === record?.serverName)
    return [ok(about, "used by the NATS server of this data directory")];
  const isElsewhere = record !== undefined && record.port !== port && (await answersAt(record.host, record.port));
  const other = info === undefined ? "another process" : `another NATS server (${info.version})`;
  const sentence = `used by ${other}, not of this data directory${listener(port)}`;
  if (isElsewhere) return [ok(about, `${sentence}. This directory's server is at ${record.host}:${record.port}`)];
  const todo =
    info === undefined
      ? "Stop it, or set REMUDA_NATS_PORT to another port (0: any free port)."
      : `Stop it, set REMUDA_NATS_PORT to another port (0: any free port), or use it: REMUDA_NATS_URL=nats://${host}:${port}`;
  return [problem(about, sentence, todo)];
}

async function httpPort(config: Config, address: Address): Promise<Finding[]> {
  const url = address.httpUrl;
  if (url !== undefined && (await isAlive(url, address.tlsCa))) return [ok("http", `answers at ${url}`)];
  if (url !== undefined) {
    const what = `nothing answers at ${url}, the recorded address (NATS ${maskedNatsUrl(address.natsUrl)})`;
    return [warning("http", what, 'The service was probably killed. Start it again with "npx remuda up".')];
  }
  const { httpHost: host, httpPort: port } = config;
  if (port === 0) return [];
  const about = `port ${port}`;
  if (!(await answersAt(host, port))) return [ok(about, "free for HTTP")];
  if (await isAlive(`http://${host.includes(":") ? `[${host}]` : host}:${port}`)) {
    const todo = "Set REMUDA_DATA_DIR to the directory of that Remuda, or set REMUDA_HTTP_PORT.";
    return [warning(about, "used by another Remuda, not of this data directory", todo)];
  }
  const todo = "Stop it, or set REMUDA_HTTP_PORT to another port (0: any free port).";
  return [problem(about, `used by another process${listener(port)}`, todo)];
}

/** `: process 123 (node)`. "" if unknown. */
function listener(port: number): string {
  const process = listenerAt(port);
  return process === undefined ? "" : `: ${process}`;
}

/** Does Remuda answer there? @param ca a file with the trusted certificates. */
async function isAlive(url: string, ca?: string): Promise<boolean> {
  let agent: Agent | undefined;
  try {
    const host = new URL(url).hostname.replace(/^\[|\]$/g, "");
    agent = new Agent({ connect: trustIn(ca, [host]) });
    const { body } = await request(`${url}/livez`, { dispatcher: agent, signal: AbortSignal.timeout(answerMs) });
    const answer = await body.json();
    return typeof answer === "object" && answer !== null && "live" in answer && answer.live === true;
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
    socket.once("timeout", () => settle(true)); // A busy process has the port.
  });
}
