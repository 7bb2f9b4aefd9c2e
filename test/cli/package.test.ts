// The command line as a package: packed, put into an empty folder as npm does, and linked. Its dependencies are links
// to those of the checkout, because npm takes half a minute of a core to install them.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { pack } from "../client/installed.ts";
import { startRemuda, stopAllRemudas } from "../kit/process.ts";

const root = new URL("../..", import.meta.url).pathname;
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "remuda-package-"));
  const installed = join(folder, "node_modules");
  mkdirSync(join(installed, ".bin"), { recursive: true });
  execFileSync("tar", ["xzf", join(folder, pack(".", folder)), "-C", installed]);
  renameSync(join(installed, "package"), join(installed, "remuda"));
  const { bin, dependencies } = JSON.parse(readFileSync(join(installed, "remuda/package.json"), "utf8")) as {
    bin: { remuda: string };
    dependencies: Record<string, string>;
  };
  chmodSync(join(installed, "remuda", bin.remuda), 0o755);
  symlinkSync(join("../remuda", bin.remuda), join(installed, ".bin/remuda"));
  // Only these, as pnpm does: those that they depend on are found from their own places.
  for (const name of Object.keys(dependencies)) {
    mkdirSync(dirname(join(installed, name)), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(installed, name));
  }
}, 240_000);
afterAll(async () => {
  await stopAllRemudas();
  rmSync(folder, { recursive: true, force: true, maxRetries: 20 });
});

function run(file: string, args: string[], cwd: string): string {
  const PATH = `${dirname(process.execPath)}:${process.env["PATH"]}`;
  const env = { ...process.env, PATH, NODE_OPTIONS: "", REMUDA_DATA_DIR: join(folder, "data") };
  return execFileSync(file, args, { cwd, encoding: "utf8", env });
}

test("contains the launcher and JavaScript alone, and leaves nothing in the checkout", () => {
  const installed = join(folder, "node_modules/remuda");
  const files = readdirSync(installed, { recursive: true, encoding: "utf8" });
  expect(files).toEqual(expect.arrayContaining(["cli/remuda.js", "dist/cli/main.js", "LICENSE", "README.md"]));
  expect(files.filter((name) => name.endsWith(".ts"))).toEqual([]);
  expect(files.filter((name) => name.startsWith("dist/test") || name.startsWith("dist/bench"))).toEqual([]);
  expect(existsSync(join(root, "dist"))).toBe(false);
});

test("serves and leases from where it is installed, its threads included", async () => {
  const bin = join(folder, "node_modules/.bin/remuda");
  expect(run(bin, ["--version"], folder)).toMatch(/^\d+\.\d+\.\d+\n$/);
  const entry = realpathSync(bin);
  expect(entry).toContain("/node_modules/remuda/");
  const remuda = await startRemuda({ dataDir: join(folder, "data"), entry });
  // A list of this size is read in a thread.
  const body = Array.from({ length: 20_000 }, (_, i) => `10.1.${i >> 8}.${i & 255}:80`).join("\n");
  const added = await fetch(`${remuda.httpUrl}/v1/pools/default/proxies`, { method: "POST", body });
  expect(await added.json()).toMatchObject({ added: 20_000 });
  expect(run(bin, ["lease"], tmpdir())).toMatch(/^leaseId +l_/m);
  for (const path of ["/", "/web/app.js", "/web/modules/signals.js"])
    expect([path, (await fetch(remuda.httpUrl + path)).status]).toEqual([path, 200]);
  await remuda.stop();
});

test("runs through a link to the checkout, as npm link makes one", () => {
  const link = join(folder, "linked");
  symlinkSync(join(root, "cli/remuda.js"), link);
  expect(run(link, ["--version"], tmpdir())).toMatch(/^\d+\.\d+\.\d+\n$/);
});
