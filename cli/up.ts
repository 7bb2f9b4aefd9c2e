// `remuda up`: all services in one process, with a managed NATS server as its child unless REMUDA_NATS_URL names one.
// `remuda run`: one service alone, with an external NATS server.
import { join } from "node:path";
import type { Logger } from "pino";
import { given } from "../protocol/given.ts";
import { findBinary } from "../runtime/broker/binary.ts";
import { type Broker, openBroker } from "../runtime/broker/broker.ts";
import { RefusedByServer } from "../runtime/broker/refused-logins.ts";
import { openBus } from "../runtime/bus.ts";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { isLoopback } from "../runtime/host.ts";
import { openLog } from "../runtime/log.ts";
import { maskedNatsUrl, readNatsUrl } from "../runtime/nats-url.ts";
import { readTls } from "../runtime/tls.ts";
import type { RefusedLogins } from "../runtime/users-log.ts";
import { type PoolPort, poolsOver } from "../services/sources/pool.ts";
import { atHost, removeAddress, writeAddress } from "./address.ts";
import { checkDemo, type Demo, demoPool, endLastDemo, startDemo } from "./demo.ts";
import { runningGateway } from "./gateway.ts";
import { brokerUsers, ensureUsers, natsUrlAs, needsKeys } from "./login.ts";
import { onSignals, type Stop, stopAll, watchDefects } from "./parts.ts";
import {
  type Ports,
  refusedLogins,
  runningApi,
  runningAudit,
  runningGuestToken,
  startPicker,
  startSources,
} from "./services.ts";
import { version } from "./version.ts";

const say = (line: string): void => void process.stderr.write(`remuda: ${line}\n`);

export async function up(config: Config, env: NodeJS.ProcessEnv, { demo = false } = {}): Promise<void> {
  if (demo) checkDemo();
  await checkSettings(config, say); // Before anything is started.
  const logOf = logsOf(config);
  const defects = watchDefects(logOf("up"));
  const stopping: Stop[] = [];
  onSignals(() => stopAll(stopping));
  try {
    const refused = refusedLogins(config, logOf("api"));
    stopping.push(() => refused.close());
    const broker =
      config.natsUrl === undefined
        ? await manageBroker(config, env, { say, log: logOf("broker"), refused, stopping })
        : undefined;
    if (broker !== undefined) stopping.push(() => broker.stop());
    const url = broker?.url ?? config.natsUrl!; // One of the two is set.
    const open = ["default", ...(demo ? [demoPool] : [])];
    const onFrozen = (): void => void broker?.thaw();
    stopping.push(await startPicker(config, url, { log: logOf("picker"), defects, open, onFrozen }));
    stopping.push(await runningGuestToken(config, url, { log: logOf("guest-token"), defects }));
    const audit = await runningAudit(config, url, logOf("audit"));
    stopping.push(audit.stop);
    const gateway = await runningGateway(config, url, { log: logOf("gateway"), refused });
    stopping.push(gateway.stop);
    const { families } = gateway;
    const api = await runningApi(config, url, { log: logOf("api"), defects, refused, families });
    stopping.push(api.stop);
    // An error in the sources file must not make a restart fail, because then no lease could be granted.
    stopping.push(await startSources(config, url, { log: logOf("sources"), defects, mayBeWrong: true }));
    const shown = await setUpDemo(config, url, { demo, stopping });
    const listened = broker === undefined ? readNatsUrl(url).servers.join(",") : atHost(url, () => config.natsHost);
    const httpUrl = atHost(api.url, () => config.httpHost);
    const gatewayUrl = atHost(gateway.url, () => config.gatewayHost);
    writeAddress(config, { natsUrl: listened, httpUrl, gatewayUrl, tlsCa: config.tlsCa });
    stopping.push(() => removeAddress(config));
    const what = broker?.how === "adopted" ? " (with the NATS server of an earlier start that was killed)" : "";
    const next =
      shown === undefined
        ? "npx remuda proxies add <file>"
        : `npx remuda exec --pool ${demoPool} -- curl -s ${shown.url}`;
    const ready = `remuda is ready at ${maskedNatsUrl(url)} and ${api.url}, the gateway at ${gateway.url}${what}. Next: ${next}`;
    process.stdout.write([ready, ...(shown?.lines ?? []), ""].join("\n"));
  } catch (error) {
    await stopAll(stopping);
    throw error;
  }
}

/** One service alone. */
export async function run(service: keyof typeof alone, config: Config): Promise<void> {
  const url = natsUrlOf(config, service);
  const log = logsOf(config)(service);
  const stopping: Stop[] = [];
  onSignals(() => stopAll(stopping));
  const { stop, what } = await alone[service](config, url, { log, defects: watchDefects(log) });
  stopping.push(stop);
  process.stdout.write(`remuda is ready: ${what} ${maskedNatsUrl(url)}\n`);
}

type Alone = (config: Config, url: string, ports: Ports) => Promise<{ stop: Stop; what: string }>;

const alone = {
  picker: async (config, url, ports) => ({
    stop: await startPicker(config, url, { ...ports, open: [] }),
    what: "a picker at",
  }),
  async api(config, url, ports) {
    await checkSettings(config, say);
    const refused = refusedLogins(config, ports.log);
    const api = await runningApi(config, url, { ...ports, refused });
    const stop = async (): Promise<void> => {
      await api.stop();
      refused.close();
    };
    return { stop, what: `HTTP at ${api.url} for` };
  },
  async gateway(config, url, { log }) {
    await checkSettings(config, say);
    const refused = refusedLogins(config, log);
    const gateway = await runningGateway(config, url, { log, refused });
    await gateway.ready();
    const stop = async (): Promise<void> => {
      await gateway.stop();
      refused.close();
    };
    return { stop, what: `a gateway at ${gateway.url} for` };
  },
  async sources(config, url, ports) {
    return { stop: await startSources(config, url, ports), what: `sources of ${config.sourcesFile} for` };
  },
  async "guest-token"(config, url, ports) {
    return { stop: await runningGuestToken(config, url, ports), what: "an executor of token refreshes at" };
  },
  audit: async (config, url, { log }) => ({ stop: (await runningAudit(config, url, log)).stop, what: "the audit at" }),
} satisfies Record<string, Alone>;

function natsUrlOf(config: Config, service: string): string {
  if (config.natsUrl !== undefined) return config.natsUrl;
  throw new Fault(
    "fix-setup",
    `REMUDA_NATS_URL is not set. Set it to the NATS server of the service ${service}, or run "remuda up", which has its own.`,
  );
}

/** Creates the users if needed. @throws Fault "fix-setup" if the settings cannot work. */
async function checkSettings(config: Config, say: (line: string) => void): Promise<void> {
  const { tls, natsUrl, natsUsers, natsHost, httpHost, gatewayHost } = config;
  if (tls !== undefined) readTls(tls);
  if (natsUsers === undefined && (natsUrl === undefined || needsKeys(config))) await ensureUsers(config);
  const open = [
    ...(natsUrl === undefined && !isLoopback(natsHost) ? [`NATS (${natsHost})`] : []),
    ...(isLoopback(httpHost) ? [] : [`HTTP (${httpHost})`]),
    ...(isLoopback(gatewayHost) ? [] : [`the gateway (${gatewayHost})`]),
  ];
  if (tls === undefined && open.length > 0) {
    say(
      `warning: ${open.join(" and ")} can be reached from other machines without TLS, so passwords and keys can be read ` +
        "on the network. Set REMUDA_TLS_CERT and REMUDA_TLS_KEY.",
    );
  }
}

async function manageBroker(
  config: Config,
  env: NodeJS.ProcessEnv,
  {
    say,
    log,
    refused,
    stopping,
  }: { say: (line: string) => void; log: Logger; refused: RefusedLogins; stopping: Stop[] },
): Promise<Broker> {
  const { dataDir, natsHost: host, natsPort: port, natsServer, cacheDir } = config;
  const find = { say, cacheDir, path: env.PATH ?? "", ...given({ natsServer }) };
  const onFault = (fault: Fault): void => {
    log.error({ code: fault.code }, fault.message);
    if (fault.code === "in-use") process.exit(1); // The data directory has another owner now.
  };
  const users = brokerUsers(config);
  const byServer = new RefusedByServer(join(dataDir, "nats", "nats.log"), (login) =>
    refused.note({ over: "nats", ...login }),
  );
  stopping.push(() => byServer.close());
  return openBroker({ dataDir, host, port, tls: config.tls, users, say, binary: () => findBinary(find), onFault });
}

/** Retires the proxies of a killed demo, and starts a new demo if requested. */
async function setUpDemo(
  config: Config,
  url: string,
  { demo, stopping }: { demo: boolean; stopping: Stop[] },
): Promise<Demo | undefined> {
  const pools = async (): Promise<PoolPort> => {
    const bus = await openBus(natsUrlAs(config, url, "operator"), "remuda demo", { caFile: config.tlsCa });
    stopping.push(() => bus.close());
    return poolsOver(bus);
  };
  try {
    await endLastDemo(pools, config.dataDir);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    say(`warning: the proxies of an earlier demo could not be retired (${error.message}). The next start tries again.`);
  }
  if (!demo) return undefined;
  const started = await startDemo(await pools(), config.dataDir);
  stopping.push(() => started.stop());
  return started;
}

function logsOf({ logLevel: level }: Config): (service: string) => Logger {
  return openLog({ level, version: version(), isTerminal: process.stderr.isTTY });
}
