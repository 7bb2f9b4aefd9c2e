// Remuda itself for the demo: `remuda up` in a separate process, killed with SIGKILL in the middle and started again on
// the same data directory and ports. Its broker dies with it.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";

const entry = fileURLToPath(new URL("../cli/remuda.js", import.meta.url));
const readyMsMax = 120_000;
/**
 * Of the user's own Remuda settings, only the location of a NATS server is kept. The others do not apply to the demo.
 */
const kept = ["REMUDA_NATS_SERVER", "REMUDA_CACHE_DIR"];

export class DemoService {
  readonly #env: NodeJS.ProcessEnv;
  #child: ChildProcess | undefined;
  #stopped = false;
  /** With a client's login. */
  natsUrl = "";
  httpUrl = "";

  private constructor(env: NodeJS.ProcessEnv) {
    this.#env = env;
  }

  /** Not started yet, so that its owner can stop it at any time. */
  static async at(dataDir: string): Promise<DemoService> {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith("REMUDA_") || kept.includes(name));
    return new DemoService({
      ...Object.fromEntries(own),
      REMUDA_DATA_DIR: dataDir,
      REMUDA_NATS_PORT: String(await freePort()),
      REMUDA_HTTP_PORT: String(await freePort()),
    });
  }

  async start(): Promise<void> {
    if (this.#stopped) throw new Error("the demo has ended");
    // If we are killed, it is asked to end.
    const args = ["--pdeathsig", "TERM", process.execPath, entry, "up"];
    this.#child = spawn("setpriv", args, { env: this.#env, stdio: ["ignore", "pipe", "pipe"] });
    await ready(this.#child);
    const variables = clientVariables(this.#env);
    this.natsUrl = variables["REMUDA_NATS_URL"] ?? "";
    this.httpUrl = variables["REMUDA_HTTP_URL"] ?? "";
  }

  /** Sends SIGKILL and restarts at once. Resolves with how long it was away, in milliseconds. */
  async killAndRestart(): Promise<number> {
    const at = performance.now();
    await this.#end("SIGKILL");
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

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // A TCP server has one.
  server.close();
  await once(server, "close");
  return port;
}
