// Remuda as a user has it: the command itself in a process of its own. No process is ever left behind.
//
// Every process started here leads a process group. A group ends with `stop()` or with `stopAllRemudas()` (for
// afterEach). A group that several files share ends with the test process, as every group does if that is killed: a
// watcher ends the remaining groups when its pipe closes. Only groups started here are ever signalled, by number.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import type { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { loginAs } from "./login.ts";
import { eventually } from "./poll.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const ENTRY = "cli/main.ts";
const READY = "remuda is ready";
/** The first start may have to fetch the broker. */
const READY_WITHIN_MS = 120_000;
const CLI_WITHIN_MS = 60_000;
const INTERRUPTED_WITHIN_MS = 30_000;
const GONE_WITHIN_MS = 10_000;
/** The number of last characters of a process's output that are kept (at times twice as many). */
const OUTPUT_CHARS_MAX = 4 << 20;

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/** Variables for the process. `undefined` removes one that it would otherwise inherit. */
export type Environment = Readonly<Record<string, string | undefined>>;

export type RemudaProcess = {
  readonly child: ChildProcess;
  /** Also the number of its process group. */
  readonly pid: number;
  /** With the login of an administrator if NATS has users. */
  readonly natsUrl: string;
  /** As in the ready line: without a login. */
  readonly bareNatsUrl: string;
  /** With the login of another user: "operator", "auditor", … */
  natsUrlAs(user: string): string;
  /** Present if the ready line names one. */
  readonly httpUrl: string | undefined;
  readonly gatewayUrl: string | undefined;
  readonly readyLine: string;
  readonly exited: Promise<Exit>;
  /** stdout and stderr so far, in the order of their arrival. */
  output(): string;
  /** SIGKILL to the process alone; its broker is not signalled. Resolves when the process has ended. */
  kill9(): Promise<void>;
  /**
   * SIGINT. With `wholeGroup` to the group, as Ctrl-C on a terminal does; otherwise to the process alone. Resolves when
   * it has ended.
   */
  interrupt(options?: { wholeGroup?: boolean }): Promise<Exit & { ms: number }>;
  /** Ends the whole group. Safe to call again, and after any other end. */
  stop(): Promise<void>;
};

/**
 * Starts `remuda up`, on ports chosen by the system unless `env` says otherwise, and waits for its ready line. It gets
 * the test's own environment without Vitest's variables, and without those of REMUDA_… except the one that names the
 * broker's binary. `entry` is another script in place of cli/main.ts. With `isShared`, it and its data directory last
 * as long as the test process, even if a file stops it. Throws, with the process's output, when it ends or stays silent
 * instead.
 */
export async function startRemuda({
  dataDir,
  env = {},
  args = ["up"],
  entry = ENTRY,
  readyWithinMs = READY_WITHIN_MS,
  isShared = false,
}: {
  dataDir: string;
  env?: Environment;
  args?: readonly string[];
  entry?: string;
  readyWithinMs?: number;
  isShared?: boolean;
}): Promise<RemudaProcess> {
  const ports = { REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0", REMUDA_GATEWAY_PORT: "0" };
  const group = await launch([entry, ...args], environment(dataDir, { ...ports, ...env }));
  if (isShared) {
    running.delete(group);
    removeAtEnd(dataDir);
  }
  try {
    const readyLine = await ready(group, readyWithinMs);
    const bareNatsUrl = /(?:nats|tls):\/\/[^\s,;()"']*\d/.exec(readyLine)?.[0];
    if (bareNatsUrl === undefined) throw new Error(`no nats:// URL in its ready line: ${readyLine}`);
    return {
      child: group.child,
      pid: group.pid,
      natsUrl: loginAs(dataDir, bareNatsUrl, "operator"),
      bareNatsUrl,
      natsUrlAs: (user) => loginAs(dataDir, bareNatsUrl, user),
      httpUrl: /https?:\/\/[^\s,;()"']*\d/.exec(readyLine)?.[0],
      gatewayUrl: /the gateway at (https?:\/\/\S*\d)/.exec(readyLine)?.[1],
      readyLine,
      exited: group.exited,
      output: group.output,
      kill9: async () => {
        group.child.kill("SIGKILL"); // does nothing once it has ended, when its number may be another's
        await group.exited;
      },
      interrupt: async ({ wholeGroup = false } = {}) => {
        const startedAt = performance.now();
        if (!wholeGroup) group.child.kill("SIGINT");
        else if (group.child.exitCode === null && group.child.signalCode === null) process.kill(-group.pid, "SIGINT");
        const exit = await within(INTERRUPTED_WITHIN_MS, group.exited, () => `it ignored SIGINT\n${group.output()}`);
        return { ...exit, ms: performance.now() - startedAt };
      },
      stop: async () => {
        await group.end();
        await whenFree(dataDir);
      },
    };
  } catch (error) {
    await group.end();
    throw error;
  }
}

/**
 * The watchdog ends the broker after the process, and holds the data directory until then. Only now may it be removed.
 */
async function whenFree(dataDir: string): Promise<void> {
  const lock = `${dataDir}/owner.lock`;
  await eventually(
    () => {
      if (existsSync(lock) && spawnSync("flock", ["--nonblock", lock, "true"]).status !== 0)
        throw new Error(`${lock} is held`);
    },
    { timeoutMs: 15_000, everyMs: 20 },
  );
}

/**
 * Runs one command to its end. `code` is the one that a shell would show: 128 + its number for a signal. Throws, with
 * the command's output, when it does not end in time. `stdin` is empty unless given.
 */
export async function runCli(
  args: readonly string[],
  {
    dataDir,
    env = {},
    stdin = "",
    entry = ENTRY,
    timeoutMs = CLI_WITHIN_MS,
  }: { dataDir: string; env?: Environment; stdin?: string | Uint8Array; entry?: string; timeoutMs?: number },
): Promise<{ code: number; stdout: string; stderr: string }> {
  const group = await launch([entry, ...args], environment(dataDir, env));
  try {
    group.child.stdin?.on("error", () => {}); // A command need not read its input.
    group.child.stdin?.end(stdin);
    await within(timeoutMs, group.closed, () => `remuda ${args.join(" ")} did not end\n${group.output()}`);
    const { code, signal } = await group.exited;
    return {
      code: code ?? 128 + constants.signals[signal ?? "SIGKILL"],
      stdout: group.stdout(),
      stderr: group.stderr(),
    };
  } finally {
    await group.end();
  }
}

/** Removes the data directory after the end of the test process, as soon as no broker holds it. */
export function removeAtEnd(dataDir: string): void {
  tellWatcher(`r${dataDir}`);
}

/** Ends every group that was started here and that still exists, except for the shared ones. */
export async function stopAllRemudas(): Promise<void> {
  await Promise.all([...running].map((group) => group.end()));
}

/** The processes of a group that still run; a zombie does not. Linux only. */
export function groupMembers(pgid: number): { pid: number; name: string }[] {
  const members: { pid: number; name: string }[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    // pid (name) state ppid pgrp …; the name may hold anything, parentheses too
    const stat = /^\d+ \((.*)\) (\S) \d+ (\d+) /s.exec(readStat(entry));
    if (stat === null || stat[2] === "Z" || stat[2] === "X" || Number(stat[3]) !== pgid) continue;
    members.push({ pid: Number(entry), name: stat[1] ?? "" });
  }
  return members;
}

type Group = {
  readonly child: ChildProcess;
  readonly pid: number;
  /** The leader has ended. */
  readonly exited: Promise<Exit>;
  /** The leader has ended, and no process writes to its output any more. */
  readonly closed: Promise<unknown>;
  output(): string;
  stdout(): string;
  stderr(): string;
  end(): Promise<void>;
};

const running = new Set<Group>();

async function launch(args: readonly string[], env: NodeJS.ProcessEnv): Promise<Group> {
  const child = spawn(process.execPath, args, { cwd: ROOT, env, detached: true, stdio: "pipe" });
  const exited = new Promise<Exit>((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await once(child, "spawn"); // rejects with the reason where it cannot be started
  const pid = child.pid!; // defined once it has been spawned
  tellWatcher(`+${pid}`);

  const text = { output: "", stdout: "", stderr: "" };
  const keep = (where: keyof typeof text, chunk: string) => {
    text[where] += chunk;
    if (text[where].length > 2 * OUTPUT_CHARS_MAX) text[where] = text[where].slice(-OUTPUT_CHARS_MAX);
  };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (chunk: string) => {
      keep(stream, chunk);
      keep("output", chunk);
    });
  }

  let ended: Promise<void> | undefined;
  const group: Group = {
    child,
    pid,
    exited,
    closed,
    output: () => text.output,
    stdout: () => text.stdout,
    stderr: () => text.stderr,
    end: () => {
      ended ??= endGroup(pid).then(() => {
        running.delete(group);
        tellWatcher(`-${pid}`);
      });
      return ended;
    },
  };
  running.add(group);
  return group;
}

async function endGroup(pgid: number): Promise<void> {
  await eventually(
    () => {
      const members = groupMembers(pgid);
      if (members.length === 0) return;
      // The number stays the group's own while one member exists, and one existed a moment ago.
      signalGroup(pgid);
      throw new Error(`group ${pgid} still has ${members.map(({ pid, name }) => `${name} (${pid})`).join(", ")}`);
    },
    { timeoutMs: GONE_WITHIN_MS, everyMs: 5 },
  );
}

function signalGroup(pgid: number): void {
  try {
    process.kill(-pgid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // it ended at this very moment
  }
}

async function ready(group: Group, withinMs: number): Promise<string> {
  const found = new Promise<string>((resolve) => {
    const look = () => {
      const line = group
        .stdout()
        .split("\n")
        .slice(0, -1)
        .find((line) => line.startsWith(READY)); // whole lines only
      if (line === undefined) return;
      group.child.stdout?.off("data", look);
      resolve(line.trimEnd());
    };
    group.child.stdout?.on("data", look);
  });
  const endedFirst = group.closed.then(async () => {
    const { code, signal } = await group.exited;
    throw new Error(`remuda ended (${signal ?? code}) before it was ready\n${group.output()}`);
  });
  return within(withinMs, Promise.race([found, endedFirst]), () => `remuda was not ready\n${group.output()}`);
}

async function within<T>(ms: number, promise: Promise<T>, errorMessage: () => string): Promise<T> {
  const timer = new AbortController();
  const late = sleep(ms, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`after ${ms} ms: ${errorMessage()}`);
  });
  late.catch(() => {}); // the loser of the race
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}

export function environment(dataDir: string, given: Environment): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => name === "REMUDA_NATS_SERVER" || !/^(REMUDA_|VITEST|NODE_ENV$|NODE_OPTIONS$)/.test(name),
  );
  // The targets of tests are on loopback.
  const outbound = { REMUDA_OUTBOUND_ALLOW: "127.0.0.0/8,::1" };
  return { ...Object.fromEntries(inherited), ...outbound, REMUDA_DATA_DIR: dataDir, ...given };
}

function readStat(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return ""; // it ended between the two looks
  }
}

// It is told of every group, and of shared data directories. When its input ends, for whatever reason, it ends the
// remaining groups, and removes these directories as soon as no broker holds them.
const WATCHER = `
  process.on("SIGINT", () => {});
  const left = new Set();
  const folders = new Set();
  const told = { "+": (text) => left.add(text), "-": (text) => left.delete(text), r: (text) => folders.add(text) };
  require("node:readline").createInterface({ input: process.stdin })
    .on("line", (line) => told[line[0]](line.slice(1)))
    .on("close", () => {
      for (const pgid of left) try { process.kill(-Number(pgid), "SIGKILL"); } catch {}
      for (const folder of folders) {
        require("node:child_process").spawnSync("flock", ["--wait", "10", folder + "/owner.lock", "true"]);
        require("node:fs").rmSync(folder, { recursive: true, force: true, maxRetries: 20 });
      }
      process.exit();
    });
`;
let watcher: Writable | undefined;

function tellWatcher(line: string): void {
  if (watcher === undefined) {
    const child = spawn(process.execPath, ["-e", WATCHER], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
    child.unref();
    watcher = child.stdin;
    (child.stdin as unknown as { unref(): void }).unref(); // a pipe is a socket; neither may keep the tests running
  }
  watcher.write(`${line}\n`);
}
