// Runs a program to its end. The program's output is part of the error, because it has the reason.

import { execFile } from "node:child_process";

/** Returns the program's output. Throws an Error with the last lines if the exit code is not 0. */
export function run(
  program: string,
  args: readonly string[],
  { msMax, cwd }: { readonly msMax: number; readonly cwd?: string },
): Promise<string> {
  return new Promise((done, failed) => {
    execFile(program, args, { timeout: msMax, cwd, encoding: "utf8", maxBuffer: 8 * 1024 ** 2 }, (error, out, err) => {
      if (error === null) return done(out);
      const reason = error.killed ? `it took more than ${msMax} ms` : endOf(err || out) || error.message;
      failed(new Error(`${program} failed (${reason})`, { cause: error }));
    });
  });
}

function endOf(text: string): string {
  return text.trim().split("\n").slice(-3).join(" / ");
}
