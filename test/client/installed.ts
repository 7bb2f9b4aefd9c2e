// The published form of the client: packed and installed into an empty project.
import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

const root = new URL("../../", import.meta.url).pathname;

/** @param folder an empty one. */
export function packAndInstall(folder: string): void {
  const filename = pack("client", folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  run("npm", ["install", "--prefer-offline", "--ignore-scripts", join(folder, filename)], folder);
}

/** @param of the package's folder in the checkout. Returns the name of the file. */
export function pack(of: string, folder: string): string {
  // Packing builds in the checkout, so only one test file may do it at a time.
  const lock = join(root, "node_modules/.remuda-client-pack.lock");
  const packed = run("flock", [lock, "npm", "pack", "--json", "--pack-destination", folder], join(root, of));
  // prepack may print before the list.
  return (JSON.parse(packed.slice(packed.search(/^[[{]/m))) as { filename: string }[])[0]!.filename;
}

function run(command: string, args: string[], cwd: string): string {
  return execFileSync(command, [...args, "--loglevel=error", "--no-audit", "--no-fund"], {
    cwd,
    encoding: "utf8",
    env: environment(),
  });
}

/** This Node, and the machine's own if there is one. */
export function nodesAtHand(): Map<string, string> {
  const found = new Map<string, string>();
  const folders = (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter((each) => each !== "" && !each.includes("node_modules"));
  for (const path of [process.execPath, ...folders.map((each) => join(each, "node"))]) {
    if (!existsSync(path)) continue;
    const version = execFileSync(path, ["--version"], { encoding: "utf8", env: environment() }).trim();
    if (!found.has(`node ${version}`)) found.set(`node ${version}`, path);
  }
  return found;
}

/** npm finds the project's compiler on the PATH. */
function environment(): NodeJS.ProcessEnv {
  return {
    ...process.env,
    NODE_OPTIONS: "",
    PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env["PATH"]}`,
  };
}
