// A Redis for the demo and the benchmarks, if one is installed: on loopback, on a free port.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./free-port.ts";

const readyMsMax = 5_000;

/** undefined: there is no redis-server on the PATH. @param fsync of its append-only file; absent: it has none. */
export async function startRedis(
  folder: string,
  fsync?: "always" | "everysec",
): Promise<{ port: number; pid: number | undefined; stop(): Promise<void> } | undefined> {
  const port = await freePort();
  const file = fsync === undefined ? ["--appendonly", "no"] : ["--appendonly", "yes", "--appendfsync", fsync];
  const options = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", ...file, "--dir", folder];
  // If this process is killed, Redis ends too.
  const child = spawn("setpriv", ["--pdeathsig", "TERM", "redis-server", ...options], { stdio: "ignore" });
  let gone = false;
  const ended = new Promise<void>((resolve) => {
    for (const event of ["error", "exit"]) child.once(event, () => resolve());
  });
  void ended.then(() => {
    gone = true;
  });
  const stop = (): Promise<void> => {
    child.kill("SIGTERM");
    return ended;
  };
  for (const deadline = performance.now() + readyMsMax; performance.now() < deadline && !gone; await sleep(20)) {
    if (await answers(port)) return { port, pid: child.pid, stop };
  }
  await stop();
  return undefined;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
