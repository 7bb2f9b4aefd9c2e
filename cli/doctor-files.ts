// The doctor's checks of files: the data directory and its contents, their owner, their permissions, and the free
// space.
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  type Stats,
  statfsSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Config } from "../runtime/config.ts";
import { keyOf } from "../runtime/secrets.ts";
import { quoted } from "./environment.ts";
import { type Finding, findingsOf, ok, problem, warning } from "./finding.ts";

const about = "files";
const MiB = 1024 ** 2;
/** Below this a broker soon stops, and nothing can be committed. */
const roomBytesMin = 256 * MiB;
const roomBytesWanted = 2048 * MiB;

export async function lookAtFiles(config: Config): Promise<Finding[]> {
  const { dataDir } = config;
  const found = await findingsOf(about, () => (existsSync(dataDir) ? lookInto(dataDir) : notYet(dataDir)), 3000);
  return [...found, ...(await findingsOf("disk", () => [room(dataDir)], 3000))];
}

function notYet(dataDir: string): Finding[] {
  const parent = existing(dirname(dataDir));
  if (mayWrite(parent)) return [ok(about, `there is no data directory ${dataDir} yet; the first start makes it`)];
  const what = `the data directory ${dataDir} is not there and cannot be made: ${parent} is not yours to write`;
  return [problem(about, what, "Set REMUDA_DATA_DIR to a directory of your own.")];
}

function lookInto(dataDir: string): Finding[] {
  const stat = lstatSync(dataDir);
  if (!stat.isDirectory() && !stat.isSymbolicLink()) {
    return [problem(about, `${dataDir} is not a directory`, "Set REMUDA_DATA_DIR to another place.")];
  }
  const findings = [...ownerOf(dataDir, stat), ...keyIn(dataDir), ...openToOthers(dataDir)];
  if (!mayWrite(dataDir)) {
    findings.push(
      problem(about, `${dataDir} cannot be written by you`, `Run it as its owner, or set REMUDA_DATA_DIR.`),
    );
  }
  return findings.length > 0 ? findings : [ok(about, `${dataDir} is yours, and closed to others`)];
}

function ownerOf(dataDir: string, stat: Stats): Finding[] {
  const me = process.getuid?.();
  if (me === undefined || me === stat.uid) return [];
  const what = `${dataDir} belongs to user ${stat.uid}, and you are ${me}: files made by one cannot be read by the other`;
  return [problem(about, what, `sudo chown -R "$(id -u)" ${quoted(dataDir)}   # or run it as its owner`)];
}

function keyIn(dataDir: string): Finding[] {
  const path = join(dataDir, "key");
  if (!existsSync(path)) {
    const hasStore = existsSync(join(dataDir, "nats", "store"));
    if (!hasStore) return [];
    const what = `the key ${path} is missing, and there is a store made with it: no pool can be led`;
    return [problem(about, what, "Restore it from a backup; a new one refuses the pools there are.")];
  }
  try {
    keyOf(readFileSync(path, "utf8"), path);
    return [];
  } catch (error) {
    return [problem(about, error instanceof Error ? error.message : String(error))];
  }
}

/** Files that any user may read, although they hold or lead to secrets. */
function openToOthers(dataDir: string): Finding[] {
  const isOpen = (stat: Stats): boolean => (stat.mode & 0o077) !== 0;
  const findings: Finding[] = [];
  if (isOpen(lstatSync(dataDir))) {
    const what = `${dataDir} is open to other users of this machine (mode ${modeOf(lstatSync(dataDir))})`;
    findings.push(warning(about, what, `chmod 700 ${quoted(dataDir)}`));
  }
  for (const name of readdirSync(dataDir).sort()) {
    const path = join(dataDir, name);
    const stat = lstatSync(path);
    // A lock is an empty file, created by a program that sets no modes.
    if (!isOpen(stat) || name.endsWith(".lock") || !(stat.isFile() || (stat.isDirectory() && name === "nats")))
      continue;
    const what = `${path} can be read by other users of this machine (mode ${modeOf(stat)})`;
    findings.push(problem(about, what, `chmod ${stat.isFile() ? "600" : "700"} ${quoted(path)}`));
  }
  return findings;
}

function room(dataDir: string): Finding {
  const place = existing(dataDir);
  const { bavail, bsize } = statfsSync(place);
  const free = bavail * bsize;
  const what = `${(free / 1024 ** 3).toFixed(1)} GiB are free where ${place} is`;
  const todo = "Make room, or set REMUDA_DATA_DIR to another disk: a ledger that cannot be written stops its pools.";
  if (free < roomBytesMin) return problem("disk", what, todo);
  return free < roomBytesWanted ? warning("disk", what, todo) : ok("disk", what);
}

function modeOf(stat: Stats): string {
  return (stat.mode & 0o777).toString(8).padStart(4, "0");
}

function existing(path: string): string {
  return existsSync(path) ? path : existing(dirname(path));
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
