// Whether the broker writes to disk before it acknowledges (`sync_interval: always`). For the managed broker its
// configuration tells. For another broker its monitoring tells, if we may read it. The client protocol does not tell.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Bus } from "../runtime/bus.ts";
import { readNatsUrl } from "../runtime/nats-url.ts";
import { type Finding, ok, problem, warning } from "./finding.ts";

const about = "fsync";
const askMs = 1000;
const monitoringPort = 8222;
const todo = "Set sync_interval: always in the jetstream { … } of its configuration, and restart it.";

export async function lookAtSyncing(bus: Bus, dataDir: string, url: string): Promise<Finding[]> {
  const serverName = bus.nc.info?.server_name ?? "";
  const conf = textOf(join(dataDir, "nats", "nats.conf"));
  if (serverName !== "" && textOf(join(dataDir, "nats", "server-name")).trim() === serverName) {
    const isAlways = /^\s*sync_interval:\s*always\s*$/m.test(conf);
    if (isAlways) return [ok(about, "an acknowledged commit is on disk (sync_interval: always)")];
    return [
      problem(
        about,
        "the managed broker runs without sync_interval: always",
        "Restart the service: it writes the configuration anew.",
      ),
    ];
  }
  const seen = (await bySystem(bus)) ?? (await byMonitoring(url, serverName));
  if (seen === true) return [ok(about, "an acknowledged commit is on disk (sync_interval: always)")];
  if (seen === false) {
    return [
      problem(about, "an acknowledged commit may be lost with the power: the broker syncs only now and then", todo),
    ];
  }
  const what = "unknown: this broker is not ours, and what it tells its clients does not say";
  return [
    warning(
      about,
      what,
      `Look for sync_interval: always in its configuration (or /varz: jetstream.config.sync_always). ${todo}`,
    ),
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
    return varz.server_name === serverName ? syncsAlways(varz) : undefined; // Another server's answer says nothing about this one.
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
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
