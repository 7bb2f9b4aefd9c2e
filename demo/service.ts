// Remuda itself for the demo and the benchmarks: `remuda up` in a separate process, on its own data directory and
// ports. It can be killed and started again on them. Its broker ends with it.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { freePort } from "./free-port.ts";

/** The script of the command line. */
export const entry = fileURLToPath(new URL("../cli/remuda.js", import.meta.url));
const readyMsMax = 120_000;
/**
 * Only one of the user's own settings is kept, the location of a NATS server. The others do not apply here, and the
 * pools of the user's Remuda must get no load.
 */
const kept = ["REMUDA_NATS_SERVER", "REMUDA_CACHE_DIR"];

export class ServiceProcess {
  readonly env: NodeJS.ProcessEnv;
  #child: ChildProcess | undefined;
  #stopped = false;
  /** With a client's login. */
  natsUrl = "";
  httpUrl = "";
  gatewayUrl = "";

  private constructor(env: NodeJS.ProcessEnv) {
    this.env = env;
  }

  /** Not started yet, so that its owner can stop it at any time. @param more variables for the process. */
  static async at(dataDir: string, more: NodeJS.ProcessEnv = {}): Promise<ServiceProcess> {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("REMUDA_") || kept.includes(name));
    return new ServiceProcess({
      ...Object.fromEntries(own),
      ...more,
      REMUDA_DATA_DIR: dataDir,
      REMUDA_NATS_PORT: String(await freePort()),
      REMUDA_HTTP_PORT: String(await freePort()),
      REMUDA_GATEWAY_PORT: "0",
    });
  }

  /** Undefined before the first start. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  async start(): Promise<void> {
    if (this.#stopped) throw new Error("the service was stopped");
    // If this process is killed, the service is asked to end.
    const args = ["--pdeathsig", "TERM", process.execPath, entry, "up"];
    this.#child = spawn("setpriv", args, { env: this.env, stdio: ["ignore", "pipe", "pipe"] });
    await ready(this.#child);
    if (this.natsUrl !== "") return; // The ports and the login stay the same.
    const variables = clientVariables(this.env);
    this.natsUrl = variables["REMUDA_NATS_URL"] ?? "";
    this.httpUrl = variables["REMUDA_HTTP_URL"] ?? "";
    this.gatewayUrl = variables["REMUDA_GATEWAY_URL"] ?? "";
  }

  /** Sends the signal and starts again at once. Resolves with how long the service was away, in milliseconds. */
  async restart(signal: NodeJS.Signals): Promise<number> {
    const at = performance.now();
    await this.#end(signal);
    await this.start();
    return performance.now() - at;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#end("SIGTERM");
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
  }
}

/** A client's settings, from `remuda env`. */
function clientVariables(env: NodeJS.ProcessEnv): Record<string, string> {
  const { stdout } = spawnSync(process.execPath, [entry, "env", "--json"], { env, encoding: "utf8" });
  return JSON.parse(stdout) as Record<string, string>;
}

async function ready(child: ChildProcess): Promise<void> {
  let said = "";
  const timer = setTimeout(() => child.kill("SIGKILL"), readyMsMax);
  try {
    await new Promise<void>((resolve, reject) => {
      child.stdout?.on("data", (chunk) => {
        said += chunk;
        if (said.includes("remuda is ready")) resolve();
      });
      child.stderr?.on("data", (chunk) => (said += chunk));
      child.once("error", reject);
      child.once("exit", () => reject(new Error(`the service did not start; it said:\n${said}`)));
    });
  } finally {
    clearTimeout(timer);
  }
}
