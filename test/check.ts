// `npm run check`: format, lint, types, borders, that the docs match the code, plain words, and that the lock file
// holds every platform's packages. Runs all of them, says which failed, and ends with 1 if any did.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { borderBreaches } from "./borders.ts";
import { staleDocs } from "./docs/generated.ts";
import { wordFindings } from "./words.ts";

const root = new URL("..", import.meta.url).pathname;

const commands: [what: string, command: string, args: string[]][] = [
  ["format and lint", "biome", ["ci", "--colors=off", "."]],
  ["types", "tsc", ["-p", "tsconfig.json"]],
  ["types of the dashboard", "tsc", ["-p", "web/tsconfig.json"]],
  ["types of the pure core", "tsc", ["-p", "tsconfig.pure.json"]],
];

const failed: string[] = [];
for (const [what, command, args] of commands) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) failed.push(what);
}
for (const [what, findings] of [
  ["borders", borderBreaches(root)],
  ["docs", staleDocs(root)],
  ["words", wordFindings(root)],
  ["lock file", lockFileGaps()],
] as const) {
  for (const finding of findings) console.error(finding);
  if (findings.length > 0) failed.push(what);
}
console.log(failed.length === 0 ? "check: all well" : `check: ${failed.join(", ")} failed`);
process.exitCode = failed.length === 0 ? 0 : 1;

interface LockEntry {
  optionalDependencies?: Record<string, string>;
  resolved?: string;
  integrity?: string;
  hasInstallScript?: boolean;
}

/**
 * Optional packages for other platforms that a package names and the lock lacks make `npm ci` fail elsewhere. No
 * package may run code when it is installed, and each must be the one that the lock means, by its hash.
 */
function lockFileGaps(): string[] {
  const lock = JSON.parse(readFileSync(`${root}package-lock.json`, "utf8")) as {
    packages: Record<string, LockEntry>;
  };
  const gaps: string[] = [];
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (entry.resolved?.startsWith("http") === true)
      gaps.push(`package-lock.json: ${path} names the host it came from`);
    if (entry.hasInstallScript === true) gaps.push(`package-lock.json: ${path} has an install script`);
    if (path !== "" && entry.integrity?.startsWith("sha512-") !== true)
      gaps.push(`package-lock.json: ${path} has no SHA-512`);
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
      const there = [`${path}/node_modules/${name}`, `node_modules/${name}`].some((each) => each in lock.packages);
      if (!there) gaps.push(`package-lock.json: ${path} wants the optional ${name}, which the lock lacks`);
    }
  }
  return gaps;
}
