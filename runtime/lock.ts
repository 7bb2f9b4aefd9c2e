// A kernel's lock on a file. Node has no file locks, so a shell under flock(1) holds the lock for this process. The
// shell's standard input is a pipe from this process, and the kernel closes it when this process dies in any way.
import { type ChildProcess, spawn } from "node:child_process";
import { resolve } from "node:path";
import { Fault } from "./fault.ts";

const waitSecondsMax = 20;

/** Runs `use` while it holds the lock. @throws Fault "in-use" if another process holds it too long. */
export async function withLock<T>(path: string, use: () => Promise<T> | T): Promise<T> {
  const holder = await takeLock(path, { waitSeconds: waitSecondsMax });
  if (holder === undefined)
    throw new Fault("in-use", `another process has held ${path} for ${waitSecondsMax} s; try again`);
  try {
    return await use();
  } finally {
    await releaseLock(holder);
  }
}

/**
 * Returns the process that holds the lock; undefined if another one has held it for `waitSeconds`.
 * @param given.script the script that the holder runs, with its arguments. It prints a line first, and ends when its
 * input ends.
 * @throws Fault "fix-setup" if this machine has no flock(1).
 */
export async function takeLock(
  path: string,
  given: { waitSeconds?: number; script?: readonly string[] } = {},
): Promise<ChildProcess | undefined> {
  const { waitSeconds = 0, script = ["echo held; read -r _"] } = given;
  const flock = ["--wait", String(waitSeconds), "--no-fork", "--conflict-exit-code", "75", resolve(path)];
  // Detached: Ctrl-C in a terminal reaches this process alone, which then stops everything in order.
  const child = spawn("flock", [...flock, "sh", "-c", ...script], { detached: true, cwd: "/" });
  child.stdin.on("error", () => {}); // The exit event already reports a dead holder.
  let said = "";
  child.stderr.on("data", (chunk) => {
    said = `${said}${chunk}`.slice(-500);
  });
  const outcome = await new Promise<"held" | number | Error>((done) => {
    child.stdout.once("data", () => done("held"));
    child.once("error", done);
    child.once("close", (code) => done(code ?? -1));
  });
  if (outcome === "held") return child;
  if (outcome === 75) return undefined;
  const why = outcome instanceof Error ? outcome.message : said.trim() || `exit ${outcome}`;
  throw new Fault(
    "fix-setup",
    `${path} cannot be locked (${why}). That needs flock(1) of util-linux, which only Linux has. ` +
      "Elsewhere run nats-server yourself and set REMUDA_NATS_URL.",
  );
}

/** Resolves when the holder has ended. */
export async function releaseLock(holder: ChildProcess): Promise<void> {
  if (holder.exitCode !== null || holder.signalCode !== null) return;
  const gone = new Promise((done) => holder.once("exit", done));
  holder.stdin?.end();
  await gone;
}
