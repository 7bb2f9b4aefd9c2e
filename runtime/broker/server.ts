// One run of nats-server: started here, or found running and adopted. Two servers on one store would both silently
// accept the same compare-and-set. So each runs under the kernel's lock on one file. flock(1) takes the lock and
// becomes the server, so the lock lasts exactly as long as the process.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../fault.ts";
import { type BrokerFiles, confText, lastLines } from "./files.ts";
import { greetingOf, type Info, whyNotListen } from "./info.ts";
import { moveStreams } from "./move.ts";
import { birthOf, writeRecord } from "./record.ts";
import { Recovery, workOf } from "./recovery.ts";

export type Server = {
  readonly pid: number;
  readonly host: string;
  readonly port: number;
  readonly version: string;
  /** Settles once the process is gone, with a description of how it ended. */
  readonly gone: Promise<string>;
  /** Sends SIGTERM, and SIGKILL after 1.5 s. Settles once the process is gone. */
  end(): Promise<void>;
};

export type StartOptions = {
  readonly files: BrokerFiles;
  readonly binary: string;
  readonly host: string;
  /** 0: the system chooses. */
  readonly port: number;
  readonly settings: BrokerSettings;
  /** Gets the pid before the server runs, and 0 if the server ended before it was ready. */
  readonly guard: (pid: number) => Promise<void>;
  /** Ends the wait for a server that is no longer needed. */
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
  /** A server that is not ready, and does nothing for this long, is given up. */
  readonly idleMsMax?: number | undefined;
};

/** The server's settings apart from its address. */
export type BrokerSettings = {
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** If absent, every client may do everything. */
  readonly users?: BrokerUsers | undefined;
};

export type BrokerUsers = {
  /** Writes the current accounts, users and rights. */
  writeConf(path: string): Promise<void>;
  /** The account of each stream. */
  readonly streamAccounts: Readonly<Record<string, string>>;
};

const idleMsMaxDefault = 20_000;
const lookMs = 10;
const termMsMax = 1_500;

/** Settles when the server answers and its JetStream is up. */
export async function startServer(options: StartOptions): Promise<Server> {
  const { files, host, port, guard, settings } = options;
  if (port !== 0) await refusePortInUse(host, port);
  removePortsFiles(files);
  if (settings.users !== undefined) {
    moveStreams(files.store, settings.users.streamAccounts);
    await settings.users.writeConf(files.usersConf);
  }
  const conf = confText(files, { host, port, tls: settings.tls, hasUsers: settings.users !== undefined });
  writeFileSync(files.conf, conf, { mode: 0o600 });

  const child = await spawnServer(options);
  const pid = child.pid ?? 0;
  const gone = new Promise<string>((done) => {
    child.once("exit", (code, signal) => done(signal === null ? `exit ${code}` : `by ${signal}`));
  });
  const end = () => endProcess((signal) => child.kill(signal), gone);
  try {
    const record = { pid, birth: birthOf(pid) ?? "", serverName: files.serverName, host };
    writeRecord(files.record, { ...record, port });
    await guard(pid);
    // The server may run only now: from its first moment the watchdog ends it if we die.
    child.stdin?.end("go\n");

    const ready = await becomeReady(options, { pid, gone });
    writeRecord(files.record, { ...record, port: ready.port });
    return { pid, host, port: ready.port, version: ready.info.version, gone, end };
  } catch (error) {
    await end();
    await guard(0);
    throw error;
  }
}

export async function endProcess(kill: (signal: NodeJS.Signals) => void, gone: Promise<string>): Promise<void> {
  kill("SIGTERM");
  // A kill loses no acknowledged commit, because it was on disk before. It may lose the latest published outcomes.
  const timer = setTimeout(() => kill("SIGKILL"), termMsMax);
  await gone;
  clearTimeout(timer);
}

/** The port that the system chose for this process, once it is known. */
export function chosenPort(files: Pick<BrokerFiles, "folder">, pid: number): number | undefined {
  try {
    const name = readdirSync(files.folder).find((one) => one.endsWith(`_${pid}.ports`));
    const text = name === undefined ? "" : readFileSync(join(files.folder, name), "utf8");
    const address = /"nats":\s*\["(?:nats|tls):\/\/[^"]*:(\d+)"/.exec(text);
    return address === null ? undefined : Number(address[1]);
  } catch {
    return undefined;
  }
}

async function refusePortInUse(host: string, port: number): Promise<void> {
  const why = await whyNotListen({ host, port });
  if (why === undefined) return;
  const what =
    why === "EADDRINUSE" ? `port ${port} on ${host} is in use` : `nothing can listen on ${host}:${port} (${why})`;
  throw new Fault(
    "fix-setup",
    `${what}: stop what listens there, set REMUDA_NATS_PORT to another port (0: any that is free), ` +
      "or set REMUDA_NATS_URL if it is the NATS to be used",
  );
}

/** A killed server leaves its file behind, and pids are reused. */
function removePortsFiles(files: BrokerFiles): void {
  for (const name of readdirSync(files.folder)) {
    if (name.endsWith(".ports")) rmSync(join(files.folder, name), { force: true });
  }
}

async function spawnServer({ files, binary }: StartOptions): Promise<ChildProcess> {
  // `read` fails at the end of the pipe. So if we die before the "go", nothing starts.
  const script = 'read -r go && exec flock --nonblock --no-fork --conflict-exit-code 75 "$1" "$2" -c "$3" </dev/null';
  const errors = openSync(files.errors, "w", 0o600);
  try {
    // Detached: Ctrl-C in a terminal must not reach the broker, which stops last.
    const child = spawn("sh", ["-c", script, "broker", files.lock, binary, files.conf], {
      detached: true,
      cwd: files.folder,
      stdio: ["pipe", errors, errors],
    });
    // The exit event already reports a failure. A failed write of "go" adds nothing.
    child.stdin?.on("error", () => {});
    await new Promise((done, failed) => child.once("spawn", done).once("error", failed));
    return child;
  } finally {
    closeSync(errors);
  }
}

async function becomeReady(
  { files, host, port, signal, say, idleMsMax = idleMsMaxDefault }: StartOptions,
  { pid, gone }: { readonly pid: number; readonly gone: Promise<string> },
): Promise<{ readonly info: Info; readonly port: number }> {
  const recovery = new Recovery(idleMsMax, performance.now());
  let ended: string | undefined;
  gone.then((how) => {
    ended = how;
  });
  while (!signal.aborted) {
    if (ended !== undefined) {
      throw new Fault("fix-setup", `nats-server ended before it was ready (${ended}); it said:${lastLines(files)}`);
    }
    const actual = port === 0 ? chosenPort(files, pid) : port;
    const info = await greetingOf({ host, port: actual, serverName: files.serverName });
    if (actual !== undefined && info?.jetstream === true) return { info, port: actual };
    const look = recovery.look(workOf(pid), performance.now());
    if (look.say !== undefined) say(look.say);
    if (look.isOver) {
      const what = `nats-server was not ready, and did nothing for ${idleMsMax / 1000} s`;
      throw new Fault("retry-later", `${what}; it said:${lastLines(files)}`);
    }
    await sleep(lookMs);
  }
  throw new Fault("retry-later", "nats-server is not needed any more");
}
