// Run by `npm pack`. The package is JavaScript, because Node strips no types under node_modules. It contains the files
// that main.ts and the threads of the services reach, and the dashboard, in the same folders, under dist/.
import { spawnSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const dist = `${root}dist`;
rmSync(dist, { recursive: true, force: true });
if (process.argv[2] !== "--clean") build();

function build() {
  const { status } = spawnSync("tsc", ["-p", "cli/tsconfig.json"], { cwd: root, stdio: "inherit" });
  if (status !== 0) throw new Error("tsc failed (is it on the PATH? npm puts it there)");
  // The compiler changes the names in imports, and not those of threads and processes.
  for (const name of readdirSync(dist, { recursive: true, encoding: "utf8" }).filter((each) => each.endsWith(".js"))) {
    const code = readFileSync(`${dist}/${name}`, "utf8");
    const changed = code.replaceAll(/(new URL\("[\w./-]+)\.ts(", import\.meta\.url\))/g, "$1.js$2");
    if (changed !== code) writeFileSync(`${dist}/${name}`, changed);
  }
  // The dashboard is JavaScript as it is.
  cpSync(`${root}web`, `${dist}/web`, { recursive: true, filter: (path) => !path.endsWith("tsconfig.json") });
  const { name, version, type } = JSON.parse(readFileSync(`${root}package.json`, "utf8"));
  writeFileSync(`${dist}/package.json`, `${JSON.stringify({ name, version, type })}\n`);
}
