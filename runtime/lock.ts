// A kernel's lock on a file, held during a change. If several processes change one file, each sees the previous one's
// change. Node has no file locks, so flock(1) holds the lock for us, and releases it when we die in any way.
import { type ChildProcess, spawn } from "node:child_process";
import { Fault } from "./fault.ts";

const waitSecondsMax = 20;

export async function withLock<T>(path: string, use: () => Promise<T> | T): Promise<T> {
  const release = await holdLock(path);
  try {
    return await use();
  } finally {
    await release();
  }
}

/** Held until the returned function is called. @throws Fault "in-use" if another process holds it for `waitSeconds`. */
export async function holdLock(path: string, { waitSeconds = waitSecondsMax } = {}): Promise<() => Promise<void>> {
  const holder = await take(path, waitSeconds);
  return async () => {
    const gone = new Promise((done) => holder.once("exit", done));
    holder.stdin?.end();
    if (holder.exitCode === null && holder.signalCode === null) await gone;
  };
}

async function take(path: string, waitSeconds: number): Promise<ChildProcess> {
  // `read` ends when our end of the pipe closes.
  const args = ["--wait", String(waitSeconds), "--no-fork", "--conflict-exit-code", "75", path];
  const child = spawn("flock", [...args, "sh", "-c", "echo held; read -r _"], { stdio: ["pipe", "pipe", "ignore"] });
  child.stdin.on("error", () => {});
  const outcome = await new Promise<"held" | number | Error>((done) => {
    child.stdout.once("data", () => done("held"));
    child.once("error", done);
    child.once("close", (code) => done(code ?? -1));
  });
  if (outcome === "held") return child;
  if (outcome === 75) throw new Fault("in-use", `another process has held ${path} for ${waitSeconds} s; try again`);
  const why = outcome instanceof Error ? outcome.message : `exit ${outcome}`;
  throw new Fault("fix-setup", `${path} cannot be locked with flock(1), of util-linux: ${why}`);
}
