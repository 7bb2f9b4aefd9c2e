// The gateways that are compared: each is a process, with the same proxies behind it.
import { type ChildProcess, execFileSync, fork, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../demo/free-port.ts";
import { entry, ServiceProcess } from "../demo/service.ts";

export interface Contender {
  name: string;
  port: number;
  pid: number;
  /** Processes that work for it: the broker, and the service where that is a process of its own. */
  others?: Record<string, number>;
  stop(): Promise<void> | void;
}

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** The proxies and the target. */
export async function startSite(): Promise<{ ports: number[]; stop(): void }> {
  const child = fork(here("gateway-site.ts"));
  const [ports] = (await once(child, "message")) as [number[]];
  return { ports, stop: () => child.disconnect() };
}

/** @param how.isApart the gateway is a process of its own (`remuda run gateway`). */
export async function startGateway(
  folder: string,
  ports: number[],
  { env, isApart }: { env: NodeJS.ProcessEnv; isApart: boolean },
): Promise<Contender> {
  const own = { REMUDA_OUTBOUND_ALLOW: "127.0.0.0/8" };
  const service = await ServiceProcess.at(folder, { ...own, ...(isApart ? {} : env) });
  await service.start();
  const call = async (method: string, path: string, body: object): Promise<void> => {
    const answer = await fetch(`${service.httpUrl}/v1/pools/default${path}`, { method, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(await answer.text());
  };
  const policy = { rate: null, usage: null, concurrency: null, failures: null, streak: null };
  await call("PATCH", "", { policy });
  await call("POST", "/proxies", { proxies: ports.map((port) => `127.0.0.1:${port}`) });
  const pid = nodeOf(service.pid ?? 0);
  const [broker = ""] = spawnSync("pgrep", ["-P", String(pid), "nats-server"], { encoding: "utf8" }).stdout.split("\n");
  if (!isApart) {
    const port = Number(new URL(service.gatewayUrl).port);
    return { name: "gateway", port, pid, others: { broker: Number(broker) }, stop: () => service.stop() };
  }
  const args = ["--pdeathsig", "TERM", process.execPath, entry, "run", "gateway"];
  const REMUDA_NATS_URL = `nats://127.0.0.1:${service.env["REMUDA_NATS_PORT"]}`;
  const child = spawn("setpriv", args, {
    env: { ...service.env, ...env, REMUDA_NATS_URL },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [said] = (await once(child.stdout, "data")) as [Buffer];
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    await service.stop();
  };
  const port = Number(/a gateway at http:\S+:(\d+)/.exec(String(said))?.[1]);
  return { name: "gateway", port, pid: nodeOf(child.pid ?? 0), others: { service: pid, broker: Number(broker) }, stop };
}

/** `setpriv` and the command's script replace themselves or start Node. */
function nodeOf(pid: number): number {
  const children = spawnSync("pgrep", ["-P", String(pid), "node"], { encoding: "utf8" }).stdout.trim();
  return children === "" ? pid : nodeOf(Number(children.split("\n")[0]));
}

export async function startChain(ports: number[]): Promise<Contender> {
  const child = fork(here("gateway-chain.ts"), ports.map(String));
  const [port] = (await once(child, "message")) as [number];
  return { name: "proxy-chain", port, pid: child.pid ?? 0, stop: () => child.disconnect() };
}

/** Undefined: it is not installed. */
export async function startSquid(folder: string, ports: number[]): Promise<Contender | undefined> {
  if (spawnSync("squid", ["-v"]).status !== 0) return undefined;
  const port = await freePort();
  const lines = [
    `http_port 127.0.0.1:${port}`,
    ...ports.map((each) => `cache_peer 127.0.0.1 parent ${each} 0 round-robin no-query no-digest name=p${each}`),
    ...["never_direct allow all", "nonhierarchical_direct off", "cache deny all", "cache_mem 8 MB"],
    ...["acl all_ports port 1-65535", "http_access allow all", "access_log none", "max_filedescriptors 16384"],
    ...[`pid_filename ${folder}/squid.pid`, `cache_log ${folder}/squid.log`, "shutdown_lifetime 0 seconds"],
    ...["pinger_enable off", "via off", "forwarded_for delete", "coredump_dir none"],
  ];
  writeFileSync(join(folder, "squid.conf"), lines.join("\n"));
  const child = spawn("squid", ["-N", "-f", join(folder, "squid.conf")], { stdio: "ignore" });
  for (let tried = 0; tried < 100 && !(await isOpen(port)); tried++)
    await new Promise((resolve) => setTimeout(resolve, 100));
  return { name: "squid", port, pid: child.pid ?? 0, stop: () => stopped(child) };
}

async function stopped(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

/** Seconds of CPU time, of its other processes as well, and megabytes now. */
export function spentBy({ pid, others = {} }: Contender): { cpu: number; mb: number; others: Record<string, number> } {
  const mb = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
  const spent = Object.entries(others).map(([name, other]) => [name, cpuOf(other)] as const);
  return { cpu: cpuOf(pid), mb, others: Object.fromEntries(spent) };
}

const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

function cpuOf(pid: number): number {
  const ticks = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(ticks[11]) + Number(ticks[12])) / ticksPerSecond;
}
