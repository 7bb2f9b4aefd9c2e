// Remuda itself for the demo: `remuda up` in a process of its own, killed with SIGKILL in the middle and started again on
// the same data directory and ports. Its broker dies with it.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { fileURLToPath } from "node:url";

const entry = fileURLToPath(new URL("../cli/remuda.js", import.meta.url));
const readyMsMax = 120_000;

export interface DemoService {
  readonly natsUrl: string;
  readonly httpUrl: string;
  readonly pid: number;
  /** SIGKILL, and up again at once. Resolves with how long it was away, in milliseconds. */
  killAndRestart(): Promise<number>;
  stop(): Promise<void>;
}

export async function startDemoService(dataDir: string): Promise<DemoService> {
  const env = {
    ...process.env,
    REMUDA_DATA_DIR: dataDir,
    REMUDA_NATS_PORT: String(await freePort()),
    REMUDA_HTTP_PORT: String(await freePort()),
    REMUDA_NATS_URL: "",
  };
  let child = await ready(env);
  const { REMUDA_NATS_URL: natsUrl = "", REMUDA_HTTP_URL: httpUrl = "" } = clientVariables(env);
  return {
    natsUrl,
    httpUrl,
    get pid() {
      return child.pid ?? 0;
    },
    async killAndRestart() {
      const at = performance.now();
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
      child = await ready(env);
      return performance.now() - at;
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      await gone;
    },
  };
}

/** What `remuda env` says a client needs. */
function clientVariables(env: NodeJS.ProcessEnv): Record<string, string> {
  const { stdout } = spawnSync(process.execPath, [entry, "env", "--json"], { env, encoding: "utf8" });
  return JSON.parse(stdout) as Record<string, string>;
}

async function ready(env: NodeJS.ProcessEnv): Promise<ChildProcess> {
  const child = spawn(process.execPath, [entry, "up"], { env, stdio: ["ignore", "pipe", "pipe"] });
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
  return child;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // A TCP server has one.
  server.close();
  await once(server, "close");
  return port;
}
