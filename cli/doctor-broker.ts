// The doctor's checks of the broker: whether it answers, is new enough and writes to disk before it acknowledges,
// whether its streams suit the ledgers, and whether its clock and ours agree.
import { ledgerStream, outcomesStream } from "../protocol/subjects.ts";
import { compareVersions, oldestVersion, parseVersion } from "../runtime/broker/executable.ts";
import { readInfo } from "../runtime/broker/info.ts";
import type { Bus } from "../runtime/bus.ts";
import type { Config } from "../runtime/config.ts";
import { whyNot } from "../runtime/dial.ts";
import { Fault } from "../runtime/fault.ts";
import { clockOffset, ifStream, JsError, type StreamInfo, streamInfo } from "../runtime/jetstream-api.ts";
import { maskedNatsUrl, readNatsUrl } from "../runtime/nats-url.ts";
import { type Links, openLink, withLink } from "./doctor-links.ts";
import { type Finding, findingsOf, ok, problem, warning } from "./finding.ts";
import { lookAtSyncing } from "./syncing.ts";

const about = "broker";
const dialMs = 3500;
const greetingMs = 1000;
const checkMs = 3000;
const fullShares = { problem: 0.9, warning: 0.75 };
/** The largest commit, with room to spare. */
const payloadBytesMin = 1024 ** 2;
const offsetMsWorth = 50;

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
      bus = await openLink(links.ledger).catch((error: unknown) => {
        why = error;
        throw error;
      });
      return server(bus, ledgerUrl);
    },
    dialMs,
  );
  if (bus === undefined) return { findings: [await nobody(config, ledgerUrl, why)], answers: false };
  const there = bus;
  try {
    const looks = await Promise.all([
      findingsOf("fsync", () => lookAtSyncing(there, config.dataDir, ledgerUrl), checkMs),
      findingsOf("ledger", () => ledger(there), checkMs),
      findingsOf("outcomes", () => withLink(links.outcomes, outcomes), checkMs),
      findingsOf("clock", () => clock(there, given.startedAt), checkMs),
    ]);
    return { findings: [...dialled, ...looks.flat()], answers: true };
  } finally {
    await there.close();
  }
}

/** @param why the connection failed, if known. */
async function nobody(config: Config, url: string, why: unknown): Promise<Finding> {
  if (why instanceof Fault && why.code === "fix-setup") return problem(about, why.message);
  const where = maskedNatsUrl(url);
  const said = why instanceof Fault && why.cause !== undefined ? ` (${whyNot(why.cause)})` : "";
  const { hostname, port } = URL.parse(readNatsUrl(url).servers[0] ?? "") ?? {};
  const greeted = await readInfo(
    { host: (hostname ?? "").replace(/[[\]]/g, ""), port: Number(port || 4222) },
    greetingMs,
  )
    .then(({ version }) => `a NATS server (${version}) is at ${where}, and does not let us in${said}`)
    .catch(() => undefined);
  if (greeted !== undefined) return problem(about, greeted, "Mend REMUDA_NATS_URL: user, password, TLS.");
  const what = `no NATS server answers at ${where}`;
  if (config.natsUrl === undefined) return problem(about, `${what}: nothing runs`, 'Start it with "npx remuda up".');
  return problem(about, what, "Start it, or mend REMUDA_NATS_URL; where that is not set, one is managed here.");
}

function server(bus: Bus, url: string): Finding[] {
  const { info } = bus.nc;
  const text = info?.version ?? "of an unknown version";
  const version = parseVersion(text);
  const where = maskedNatsUrl(url);
  const findings = [
    version !== undefined && compareVersions(version, oldestVersion) < 0
      ? problem(
          about,
          `nats-server ${text} at ${where} is too old`,
          `Run ${oldestVersion.join(".")} or newer: older ones lack fixes that the fence of a ledger leans on.`,
        )
      : ok(about, `nats-server ${text} at ${where}`),
  ];
  if (info?.jetstream !== true) {
    findings.push(
      problem(about, "JetStream is off", "Start it with -js, or with jetstream { store_dir: … } in its configuration."),
    );
  }
  if (info !== undefined && info.max_payload < payloadBytesMin) {
    const what = `it takes messages of at most ${info.max_payload} bytes: large commits and replies do not fit`;
    findings.push(warning(about, what, "Set max_payload: 4MB in its configuration."));
  }
  return findings;
}

const wanted = { storage: "file", retention: "limits", discard: "new", max_age: 0, max_msgs: -1, deny_delete: true };

async function ledger(bus: Bus): Promise<Finding[]> {
  const info = await presentStream(bus, ledgerStream);
  if (info === undefined) return [warning("ledger", "there is none yet", 'The first "npx remuda up" makes it.')];
  const { config, state } = info;
  const findings: Finding[] = [];
  for (const [key, value] of Object.entries(wanted)) {
    if (config[key] === value) continue;
    const what = `the stream ${ledgerStream} has ${key} ${JSON.stringify(config[key] ?? null)}, and ledgers need ${JSON.stringify(value)}`;
    findings.push(problem("ledger", what, `nats stream edit ${ledgerStream}   # or make it anew from a backup`));
  }
  findings.push(...copies(bus, info, "ledger"));
  const max = Number(config["max_bytes"] ?? -1);
  const size = `${(state.bytes / 1024 ** 2).toFixed(1)} MiB in ${state.messages} commits`;
  if (max <= 0) return [...findings, ok("ledger", `${size}, without a bound of its own`)];
  const share = state.bytes / max;
  const what = `${size}, ${Math.floor(share * 100)} % of ${(max / 1024 ** 2).toFixed(0)} MiB`;
  const todo = `Give it more room: nats stream edit ${ledgerStream} --max-bytes=… (at 90 % leases are refused).`;
  if (share >= fullShares.problem) return [...findings, problem("ledger", what, todo)];
  return [...findings, share >= fullShares.warning ? warning("ledger", what, todo) : ok("ledger", what)];
}

async function outcomes(bus: Bus): Promise<Finding[]> {
  const info = await presentStream(bus, outcomesStream);
  if (info === undefined)
    return [warning("outcomes", "there is no stream for them yet", 'The first "npx remuda up" makes it.')];
  const findings: Finding[] = [];
  for (const [key, value] of [
    ["storage", "file"],
    ["retention", "limits"],
  ] as const) {
    if (info.config[key] === value) continue;
    const what = `the stream ${outcomesStream} has ${key} ${JSON.stringify(info.config[key] ?? null)}, and it needs "${value}"`;
    findings.push(
      problem("outcomes", what, `Delete the stream ${outcomesStream} while no worker runs; the next start makes it.`),
    );
  }
  findings.push(...copies(bus, info, "outcomes"));
  return findings.length > 0 ? findings : [ok("outcomes", `${info.state.messages} kept`)];
}

function copies(bus: Bus, info: StreamInfo, what: string): Finding[] {
  const replicas = Number(info.config["num_replicas"] ?? 1);
  if (bus.nc.info?.cluster === undefined || replicas >= 3) return [];
  const sentence = `on a cluster, and on ${replicas} of its servers only: it goes down with one`;
  return [warning(what, sentence, `nats stream edit ${String(info.config["name"])} --replicas=3`)];
}

async function clock(bus: Bus, startedAt: { wall: number; monotonic: number }): Promise<Finding[]> {
  const findings: Finding[] = [];
  const { offsetMs = 0, withinMs = -1 } = (await ifStream(clockOffset(bus, ledgerStream))) ?? {};
  const certainMs = Math.abs(offsetMs) - withinMs;
  const what = `the broker's is ${Math.abs(offsetMs)} ms ${offsetMs < 0 ? "behind" : "ahead of"} ours (±${withinMs} ms)`;
  const todo = "Set both machines' clocks by NTP (chrony, systemd-timesyncd).";
  if (withinMs < 0) findings.push(ok("clock", "not compared: there is no stream to ask yet"));
  else findings.push(certainMs > offsetMsWorth ? warning("clock", what, todo) : ok("clock", what));
  const jumpMs = Math.round(Date.now() - startedAt.wall - (performance.now() - startedAt.monotonic));
  if (Math.abs(jumpMs) > offsetMsWorth) {
    findings.push(warning("clock", `this machine's clock was moved by ${jumpMs} ms just now`, todo));
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
