// Runs the tests and examples of clients in other languages, in processes that end with their test.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";

export const root = new URL("../../", import.meta.url).pathname;
/** Debian's: it has requests, httpx, aiohttp and Scrapy. The one on the PATH may be another. */
export const python = "/usr/bin/python3";

export interface Ran {
  code: number | null;
  /** stdout and stderr, in the order of their arrival. */
  output: string;
}

export interface Running {
  /** stdout and stderr so far. */
  readonly output: string;
  readonly ended: Promise<Ran>;
  write(text: string): void;
}

/** @param options.env besides the test's own, without those that would change the program's behaviour. */
export function start(
  command: string,
  args: readonly string[],
  { cwd, env = {} }: { cwd: string; env?: Record<string, string> },
): Running {
  const own = Object.entries(process.env).filter(([name]) => !/^(REMUDA_|NODE_OPTIONS$|PYTHON|GOFLAGS$)/.test(name));
  const child = spawn(command, args, {
    cwd,
    env: { ...Object.fromEntries(own), PYTHONDONTWRITEBYTECODE: "1", ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  child.stdin.on("error", () => {}); // It may have ended.
  const ended = new Promise<Ran>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
  return {
    get output() {
      return output;
    },
    ended,
    write: (text) => void child.stdin.write(text),
  };
}

export function run(
  command: string,
  args: readonly string[],
  options: { cwd: string; env?: Record<string, string> },
): Promise<Ran> {
  const running = start(command, args, options);
  return running.ended;
}

/** No C compiler is needed, no module is fetched, and no other version of Go. */
export const goEnv = { CGO_ENABLED: "0", GOFLAGS: "-mod=mod", GOPROXY: "off", GOTOOLCHAIN: "local" };

/** Builds a wheel and an sdist of each of these folders, by their build backend. @returns their paths, in order. */
export async function buildPython(sources: readonly string[], folder: string): Promise<string[]> {
  const [copies, dist] = [join(folder, "built"), join(folder, "dist")];
  mkdirSync(dist);
  const places = sources.map((_, index) => join(copies, String(index)));
  // Building writes beside the sources.
  for (const [index, place] of places.entries()) cpSync(sources[index]!, place, { recursive: true });
  const program = [
    "import os, sys, setuptools.build_meta as backend",
    "dist, *places = sys.argv[1:]", // setuptools replaces the arguments.
    "for place in places:",
    "    os.chdir(place)",
    "    print(backend.build_wheel(dist), backend.build_sdist(dist))",
  ].join("\n");
  const { code, output } = await run(python, ["-c", program, dist, ...places], { cwd: folder });
  if (code !== 0) throw new Error(output);
  return readdirSync(dist)
    .sort()
    .map((name) => join(dist, name));
}

/** A fresh environment with these wheels, installed without a network. @returns its interpreter. */
export async function installPython(
  wheels: readonly string[],
  folder: string,
  { besides = [] }: { besides?: readonly string[] } = {},
): Promise<string> {
  const venv = join(folder, "venv");
  const own = join(venv, "bin/python3");
  const made = await run(python, ["-m", "venv", "--without-pip", ...besides, venv], { cwd: folder });
  if (made.code !== 0) throw new Error(made.output);
  const pip = ["-m", "pip", "--python", own, "install", "-q", "--no-index", ...wheels];
  const { code, output } = await run(python, pip, { cwd: folder });
  if (code !== 0) throw new Error(output);
  return own;
}
