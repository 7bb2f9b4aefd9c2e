// Runs one command after the other in a thread that keeps the command line's modules loaded, for tests of a command's
// output and effects. A separate process costs each command half a second of a core; here only the first one pays that.
// The thread lasts as long as the test process, so that the next file has it as well. Tests of signals, terminals,
// children and real file descriptors use runCli of process.ts.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { Ran, Run } from "./command-thread.ts";
import { type Environment, environment, runCli } from "./process.ts";

const ENDED_WITHIN_MS = 60_000;

let thread: Worker | undefined;
let isBusy = false;

/** As runCli. A command that starts while another one runs gets its own process. */
export async function runCommand(
  args: readonly string[],
  { dataDir, env = {}, stdin = "" }: { dataDir: string; env?: Environment; stdin?: string | Uint8Array },
): Promise<{ code: number; stdout: string; stderr: string }> {
  if (isBusy) return runCli(args, { dataDir, env, stdin });
  return runInThread({ args: [...args], env: environment(dataDir, env), stdin });
}

/** With these variables alone. Call it for one command after the other. */
export async function runInThread(run: Run): Promise<Ran> {
  if (isBusy) throw new Error("another command runs");
  isBusy = true;
  try {
    thread ??= begin();
    const answered = once(thread, "message", { signal: AbortSignal.timeout(ENDED_WITHIN_MS) });
    thread.postMessage(run);
    const [ran] = (await answered) as [Ran];
    return ran;
  } finally {
    isBusy = false;
  }
}

function begin(): Worker {
  const begun = new Worker(new URL("./command-thread.ts", import.meta.url), { stdin: true });
  begun.unref();
  return begun;
}
