// Does the broker write to disk before it acknowledges (`sync_interval: always`)? The configuration of the managed
// broker tells. Another broker tells in its monitoring, if it may be read. The client protocol does not tell.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Bus } from "../runtime/bus.ts";
import { resultOr } from "../runtime/fault.ts";
import { readNatsUrl } from "../runtime/nats-url.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";

const about = "fsync";
const askMs = 1000;
const monitoringPort = 8222;
const todo = "Set sync_interval: always in the jetstream { … } block of its configuration, and restart it.";
const synced = ok(about, "an acknowledged commit is on disk (sync_interval: always)");

export async function lookAtSyncing(bus: Bus, dataDir: string, url: string): Promise<Finding[]> {
  const serverName = bus.nc.info?.server_name ?? "";
  const conf = textOf(join(dataDir, "nats", "nats.conf"));
  if (serverName !== "" && textOf(join(dataDir, "nats", "server-name")).trim() === serverName) {
    if (/^\s*sync_interval:\s*always\s*$/m.test(conf)) return [synced];
    const what = "the managed broker runs without sync_interval: always";
    return [problem(about, what, "Restart the service: it writes the configuration again.")];
  }
  const seen = (await bySystem(bus)) ?? (await byMonitoring(url, serverName));
  if (seen === true) return [synced];
  if (seen === false) {
    const what = "a power failure may lose acknowledged commits: the broker writes to disk only from time to time";
    return [problem(about, what, todo)];
  }
  const where = "Look for sync_interval: always in its configuration (or /varz: jetstream.config.sync_always).";
  return [
    warning(about, "unknown: this broker is not managed here, and does not tell its clients", `${where} ${todo}`),
  ];
}

/** Only a system account gets an answer. */
async function bySystem(bus: Bus): Promise<boolean | undefined> {
  try {
    const subject = `$SYS.REQ.SERVER.${bus.nc.info?.server_id}.VARZ`;
    return syncsAlways((await bus.nc.request(subject, "", { timeout: askMs })).json<{ data?: Varz }>().data);
  } catch {
    return undefined;
  }
}

async function byMonitoring(url: string, serverName: string): Promise<boolean | undefined> {
  const host = URL.parse(readNatsUrl(url).servers[0] ?? "")?.hostname;
  try {
    const response = await fetch(`http://${host}:${monitoringPort}/varz`, { signal: AbortSignal.timeout(askMs) });
    const varz = (await response.json()) as Varz;
    return varz.server_name === serverName ? syncsAlways(varz) : undefined; // Otherwise it is another server.
  } catch {
    return undefined;
  }
}

interface Varz {
  server_name?: string;
  jetstream?: { config?: { sync_always?: boolean } };
}

function syncsAlways(varz: Varz | undefined): boolean | undefined {
  return varz?.jetstream?.config === undefined ? undefined : varz.jetstream.config.sync_always === true;
}

function textOf(path: string): string {
  return resultOr(() => readFileSync(path, "utf8"), "");
}
