// A page of docs/ whose commands are run as a reader would run them, in a folder with the contents of a clone. A shell
// runs the lines. Most of their commands are passed to the thread of command.ts, because each process would cost half a
// second of a core. A command that starts processes, or goes on for ever, is a process.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, symlinkSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { runInThread } from "./command.ts";

const root = new URL("../..", import.meta.url).pathname;

export function readPage(name: string): string {
  return readFileSync(join(root, "docs", name), "utf8");
}

/** npx finds the command there, and imports find the project's dependencies. The caller removes the folder. */
export function cloneFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "remuda-page-"));
  for (const name of ["node_modules", "package.json", "cli", "runtime", "services", "events", "state-machines"])
    symlinkSync(join(root, name), join(folder, name));
  return folder;
}

/** Passes its variables and words, each with a NUL after it. A failed command is an error of HTTP. */
const remuda = `remuda() {
  case "$1" in
    exec | run | up | watch) "$THIS_NODE" cli/main.ts "$@" ;;
    *) { env -0; printf '\\0'; printf '%s\\0' "$@"; } |
      curl -sS --fail-with-body --unix-socket "$COMMANDS" --data-binary @- http://commands/ ;;
  esac
}
`;

/** Runs the first shell block under a heading. @param put replacements for text of the page. */
export async function runBlock(
  page: string,
  heading: string,
  { folder, env = {}, put = {} }: { folder: string; env?: Record<string, string>; put?: Record<string, string> },
): Promise<{ code: number | null; output: string }> {
  const [, section = ""] = page.split(`## ${heading}\n`);
  const [, script = ""] = /```sh\n([\s\S]*?)```/.exec(section.split("\n## ")[0] ?? "") ?? [];
  if (script === "") throw new Error(`the page has no block under ${heading}`);
  const places = { "npx remuda": "remuda", ...put };
  const here = Object.entries(places).reduce((page, [there, ours]) => page.replaceAll(there, ours), script);
  let output = "";
  const socket = join(folder, "commands.sock");
  const commands = createServer(async (request, response) => {
    const ran = await commandIn(folder, await text(request));
    output += ran.stderr;
    response.writeHead(ran.code === 0 ? 200 : 500).end(ran.stdout);
  }).listen(socket);
  await once(commands, "listening");
  const child = spawn("sh", ["-euc", remuda + here], {
    cwd: folder,
    env: { ...process.env, NODE_OPTIONS: "", ...env, COMMANDS: socket, THIS_NODE: process.execPath },
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  commands.closeAllConnections();
  commands.close();
  return { code, output };
}

/** @param sent by the shell. A thread has the folder of its process. */
async function commandIn(folder: string, sent: string): ReturnType<typeof runInThread> {
  const end = sent.indexOf("\0\0");
  const words = sent
    .slice(end + 2)
    .split("\0")
    .slice(0, -1);
  const variables = sent.slice(0, end).split("\0");
  const env = variables.map((each) => {
    const at = each.indexOf("=");
    return [each.slice(0, at), each.slice(at + 1)];
  });
  const before = process.cwd();
  process.chdir(folder);
  try {
    return await runInThread({ args: words, env: Object.fromEntries(env), stdin: "" });
  } finally {
    process.chdir(before);
  }
}
