// The real service for benches: `up` in a separate process, on its own data directory and ports.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { withLogin } from "../runtime/nats-url.ts";
import { readUsers } from "../runtime/users.ts";

/** Arguments of the command line. */
export const main = new URL("../cli/main.ts", import.meta.url).pathname;

export class Service {
  /** With a client's login. */
  url = "";
  http = "";
  readonly dataDir: string;
  #child: ChildProcess | undefined;

  constructor(dataDir: string) {
    this.dataDir = dataDir;
  }

  get env(): NodeJS.ProcessEnv {
    return { ...process.env, REMUDA_DATA_DIR: this.dataDir, REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0" };
  }

  async start(): Promise<void> {
    const flags = (process.env["BENCH_NODE_FLAGS"] ?? "").split(" ").filter((flag) => flag !== "");
    const child = spawn(process.execPath, [...flags, main, "up"], {
      env: this.env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#child = child;
    const said = await new Promise<string>((resolve, reject) => {
      child.once("exit", () => reject(new Error("the service ended before it was ready")));
      child.stdout.on("data", (chunk) => resolve(String(chunk)));
    });
    const [url, http] = [/nats:\/\/[\w.:]+\d/, /http:\/\/[\w.:]+\d/].map((form) => form.exec(said)?.[0]);
    const user = readUsers(join(this.dataDir, "users.json"))?.find(({ name }) => name === "client");
    if (url === undefined || http === undefined || user === undefined) throw new Error(`no address in: ${said}`);
    this.url = withLogin(url, user);
    this.http = http;
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
  }

  /** Of the service and of its broker: seconds of CPU time, peak megabytes. */
  spent(): { name: string; cpu: number; mb: number }[] {
    const pid = this.#child?.pid ?? 0;
    const broker = Number(execFileSync("pgrep", ["-P", String(pid), "nats-server"], { encoding: "utf8" }).trim());
    return [
      { name: "service", ...usageOf(pid) },
      { name: "nats-server", ...usageOf(broker) },
    ];
  }
}

function usageOf(pid: number): { cpu: number; mb: number } {
  const ticks = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return { cpu: (Number(ticks[11]) + Number(ticks[12])) / 100, mb: Number(peak) / 1024 };
}
