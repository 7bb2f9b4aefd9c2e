// Run manually: `node test/client/every-node.ts`. It fetches Node 20, 22 and 24 into a separate folder, puts them on
// the PATH, and runs the package's test, which then finds all of them.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const root = new URL("../../", import.meta.url).pathname;
/** The package with the executable of this platform. It needs no install script. */
const platform = `node-${process.platform}-${process.arch}`;
const folder = mkdtempSync(join(tmpdir(), "every-node-"));
try {
  const paths = ["20", "22", "24"].map((version) => {
    const prefix = join(folder, version);
    mkdirSync(prefix);
    writeFileSync(join(prefix, "package.json"), JSON.stringify({ private: true }));
    execFileSync("npm", ["install", "--ignore-scripts", "--prefix", prefix, `${platform}@${version}`], {
      stdio: "inherit",
    });
    // Not under node_modules, because the test does not search there.
    const bin = join(folder, `bin-${version}`);
    symlinkSync(join(prefix, "node_modules", platform, "bin"), bin);
    return bin;
  });
  const { status } = spawnSync(
    process.execPath,
    ["node_modules/vitest/vitest.mjs", "run", "test/client/package.test.ts"],
    {
      cwd: root,
      stdio: "inherit",
      env: { ...process.env, PATH: [...paths, process.env["PATH"]].join(delimiter) },
    },
  );
  process.exitCode = status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
