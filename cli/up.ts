// `remuda up`: all services in one process, with a managed NATS server as its child unless REMUDA_NATS_URL names one.
// `remuda run`: one service alone, with an external NATS server. All services but the picker are imported late, so that
// workers do not wait for the imports.
import { join } from "node:path";
import type { Logger } from "pino";
import { given } from "../protocol/given.ts";
import type { Role } from "../protocol/rights.ts";
import { Archive } from "../runtime/archive/archive.ts";
import { findBinary } from "../runtime/broker/binary.ts";
import { type Broker, openBroker } from "../runtime/broker/broker.ts";
import { RefusedByServer } from "../runtime/broker/refused-logins.ts";
import { type Bus, openBus } from "../runtime/bus.ts";
import { systemClock } from "../runtime/clock.ts";
import type { Config } from "../runtime/config.ts";
import type { Defects } from "../runtime/defects.ts";
import { Fault, messageOf } from "../runtime/fault.ts";
import { isLoopback } from "../runtime/host.ts";
import { openLog } from "../runtime/log.ts";
import { maskedNatsUrl, readNatsUrl } from "../runtime/nats-url.ts";
import type { Family } from "../runtime/prometheus.ts";
import { loadKey } from "../runtime/secrets.ts";
import { loadSigningKey } from "../runtime/signing-key.ts";
import { readTls } from "../runtime/tls.ts";
import { RefusedLogins } from "../runtime/users-log.ts";
import type { RunningApi } from "../services/api/server.ts";
import type { RunningAudit } from "../services/audit/service.ts";
import { Picker } from "../services/picker/picker.ts";
import { type PoolPort, poolsOver } from "../services/sources/pool.ts";
import { outboundWith } from "../transport/outbound.ts";
import { atHost, removeAddress, writeAddress } from "./address.ts";
import { checkDemo, type Demo, demoPool, endLastDemo, startDemo } from "./demo.ts";
import { runningGateway } from "./gateway.ts";
import { brokerUsers, ensureUsers, natsUrlAs, needsKeys, userOfKeys, usersOn } from "./login.ts";
import { onSignals, type Stop, stopAll, watchDefects } from "./parts.ts";
import { upkeepOf } from "./upkeep.ts";
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

/** `defects`: those of the whole process. */
type Ports = { log: Logger; defects: Defects };
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

/** One connection answers requests. Another reads ledgers, with an auditor's rights. */
async function runningAudit(config: Config, natsUrl: string, log: Logger): Promise<RunningAudit> {
  const { startAudit } = await import("../services/audit/service.ts");
  return startAudit({
    frontUrl: natsUrlAs(config, natsUrl, "audit"),
    natsUrl: natsUrlAs(config, natsUrl, "auditor"),
    caFile: config.tlsCa,
    folder: join(config.dataDir, "audit"),
    archiveFolder: config.archive,
    log,
  });
}

function refusedLogins({ dataDir }: Config, log: Logger): RefusedLogins {
  const onTrouble = (error: unknown): void => log.warn({ why: messageOf(error) }, "a refused login cannot be recorded");
  return new RefusedLogins(dataDir, { onTrouble });
}

async function runningApi(
  config: Config,
  natsUrl: string,
  { log, defects, refused, families }: Ports & { refused: RefusedLogins; families?: () => Family[] },
): Promise<RunningApi> {
  const { startApi } = await import("../services/api/server.ts");
  const { httpHost: host, httpPort: port, httpNames: names = [], tls, tlsCa: caFile } = config;
  const events = natsUrlAs(config, natsUrl, "events");
  const natsUrls = { requests: natsUrlAs(config, natsUrl, "http"), events, control: events };
  const certificate = tls === undefined ? undefined : readTls(tls);
  return startApi({
    natsUrls,
    caFile,
    host,
    port,
    names,
    userOf: userOfKeys(config),
    needsKey: needsKeys(config),
    certificate,
    version: version(),
    log,
    archive: new Archive(config.archive),
    onLoginRefused: (from) => refused.note({ over: "http", host: from }),
    defects: () => defects.counts,
    families,
  });
}

async function runningGuestToken(config: Config, natsUrl: string, ports: Ports): Promise<() => Promise<void>> {
  const { startGuestToken } = await import("../services/guest-token/server.ts");
  const requests = natsUrlAs(config, natsUrl, "guest-token");
  const events = natsUrlAs(config, natsUrl, "guest-token-events");
  return startGuestToken({
    natsUrls: { requests, events },
    caFile: config.tlsCa,
    ...ports,
    outbound: outboundWith(config.outboundAllow),
  });
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

/** Returns a function that stops it. */
async function startPicker(
  config: Config,
  url: string,
  { log, defects, open: pools, onFrozen }: Ports & { open: string[]; onFrozen?: () => void },
): Promise<() => Promise<void>> {
  const key = loadKey(config.dataDir);
  const signer = loadSigningKey(config.dataDir);
  const opened: Bus[] = [];
  const open = async (name: Role): Promise<Bus> => {
    const bus = await openBus(natsUrlAs(config, url, name), `remuda ${name}`, { caFile: config.tlsCa });
    opened.push(bus);
    bus.onLost(() => {
      log.fatal({ connection: name }, "the connection to NATS is lost, and is not restored");
      process.exit(1);
    });
    return bus;
  };
  const buses = {
    ledger: await open("ledger"),
    front: await open("front"),
    follower: await open("follower"),
    peers: await open("peers"),
  };
  const { ledgerBytesMax, poolsMax, proxiesMax } = config;
  const outbound = outboundWith(config.outboundAllow);
  const witnessFolder = join(config.dataDir, "witness");
  const picker = new Picker({
    buses,
    key,
    signer,
    log,
    defects,
    version: version(),
    ledgerBytesMax,
    poolsMax,
    proxiesMax,
    outbound,
    witnessFolder,
    upkeep: upkeepOf(config, url),
    users: usersOn(config, url),
    ...given({ onFrozen }),
  });
  const stop = async (): Promise<void> => {
    await picker.stop();
    await Promise.all(opened.map((bus) => bus.close()));
  };
  try {
    await picker.start({ open: pools });
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}

/** Returns a function that stops it. */
async function startSources(
  config: Config,
  url: string,
  { mayBeWrong = false, ...ports }: Ports & { mayBeWrong?: boolean },
): Promise<() => Promise<void>> {
  const { Sources } = await import("../services/sources/sources.ts");
  const open = (name: Role): Promise<Bus> =>
    openBus(natsUrlAs(config, url, name), `remuda ${name}`, { caFile: config.tlsCa });
  const [front, requests] = await Promise.all([open("sources-front"), open("sources")]);
  const { sourcesFile: file } = config;
  const folder = join(config.dataDir, "sources");
  const outbound = outboundWith(config.outboundAllow);
  const users = usersOn(config, url);
  const sources = new Sources({
    ...{ front, pools: poolsOver(requests), clock: systemClock, outbound, file, folder, ...ports },
    // A user that the file does not have yet is an administrator of no pool.
    poolsOf: users && ((name) => (users(name) ?? { pools: [] }).pools),
  });
  const stop = async (): Promise<void> => {
    await sources.stop();
    await Promise.all([front.close(), requests.close()]);
  };
  try {
    await sources.start({ mayBeWrong });
    return stop;
  } catch (error) {
    await stop();
    throw error;
  }
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
