// The doctor's checks of the broker. Does it answer? Is it new enough? Does it write to disk before it acknowledges? Do
// its streams suit the ledgers? Does its clock agree with this machine's?
import { ledgerStream, outcomesStream } from "../protocol/subjects.ts";
import { Archive } from "../runtime/archive/archive.ts";
import { type DaysLeft, daysLeft } from "../runtime/archive/days-left.ts";
import { compareVersions, oldestVersion, parseVersion } from "../runtime/broker/executable.ts";
import { readInfo } from "../runtime/broker/info.ts";
import { type Bus, openBus } from "../runtime/bus.ts";
import type { Config } from "../runtime/config.ts";
import { whyNot } from "../runtime/dial.ts";
import { Fault } from "../runtime/fault.ts";
import { clockOffset, ifStream, JsError, type StreamInfo, streamInfo } from "../runtime/jetstream-api.ts";
import { hostsIn, maskedNatsUrl, readNatsUrl } from "../runtime/nats-url.ts";
import { payloadFault } from "../runtime/payload.ts";
import { wrongIn } from "../runtime/streams.ts";
import { counted } from "../runtime/text.ts";
import { ledgerSettings, outcomesSettings } from "../services/picker/stream-settings.ts";
import type { Address } from "./address.ts";
import { withBus } from "./connection.ts";
import { type Finding, findingsOf, ok, problem, warning } from "./finding.ts";
import { lookAtSyncing } from "./syncing.ts";

/** The doctor's connections. Each check uses the connection whose user has the rights for it. */
export interface Links {
  /** Answers the protocol's requests. */
  requests: Address;
  ledger: Address;
  /** Reads the stream of outcomes. */
  outcomes: Address;
}

const about = "broker";
const dialMs = 3500;
const greetingMs = 1000;
const checkMs = 3000;
const fullShares = { problem: 0.9, warning: 0.75 };
/** Fewer days are a warning. */
const daysLeftMin = 14;
/** More than this is a warning. */
const offsetMsMax = 50;

export async function lookAtBroker(
  config: Config,
  given: { links: Links; startedAt: { wall: number; monotonic: number } },
): Promise<{ findings: Finding[]; answers: boolean }> {
  const { links } = given;
  const ledgerUrl = links.ledger.natsUrl;
  let bus: Bus | undefined;
  let why: unknown;
  const dialled = await findingsOf(
    about,
    async () => {
      const { natsUrl, tlsCa } = links.ledger;
      bus = await openBus(natsUrl, "remuda doctor", { caFile: tlsCa }).catch((error: unknown) => {
        why = error;
        throw error;
      });
      return server(bus, ledgerUrl);
    },
    dialMs,
  );
  if (bus === undefined) return { findings: [await noConnection(config, ledgerUrl, why)], answers: false };
  const there = bus;
  try {
    const looks = await Promise.all([
      findingsOf("fsync", () => lookAtSyncing(there, config.dataDir, ledgerUrl), checkMs),
      findingsOf("ledger", () => ledger(there), checkMs),
      findingsOf("archive", async () => lookAtArchive(config, await daysLeft(new Archive(config.archive))), checkMs),
      findingsOf("outcomes", () => withBus(links.outcomes, "remuda doctor", outcomes), checkMs),
      findingsOf("clock", () => clock(there, given.startedAt), checkMs),
    ]);
    return { findings: [...dialled, ...looks.flat()], answers: true };
  } finally {
    await there.close();
  }
}

/** @param why the connection failed, if known. */
async function noConnection(config: Config, url: string, why: unknown): Promise<Finding> {
  if (why instanceof Fault && why.code === "fix-setup") return problem(about, why.message);
  const where = maskedNatsUrl(url);
  const said = why instanceof Fault && why.cause !== undefined ? ` (${whyNot(why.cause)})` : "";
  const { port } = URL.parse(readNatsUrl(url).servers[0] ?? "") ?? {};
  const server = { host: hostsIn(url)[0] ?? "", port: Number(port || 4222) };
  const greeting = await readInfo(server, greetingMs).catch(() => undefined);
  if (greeting !== undefined) {
    const rejected = `the NATS server (${greeting.version}) at ${where} rejects the connection${said}`;
    return problem(about, rejected, "Correct REMUDA_NATS_URL: user, password, TLS.");
  }
  const what = `no NATS server answers at ${where}`;
  if (config.natsUrl === undefined) return problem(about, `${what}: nothing runs`, 'Start it with "npx remuda up".');
  return problem(about, what, "Start it, or correct REMUDA_NATS_URL. If that is not set, Remuda runs its own server.");
}

function server(bus: Bus, url: string): Finding[] {
  const { info } = bus.nc;
  const text = info?.version ?? "of an unknown version";
  const version = parseVersion(text);
  const where = maskedNatsUrl(url);
  const isOld = version !== undefined && compareVersions(version, oldestVersion) < 0;
  const update = `Run ${oldestVersion.join(".")} or newer. Older servers lack fixes that the fence of a ledger needs.`;
  const what = `nats-server ${text} at ${where}`;
  const findings = [isOld ? problem(about, `${what} is too old`, update) : ok(about, what)];
  if (info?.jetstream !== true) {
    const todo = "Start the server with -js, or with jetstream { store_dir: … } in its configuration.";
    findings.push(problem(about, "JetStream is off", todo));
  }
  const payload = payloadFault(bus);
  if (payload !== undefined) findings.push(problem(about, payload.message));
  return findings;
}

async function ledger(bus: Bus): Promise<Finding[]> {
  const info = await presentStream(bus, ledgerStream);
  if (info === undefined) return [warning("ledger", "there is no ledger yet", 'The first "npx remuda up" makes one.')];
  const { config, state } = info;
  const findings: Finding[] = [];
  for (const { key, actual, expected } of wrongIn(config, ledgerSettings({ isSingle: true, ledgerBytesMax: 0 }))) {
    const what = `the stream ${ledgerStream} has ${key} ${JSON.stringify(actual ?? null)}. Ledgers need ${JSON.stringify(expected)}`;
    findings.push(problem("ledger", what, `nats stream edit ${ledgerStream}   # or restore it from a backup`));
  }
  findings.push(...copies(bus, info, "ledger"));
  const max = Number(config["max_bytes"] ?? -1);
  const size = `${(state.bytes / 1024 ** 2).toFixed(1)} MiB in ${state.messages} commits`;
  if (max <= 0) return [...findings, ok("ledger", `${size}, with no size limit`)];
  const share = state.bytes / max;
  const what = `${size}, ${Math.floor(share * 100)} % of ${(max / 1024 ** 2).toFixed(0)} MiB`;
  const todo = `Raise its limit: nats stream edit ${ledgerStream} --max-bytes=… (At 90 % leases are refused.)`;
  if (share >= fullShares.problem) return [...findings, problem("ledger", what, todo)];
  return [...findings, share >= fullShares.warning ? warning("ledger", what, todo) : ok("ledger", what)];
}

function lookAtArchive({ archive }: Config, left: DaysLeft | undefined): Finding[] {
  if (left === undefined) return [];
  const { days, freeBytes, bytesPerDay } = left;
  const grows = `${megabytes(bytesPerDay)} MiB a day`;
  const what = `${archive} grows by ${grows}, and ${megabytes(freeBytes)} MiB are free: enough for ${days} days`;
  const todo = "Move old files of the archive to another disk, or set REMUDA_ARCHIVE_KEEP_DAYS.";
  return [days < daysLeftMin ? warning("archive", what, todo) : ok("archive", what)];
}

function megabytes(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(bytes < 10 * 1024 ** 2 ? 1 : 0);
}

async function outcomes(bus: Bus): Promise<Finding[]> {
  const info = await presentStream(bus, outcomesStream);
  if (info === undefined)
    return [warning("outcomes", "there is no stream for them yet", 'The first "npx remuda up" makes it.')];
  const findings: Finding[] = [];
  for (const { key, actual, expected } of wrongIn(info.config, outcomesSettings({ isSingle: true }))) {
    const what = `the stream ${outcomesStream} has ${key} ${JSON.stringify(actual ?? null)}. It needs ${JSON.stringify(expected)}`;
    const todo = `Delete the stream ${outcomesStream} while no worker runs. The next start makes it again.`;
    findings.push(problem("outcomes", what, todo));
  }
  findings.push(...copies(bus, info, "outcomes"));
  return findings.length > 0 ? findings : [ok("outcomes", `${info.state.messages} kept`)];
}

function copies(bus: Bus, info: StreamInfo, what: string): Finding[] {
  const replicas = Number(info.config["num_replicas"] ?? 1);
  if (bus.nc.info?.cluster === undefined || replicas >= 3) return [];
  const kept = `only ${counted(replicas, "server")} of the cluster ${replicas === 1 ? "has" : "have"} the stream`;
  const sentence = `${kept}, so it is unavailable while one such server is down`;
  return [warning(what, sentence, `nats stream edit ${String(info.config["name"])} --replicas=3`)];
}

async function clock(bus: Bus, startedAt: { wall: number; monotonic: number }): Promise<Finding[]> {
  const findings: Finding[] = [];
  const { offsetMs = 0, withinMs = -1 } = (await ifStream(clockOffset(bus, ledgerStream))) ?? {};
  const certainMs = Math.abs(offsetMs) - withinMs;
  const side = offsetMs < 0 ? "behind" : "ahead of";
  const what = `the broker's clock is ${Math.abs(offsetMs)} ms ${side} this machine's (±${withinMs} ms)`;
  const todo = "Synchronize the clocks of both machines by NTP (chrony, systemd-timesyncd).";
  if (withinMs < 0) findings.push(ok("clock", "not compared: there is no stream yet"));
  else findings.push(certainMs > offsetMsMax ? warning("clock", what, todo) : ok("clock", what));
  const jumpMs = Math.round(Date.now() - startedAt.wall - (performance.now() - startedAt.monotonic));
  if (Math.abs(jumpMs) > offsetMsMax) {
    findings.push(warning("clock", `this machine's clock was just set by ${jumpMs} ms`, todo));
  }
  return findings;
}

async function presentStream(bus: Bus, name: string): Promise<StreamInfo | undefined> {
  try {
    return await ifStream(streamInfo(bus, name));
  } catch (error) {
    if (error instanceof JsError) throw new Error(`JetStream says: ${error.message}`, { cause: error });
    throw error;
  }
}
