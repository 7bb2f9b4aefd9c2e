// Run by `npm pack` in this folder. The published package is JavaScript, because Node strips no types under
// node_modules. It contains the files that client.ts reaches, events/ included.
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("./", import.meta.url));
rmSync(`${here}dist`, { recursive: true, force: true });
const { status } = spawnSync("tsc", ["-p", "tsconfig.json"], { cwd: here, stdio: "inherit" });
if (status !== 0) throw new Error("tsc failed (is it on the PATH? npm puts it there)");
