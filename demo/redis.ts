// The demo's own Redis, if one is installed: in memory, on loopback, on a free port.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "./free-port.ts";

const readyMsMax = 5_000;

/** undefined: there is no redis-server on the PATH. */
export async function startRedis(folder: string): Promise<{ port: number; stop(): Promise<void> } | undefined> {
  const port = await freePort();
  const options = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder];
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
    if (await answers(port)) return { port, stop };
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
