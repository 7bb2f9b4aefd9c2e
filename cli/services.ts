// The services of this process: each opens its connections, with the logins that its role needs, and starts.
// All but the picker are imported late, so that workers do not wait for the imports.
import { join } from "node:path";
import type { Logger } from "pino";
import { given } from "../protocol/given.ts";
import type { Role } from "../protocol/rights.ts";
import { Archive } from "../runtime/archive/archive.ts";
import { type Bus, openBus } from "../runtime/bus.ts";
import { systemClock } from "../runtime/clock.ts";
import type { Config } from "../runtime/config.ts";
import type { Defects } from "../runtime/defects.ts";
import { messageOf } from "../runtime/fault.ts";
import type { Family } from "../runtime/prometheus.ts";
import { loadSigningKey } from "../runtime/signing-key.ts";
import { readTls } from "../runtime/tls.ts";
import { RefusedLogins } from "../runtime/users-log.ts";
import type { RunningApi } from "../services/api/server.ts";
import type { RunningAudit } from "../services/audit/service.ts";
import { installationKey } from "../services/picker/installation.ts";
import { Picker } from "../services/picker/picker.ts";
import { poolsOver } from "../services/sources/pool.ts";
import { outboundWith } from "../transport/outbound.ts";
import { natsUrlAs, needsKeys, userOfKeys, usersByName, usersOn } from "./login.ts";
import { upkeepOf } from "./upkeep.ts";
import { version } from "./version.ts";

/** `defects`: those of the whole process. */
export type Ports = { log: Logger; defects: Defects };

/** One connection answers requests. Another reads ledgers, with an auditor's rights. */
export async function runningAudit(config: Config, natsUrl: string, log: Logger): Promise<RunningAudit> {
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

export function refusedLogins({ dataDir }: Config, log: Logger): RefusedLogins {
  const onTrouble = (error: unknown): void => log.warn({ why: messageOf(error) }, "a refused login cannot be recorded");
  return new RefusedLogins(dataDir, { onTrouble });
}

export async function runningApi(
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
    userNamed: usersByName(config),
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

export async function runningGuestToken(config: Config, natsUrl: string, ports: Ports): Promise<() => Promise<void>> {
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

/** Returns a function that stops it. */
export async function startPicker(
  config: Config,
  url: string,
  { log, defects, open: pools, onFrozen }: Ports & { open: string[]; onFrozen?: () => void },
): Promise<() => Promise<void>> {
  const signer = loadSigningKey(config.dataDir); // First: a data directory that cannot be used is reported at once.
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
  const { ledgerBytesMax, replicas, poolsMax, proxiesMax } = config;
  const outbound = outboundWith(config.outboundAllow);
  const witnessFolder = join(config.dataDir, "witness");
  let picker: Picker | undefined;
  const stop = async (): Promise<void> => {
    await picker?.stop();
    await Promise.all(opened.map((bus) => bus.close()));
  };
  try {
    const key = await installationKey(config.dataDir, buses.ledger);
    picker = new Picker({
      ...{ buses, key, signer, log, defects, ledgerBytesMax, replicas, poolsMax, proxiesMax, outbound, witnessFolder },
      version: version(),
      upkeep: upkeepOf(config, url),
      users: usersOn(config, url),
      ...given({ onFrozen }),
    });
    await picker.start({ open: pools });
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}

/** Returns a function that stops it. */
export async function startSources(
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
