#!/usr/bin/env node
// Starts the command line with a Node that runs TypeScript directly: this one if it is new enough, else the one that
// npm installed as an optional package for this platform. A package (`npm pack`) has the command line as JavaScript, in
// dist/. This file is JavaScript, because an older Node must be able to read it.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import * as module from "node:module";
import { constants, homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const paths = ["./main.ts", "../dist/cli/main.js"].map((path) => fileURLToPath(new URL(path, import.meta.url)));
const main = paths.find((path) => existsSync(path));
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

if (process.argv[2] === "--version" || process.argv[2] === "-V") {
  // The command line itself need not be loaded for that, nor another Node be started.
  console.log(JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version);
} else if (major > 22 || (major === 22 && minor >= 18)) {
  // V8's compiled code is kept from start to start. That saves two thirds of a command's time.
  const { REMUDA_CACHE_DIR, XDG_CACHE_HOME = join(homedir(), ".cache") } = process.env;
  module.enableCompileCache(join(REMUDA_CACHE_DIR || join(XDG_CACHE_HOME, "remuda"), "compiled"));
  await import(main);
  // A service is ready by now. Node itself would write the cache only at an orderly exit, and a killed service must
  // restart fast.
  module.flushCompileCache();
} else {
  const node = installedNode();
  if (node === undefined) {
    console.error(
      `remuda needs Node 22.18 or newer; this is ${process.versions.node}. Install a newer one. (On Linux with glibc, npm ` +
        "installs it, unless optional packages are left out.)",
    );
    process.exit(2);
  }
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
}

function installedNode() {
  try {
    return module.createRequire(import.meta.url).resolve(`node-${process.platform}-${process.arch}/bin/node`);
  } catch {
    return undefined;
  }
}
