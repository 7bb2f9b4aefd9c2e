// `remuda up`: everything in one process, with a managed NATS server as its child unless REMUDA_NATS_URL names one.
// `remuda run picker`, `remuda run api`, `remuda run guest-token`: one service alone, on an external NATS. All services
// but the picker are imported when they are started, which takes as long as everything before it. Workers do not wait
// for that.

import { join } from "node:path";
import { type Logger, pino } from "pino";
import type { Role } from "../protocol/rights.ts";
import { findBinary } from "../runtime/broker/binary.ts";
import { type Broker, openBroker } from "../runtime/broker/broker.ts";
import { type Bus, openBus } from "../runtime/bus.ts";
import { systemClock } from "../runtime/clock.ts";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { isLoopback } from "../runtime/host.ts";
import { maskedNatsUrl, readNatsUrl } from "../runtime/nats-url.ts";
import { loadKey } from "../runtime/secrets.ts";
import { loadSigningKey } from "../runtime/signing-key.ts";
import { readTls } from "../runtime/tls.ts";
import { keysIn } from "../runtime/users.ts";
import type { RunningApi } from "../services/api/server.ts";
import type { RunningAudit } from "../services/audit/service.ts";
import { Picker } from "../services/picker/picker.ts";
import { type PoolPort, poolsOver } from "../services/sources/pool.ts";
import { outboundWith } from "../transport/outbound.ts";
import { atHost, removeAddress, writeAddress } from "./address.ts";
import { checkDemo, type Demo, endLastDemo, startDemo } from "./demo.ts";
import { brokerUsers, ensureUsers, natsUrlAs, usersFileOf } from "./login.ts";
import { version } from "./version.ts";

type Stop = () => Promise<void> | void;

/** Everything stops within this time. A part that does not stop is abandoned. */
const stopMsMax = 1800;

const say = (line: string): void => void process.stderr.write(`remuda: ${line}\n`);

export async function up(config: Config, env: NodeJS.ProcessEnv, { demo = false } = {}): Promise<void> {
  if (demo) checkDemo();
  const log = logger(config);
  const stopping: Stop[] = [];
  onSignals(() => stopAll(stopping));
  try {
    await checkSettings(config, say); // Before anything is started.
    const broker = config.natsUrl === undefined ? await manageBroker(config, env, { say, log }) : undefined;
    if (broker !== undefined) stopping.push(() => broker.stop());
    const url = broker?.url ?? config.natsUrl!; // One of the two is set.
    stopping.push(await startPicker(config, url, { log, open: ["default"] }));
    stopping.push(await runningGuestToken(config, url, log));
    const audit = await runningAudit(config, url, log);
    stopping.push(audit.stop);
    const api = await runningApi(config, url, log);
    stopping.push(api.stop);
    // A typing error in that file must not make a restart fail, because no leases could be granted then.
    stopping.push(await startSources(config, url, { log, mayBeWrong: true }));
    const shown = await setUpDemo(config, url, { demo, stopping });
    const listened = broker === undefined ? readNatsUrl(url).servers.join(",") : atHost(url, () => config.natsHost);
    const { tlsCa } = config;
    writeAddress(config, {
      natsUrl: listened,
      httpUrl: atHost(api.url, () => config.httpHost),
      ...(tlsCa === undefined ? {} : { tlsCa }),
    });
    stopping.push(() => removeAddress(config));
    const what = broker?.how === "adopted" ? " (adopted the NATS server of a start that was killed)" : "";
    const next = shown === undefined ? "npx remuda proxies add <file>" : `npx remuda exec -- curl -s ${shown.url}`;
    const ready = `remuda is ready at ${maskedNatsUrl(url)} and ${api.url}${what}. Next: ${next}`;
    process.stdout.write([ready, ...(shown?.lines ?? []), ""].join("\n"));
  } catch (error) {
    await stopAll(stopping);
    throw error;
  }
}

/** One service alone. */
export async function run(service: keyof typeof alone, config: Config): Promise<void> {
  const url = natsUrlOf(config, service);
  const stopping: Stop[] = [];
  onSignals(() => stopAll(stopping));
  const { stop, what } = await alone[service](config, url, logger(config));
  stopping.push(stop);
  process.stdout.write(`remuda is ready: ${what} ${maskedNatsUrl(url)}\n`);
}

type Alone = (config: Config, url: string, log: Logger) => Promise<{ stop: Stop; what: string }>;

const alone = {
  picker: async (config, url, log) => ({
    stop: await startPicker(config, url, { log, open: [] }),
    what: "a picker at",
  }),
  async api(config, url, log) {
    await checkSettings(config, say);
    const api = await runningApi(config, url, log);
    return { stop: api.stop, what: `HTTP at ${api.url} for` };
  },
  async sources(config, url, log) {
    return { stop: await startSources(config, url, { log }), what: `sources of ${config.sourcesFile} for` };
  },
  async "guest-token"(config, url, log) {
    return { stop: await runningGuestToken(config, url, log), what: "an executor of token refreshes at" };
  },
  audit: async (config, url, log) => ({ stop: (await runningAudit(config, url, log)).stop, what: "the audit at" }),
} satisfies Record<string, Alone>;

function natsUrlOf(config: Config, service: string): string {
  if (config.natsUrl !== undefined) return config.natsUrl;
  throw new Fault(
    "fix-setup",
    `REMUDA_NATS_URL is not set: a service by itself (${service}) needs to know the NATS server. (\`remuda up\` brings its own.)`,
  );
}

/** It answers on one connection, and reads ledgers on another, with an auditor's rights. */
async function runningAudit(config: Config, natsUrl: string, log: Logger): Promise<RunningAudit> {
  const { startAudit } = await import("../services/audit/service.ts");
  const natsUrls = { front: natsUrlAs(config, natsUrl, "audit"), ledger: natsUrlAs(config, natsUrl, "auditor") };
  return startAudit({ natsUrls, caFile: config.tlsCa, folder: join(config.dataDir, "audit"), log });
}

async function runningApi(config: Config, natsUrl: string, log: Logger): Promise<RunningApi> {
  const { startApi } = await import("../services/api/server.ts");
  const { httpHost: host, httpPort: port, httpNames: names = [], tls, tlsCa: caFile } = config;
  const natsUrls = { requests: natsUrlAs(config, natsUrl, "http"), events: natsUrlAs(config, natsUrl, "events") };
  const isKey = isLoopback(host) ? undefined : keysIn(usersFileOf(config));
  const certificate = tls === undefined ? undefined : readTls(tls);
  return startApi({ natsUrls, caFile, host, port, names, isKey, certificate, version: version(), log });
}

async function runningGuestToken(config: Config, natsUrl: string, log: Logger): Promise<() => Promise<void>> {
  const { startGuestToken } = await import("../services/guest-token/server.ts");
  const requests = natsUrlAs(config, natsUrl, "guest-token");
  const events = natsUrlAs(config, natsUrl, "guest-token-events");
  return startGuestToken({
    natsUrls: { requests, events },
    caFile: config.tlsCa,
    log,
    outbound: outboundWith(config.outboundAllow),
  });
}

/** Creates the users if needed. @throws Fault "fix-setup" if the settings cannot work. */
async function checkSettings(config: Config, say: (line: string) => void): Promise<void> {
  const { tls, natsUrl, natsUsers, natsHost, httpHost } = config;
  if (tls !== undefined) readTls(tls);
  if (natsUsers === undefined && (natsUrl === undefined || !isLoopback(httpHost))) await ensureUsers(config);
  const open = [
    ...(natsUrl === undefined && !isLoopback(natsHost) ? [`NATS (${natsHost})`] : []),
    ...(isLoopback(httpHost) ? [] : [`HTTP (${httpHost})`]),
  ];
  if (tls === undefined && open.length > 0) {
    say(
      `warning: ${open.join(" and ")} can be reached from other machines, and without TLS whoever is in between reads ` +
        "passwords and keys; set REMUDA_TLS_CERT and REMUDA_TLS_KEY",
    );
  }
}

async function manageBroker(
  config: Config,
  env: NodeJS.ProcessEnv,
  { say, log }: { say: (line: string) => void; log: Logger },
): Promise<Broker> {
  const { dataDir, natsHost: host, natsPort: port, natsServer, cacheDir } = config;
  const find = { say, cacheDir, path: env.PATH ?? "", ...(natsServer === undefined ? {} : { natsServer }) };
  const onFault = (fault: Fault): void => {
    log.error({ code: fault.code }, fault.message);
    if (fault.code === "in-use") process.exit(1); // The data directory has another owner now.
  };
  const users = brokerUsers(config);
  return openBroker({ dataDir, host, port, tls: config.tls, users, say, binary: () => findBinary(find), onFault });
}

/** Returns a function that stops it. */
async function startPicker(
  config: Config,
  url: string,
  given: { log: Logger; open: string[] },
): Promise<() => Promise<void>> {
  const key = loadKey(config.dataDir);
  const signer = loadSigningKey(config.dataDir);
  const opened: Bus[] = [];
  const open = async (name: Role): Promise<Bus> => {
    const bus = await openBus(natsUrlAs(config, url, name), `remuda ${name}`, { caFile: config.tlsCa });
    opened.push(bus);
    bus.onLost(() => {
      given.log.fatal({ connection: name }, "the connection to NATS has ended for good");
      process.exit(1);
    });
    return bus;
  };
  const buses = { ledger: await open("ledger"), front: await open("front"), follower: await open("follower") };
  const { ledgerBytesMax } = config;
  const outbound = outboundWith(config.outboundAllow);
  const picker = new Picker({ buses, key, signer, log: given.log, version: version(), ledgerBytesMax, outbound });
  const stop = async (): Promise<void> => {
    await picker.stop();
    await Promise.all(opened.map((bus) => bus.close()));
  };
  try {
    await picker.start({ open: given.open });
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
  { log, mayBeWrong = false }: { log: Logger; mayBeWrong?: boolean },
): Promise<() => Promise<void>> {
  const { Sources } = await import("../services/sources/sources.ts");
  const open = (name: Role): Promise<Bus> =>
    openBus(natsUrlAs(config, url, name), `remuda ${name}`, { caFile: config.tlsCa });
  const [front, requests] = await Promise.all([open("sources-front"), open("sources")]);
  const { sourcesFile: file } = config;
  const folder = join(config.dataDir, "sources");
  const outbound = outboundWith(config.outboundAllow);
  const sources = new Sources({ front, pools: poolsOver(requests), clock: systemClock, log, outbound, file, folder });
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

/** Removes the remains of a killed demo, and starts another if requested. */
async function setUpDemo(
  config: Config,
  url: string,
  given: { demo: boolean; stopping: Stop[] },
): Promise<Demo | undefined> {
  const pools = async (): Promise<PoolPort> => {
    const bus = await openBus(natsUrlAs(config, url, "operator"), "remuda demo", { caFile: config.tlsCa });
    given.stopping.push(() => bus.close());
    return poolsOver(bus);
  };
  try {
    await endLastDemo(pools, config.dataDir);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    say(`warning: proxies of an earlier demo are still there (${error.message}); the next start tries again`);
  }
  if (!given.demo) return undefined;
  const demo = await startDemo(await pools(), config.dataDir);
  given.stopping.push(() => demo.stop());
  return demo;
}

function onSignals(stop: () => Promise<void>): void {
  let asked = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (asked) return;
      asked = true;
      setTimeout(() => process.exit(1), stopMsMax).unref();
      void stop().then(() => process.exit(0));
    });
  }
}

/** In the reverse order of starting. If one fails to stop, the others are stopped all the same. */
async function stopAll(stopping: Stop[]): Promise<void> {
  for (const stop of stopping.splice(0).reverse()) {
    try {
      await stop();
    } catch {
      // It ends with the process.
    }
  }
}

function logger(config: Config): Logger {
  return pino({ level: config.logLevel, base: null }, pino.destination({ fd: 2, sync: true }));
}
