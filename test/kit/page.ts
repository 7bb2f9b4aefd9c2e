// A page of docs/ whose commands are run as a reader would run them, in a folder with the contents of a clone.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

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

/** Runs the first shell block under a heading. @param put replacements for text of the page. */
export async function runBlock(
  page: string,
  heading: string,
  { folder, env = {}, put = {} }: { folder: string; env?: Record<string, string>; put?: Record<string, string> },
): Promise<{ code: number | null; output: string }> {
  const [, section = ""] = page.split(`## ${heading}\n`);
  const [, script = ""] = /```sh\n([\s\S]*?)```/.exec(section.split("\n## ")[0] ?? "") ?? [];
  if (script === "") throw new Error(`the page has no block under ${heading}`);
  const places = { "npx remuda": `"${process.execPath}" cli/main.ts`, ...put };
  const here = Object.entries(places).reduce((text, [there, ours]) => text.replaceAll(there, ours), script);
  const child = spawn("sh", ["-euc", here], {
    cwd: folder,
    env: { ...process.env, NODE_OPTIONS: "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, output };
}
