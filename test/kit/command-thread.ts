// The thread of command.ts. For each command it evaluates cli/main.ts anew, with the command's own streams, variables
// and exit. Anything a command does after it has ended (in a timer, say) cannot affect the next one.
import { AsyncLocalStorage } from "node:async_hooks";
import { Readable, Writable } from "node:stream";
import { parentPort } from "node:worker_threads";

export interface Run {
  args: string[];
  env: NodeJS.ProcessEnv;
  stdin: string | Uint8Array;
}

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

interface Running {
  stdin: Readable;
  stdout: Writable;
  stderr: Writable;
  exit(code: number): void;
}

const current = new AsyncLocalStorage<Running>();
const own = { stdin: process.stdin, stdout: process.stdout, stderr: process.stderr };
for (const name of ["stdin", "stdout", "stderr"] as const)
  Object.defineProperty(process, name, { get: () => current.getStore()?.[name] ?? own[name] });
process.exit = ((code) => current.getStore()?.exit(Number(code ?? process.exitCode ?? 0))) as typeof process.exit;

let count = 0;
parentPort?.on("message", async (run: Run) => parentPort?.postMessage(await ran(run)));

async function ran({ args, env, stdin }: Run): Promise<Ran> {
  for (const name of Object.keys(process.env)) delete process.env[name];
  for (const [name, value] of Object.entries(env)) if (value !== undefined) process.env[name] = value;
  process.argv.splice(2, process.argv.length, ...args);
  process.exitCode = undefined;
  const chunks: Record<"stdout" | "stderr", Buffer[]> = { stdout: [], stderr: [] };
  const kept = (name: "stdout" | "stderr") =>
    new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        chunks[name].push(chunk);
        done();
      },
    });
  const code = await new Promise<number>((resolve, reject) => {
    const running = { stdin: inputOf(stdin), stdout: kept("stdout"), stderr: kept("stderr"), exit: resolve };
    count += 1;
    current
      .run(running, () => import(`../../cli/main.ts?run=${count}`))
      .then(() => resolve(Number(process.exitCode ?? 0)), reject);
  });
  const text = (name: "stdout" | "stderr") => Buffer.concat(chunks[name]).toString();
  return { code, stdout: text("stdout"), stderr: text("stderr") };
}

function inputOf(bytes: string | Uint8Array): Readable {
  return Readable.from(bytes.length === 0 ? [] : [Buffer.from(bytes)], { objectMode: false });
}
