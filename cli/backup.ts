// `remuda backup` and `remuda restore`: a copy of an installation, and an installation from it. The key is kept apart.
import { cpSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import type { Command } from "commander";
import { Archive } from "../runtime/archive/archive.ts";
import type { Config } from "../runtime/config.ts";
import { Fault } from "../runtime/fault.ts";
import { createFile, readSecretIfThere } from "../runtime/files.ts";
import { keyFileOf, readKey } from "../runtime/key-file.ts";
import { keyOf } from "../runtime/secrets.ts";
import { counted, showInstant } from "../runtime/text.ts";
import { backUp } from "../services/picker/backup.ts";
import { filesIn, readBackup } from "../services/picker/backup-folder.ts";
import { type RestoredPool, refuseUsed, restoreBackup } from "../services/picker/restoration.ts";
import { findAddress } from "./address.ts";
import { withBus } from "./connection.ts";
import { usersFileOf } from "./login.ts";
import { print, printJson } from "./output.ts";
import { withStopped } from "./stopped.ts";
import { version } from "./version.ts";

export function addBackup(program: Command, config: () => Config): void {
  program
    .command("backup")
    .description("copy all ledgers, secrets and users to a new folder, while the service runs")
    .argument("<folder>", "a new or empty folder")
    .option("--key <file>", "also copy the key to this file, which must not be in the folder")
    .option("--json", "print JSON")
    .action(async (name: string, { key: keyFile, json }: { key?: string; json?: true }) => {
      const settings = config();
      const folder = resolve(name);
      const key = readKey(settings.dataDir);
      const path = keyFileOf(settings.dataDir);
      if (key === undefined) throw new Fault("fix-setup", `there is no key ${path}: run this where a picker runs.`);
      if (keyFile !== undefined && !relative(folder, resolve(keyFile)).startsWith(".."))
        throw new Fault("fix-setup", "--key: the file is in the folder of the backup. Name a file elsewhere.");
      const { pools, secrets } = await withBus(findAddress(settings, "ledger"), "remuda backup", (bus) => {
        const archive = new Archive(settings.archive);
        return backUp(folder, {
          ...{ bus, archive, version: version(), keyFingerprint: key.fingerprint },
          files: Object.fromEntries(filesOf(settings)),
        });
      });
      if (keyFile !== undefined) copyKey(resolve(keyFile), readSecretIfThere(path) ?? "");
      if (json) return printJson({ folder, pools, secrets });
      const commits = pools.reduce((sum, { n }) => sum + n, 0);
      print(`${folder} has ${counted(pools.length, "pool")} with ${counted(commits, "commit")}.`);
      if (keyFile === undefined) print(`The key is not in it. Keep a copy of ${path} in another place.`);
    });

  program
    .command("restore")
    .description("restore a backup into an empty installation")
    .argument("<folder>", "a backup")
    .option("--key <file>", "the key (default: the file key in the data directory)")
    .option("--json", "print JSON")
    .action(async (name: string, { key: keyFile, json }: { key?: string; json?: true }) => {
      const settings = config();
      const folder = resolve(name);
      const manifest = await readBackup(folder);
      const path = resolve(keyFile ?? keyFileOf(settings.dataDir));
      const text = readSecretIfThere(path);
      if (text === undefined)
        throw new Fault("fix-setup", `there is no key ${path}. Name the copy that was kept apart: --key <file>`);
      const key = keyOf(text, path);
      if (key.fingerprint !== manifest.keyFingerprint)
        throw new Fault("fix-setup", `${path} is not the key of the backup. Name that one: --key <file>`);
      refuseFull(settings);
      if (settings.natsUrl !== undefined) await withStopped(settings, refuseUsed);
      copyKey(keyFileOf(settings.dataDir), text);
      for (const [file, to] of filesOf(settings)) {
        const from = join(filesIn(folder), file);
        if (existsSync(from) && !existsSync(to)) cpSync(from, to, { recursive: true });
      }
      const archive = new Archive(settings.archive);
      const { ledgerBytesMax } = settings;
      const pools = await withStopped(settings, (bus) =>
        restoreBackup(folder, manifest, { bus, key, archive, ledgerBytesMax, version: version() }),
      );
      if (json) return printJson({ backedUpAt: manifest.at, pools });
      print(`Restored as of ${showInstant(manifest.at)}. Later commits are lost.`);
      for (const pool of pools) tell(pool);
    });
}

/** @throws Fault "fix-setup" if the file is there with other contents. */
function copyKey(path: string, text: string): void {
  if (createFile(path, text) === text) return;
  throw new Fault("fix-setup", `${path} is there already, with another key. Move it away.`);
}

/** Files of an installation, by their names in a backup. */
function filesOf(config: Config): [name: string, path: string][] {
  const { dataDir } = config;
  return [
    ["users.json", usersFileOf(config)],
    ["sources.json", config.sourcesFile],
    ...["signing-key.pem", "users-log.ndjson", "sources"].map((name): [string, string] => [name, join(dataDir, name)]),
  ];
}

/** @throws Fault "in-use" if the data directory has the store of a broker, a witness or an archive. */
function refuseFull({ dataDir, natsUrl }: Config): void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const isOurs = (name: string): boolean => name === "nats" || name === "witness" || name === "archive";
  const found = readdirSync(dataDir).find(isOurs);
  if (found === undefined || natsUrl !== undefined) return;
  const what = `${join(dataDir, found)} exists: the data directory already has an installation.`;
  throw new Fault("in-use", `${what} Set REMUDA_DATA_DIR to an empty one, or move it away.`);
}

function tell({ pool, commits, lastAt, leases, until, closed, quotas }: RestoredPool): void {
  const state = closed ? "closed" : `no lease is granted before ${showInstant(until)}`;
  print(`${pool}: ${counted(commits, "commit")}, the last at ${showInstant(lastAt)}; ${state}`);
  if (leases > 0) print(`  ${counted(leases, "open lease")} ended, and all uses count as made.`);
  const rests = "rests (cooldowns) that began after the backup are not known";
  const uncertain =
    quotas === 0
      ? rests
      : `the usage quotas of ${counted(quotas, "exit")} may be used up further than recorded; ${rests}`;
  print(`  Uncertain: ${uncertain}.`);
}
