// A command that runs as a child, with the standard input and outputs of this process. Signals are passed on to it.
// This process ends after it.
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { codeOf, messageOf } from "../runtime/fault.ts";
import { Descent } from "./descent.ts";

export type Ended = { code: number } | { signal: NodeJS.Signals } | { code: 126 | 127; whyNot: string };

export interface Child {
  /** Resolves when it has ended, or could not be started. */
  ended: Promise<Ended>;
  /** Signals the child and its descendants that run at the first call or later. */
  end(signal: NodeJS.Signals): void;
  /** From now on this process handles signals again. */
  forget(): void;
}

const passedOn = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export function startChild([command = "", ...args]: readonly string[], env: NodeJS.ProcessEnv): Child {
  // Signals are handled before the child runs. Otherwise a signal could leave the child and its lease unattended.
  let child: ChildProcess | undefined;
  let descent: Descent | undefined;
  let ended = false;
  const passOn = (signal: NodeJS.Signals): void => {
    // After the end of the child, a signal means that the user does not want to wait for the reports.
    if (ended) process.exit(128 + constants.signals[signal]);
    // Ctrl-C on a terminal reaches every process there. To many programs a second SIGINT means "at once".
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
        settle(notRun(command, error)); // An invalid command: an empty name, a NUL in an argument.
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

/** By the convention of shells. */
export function exitCodeOf(ended: Ended): number {
  return "signal" in ended ? 128 + constants.signals[ended.signal] : ended.code;
}

function hasTerminal(): boolean {
  return process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
}

function notRun(command: string, error: unknown): Ended {
  const code = codeOf(error) || messageOf(error);
  const known: Record<string, string> = {
    ENOENT: "no such command, or the current folder does not exist",
    EACCES: "it is not executable",
    E2BIG: "its arguments are too long",
    ERR_INVALID_ARG_VALUE: "it is empty",
  };
  return { code: code === "ENOENT" ? 127 : 126, whyNot: `cannot run ${command || '""'}: ${known[code] ?? code}` };
}
