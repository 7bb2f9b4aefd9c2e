// Runs a program to its end. What it printed is part of the error, because that is where the reason stands.

import { execFile } from "node:child_process";

export type RunOptions = { readonly msMax: number; readonly cwd?: string };

/** Answers with what it printed; throws an Error with the last lines where it ended otherwise than with 0. */
export function run(program: string, args: readonly string[], { msMax, cwd }: RunOptions): Promise<string> {
  return new Promise((done, failed) => {
    execFile(program, args, { timeout: msMax, cwd, encoding: "utf8", maxBuffer: 8 * 1024 ** 2 }, (error, out, err) => {
      if (error === null) return done(out);
      const reason = error.killed ? `it took longer than ${msMax} ms` : endOf(err || out) || error.message;
      failed(new Error(`${program} failed (${reason})`, { cause: error }));
    });
  });
}

function endOf(text: string): string {
  return text.trim().split("\n").slice(-3).join(" / ");
}
