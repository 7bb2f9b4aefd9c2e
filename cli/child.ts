// A command run as a child, with our own standard input and outputs. Our signals are passed on to it, and it decides
// how to react. We end when it has ended.
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { Descent } from "./descent.ts";

export type Ended = { code: number } | { signal: NodeJS.Signals } | { code: 126 | 127; whyNot: string };

export interface Child {
  /** Settles when it has ended, or could not be started. */
  ended: Promise<Ended>;
  /** Signals the child and its descendants: those that run when this is first called, and later ones. */
  end(signal: NodeJS.Signals): void;
  /** From now on signals are handled by this process again. */
  forget(): void;
}

const passedOn = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export function startChild([command = "", ...args]: readonly string[], env: NodeJS.ProcessEnv): Child {
  // Before the child runs. A signal in between would leave the child and its lease unattended.
  let child: ChildProcess | undefined;
  let descent: Descent | undefined;
  let ended = false;
  const passOn = (signal: NodeJS.Signals): void => {
    if (ended) process.exit(128 + constants.signals[signal]); // A second signal means that the user does not want to wait for the reports.
    // Ctrl-C on a terminal reaches every process there. A second SIGINT would mean "at once" to many programs.
    if (signal !== "SIGINT" || !hasTerminal()) child?.kill(signal);
  };
  for (const signal of passedOn) process.on(signal, passOn);
  return {
    ended: new Promise<Ended>((resolve) => {
      const settle = (how: Ended): void => {
        ended = true;
        resolve(how);
      };
      try {
        child = spawn(command, args, { env, stdio: "inherit" });
        child.once("error", (error) => settle(notRun(command, error)));
        child.once("exit", (code, signal) => settle(signal === null ? { code: code ?? 1 } : { signal }));
      } catch (error) {
        settle(notRun(command, error)); // Not a valid command at all: an empty name, a NUL in an argument.
      }
    }),
    end: (signal) => {
      if (descent === undefined && child?.pid !== undefined) descent = new Descent(child.pid);
      descent?.signal(signal);
    },
    forget: () => {
      for (const signal of passedOn) process.off(signal, passOn);
    },
  };
}

/** In a shell's convention. */
export function exitCodeOf(ended: Ended): number {
  return "signal" in ended ? 128 + constants.signals[ended.signal] : ended.code;
}

function hasTerminal(): boolean {
  return process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
}

function notRun(command: string, error: unknown): Ended {
  const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
  const known: Record<string, string> = {
    ENOENT: "no such command, or no such folder to run it in",
    EACCES: "it is not executable",
    E2BIG: "its arguments are too long",
    ERR_INVALID_ARG_VALUE: "it is empty",
  };
  return { code: code === "ENOENT" ? 127 : 126, whyNot: `cannot run ${command || '""'}: ${known[code] ?? code}` };
}
