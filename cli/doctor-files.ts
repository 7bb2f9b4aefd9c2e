// The doctor's checks of files: the data directory, its owner, permissions and contents, and the free space.
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
import { messageOf } from "../runtime/fault.ts";
import { keyOf } from "../runtime/secrets.ts";
import { shellQuoted } from "../runtime/text.ts";
import { type Finding, findingsOf, ok, problem, warning } from "./finding.ts";

const about = "files";
const MiB = 1024 ** 2;
/** With less, the broker soon stops, and nothing can be committed. */
const roomBytesMin = 256 * MiB;
const roomBytesWanted = 2048 * MiB;

export async function lookAtFiles(config: Config): Promise<Finding[]> {
  const { dataDir } = config;
  const found = await findingsOf(about, () => (existsSync(dataDir) ? lookInto(dataDir) : notYet(dataDir)), 3000);
  return [...found, ...(await findingsOf("disk", () => [room(dataDir)], 3000))];
}

function notYet(dataDir: string): Finding[] {
  const parent = existing(dirname(dataDir));
  if (mayWrite(parent)) return [ok(about, `there is no data directory ${dataDir} yet. The first start makes it`)];
  const what = `the data directory ${dataDir} does not exist, and you may not create it in ${parent}`;
  return [problem(about, what, "Set REMUDA_DATA_DIR to a directory of your own.")];
}

function lookInto(dataDir: string): Finding[] {
  const stat = lstatSync(dataDir);
  if (!stat.isDirectory() && !stat.isSymbolicLink()) {
    return [problem(about, `${dataDir} is not a directory`, "Set REMUDA_DATA_DIR to another place.")];
  }
  const findings = [...ownerOf(dataDir, stat), ...keyIn(dataDir), ...openToOthers(dataDir)];
  if (!mayWrite(dataDir)) {
    const todo = "Run Remuda as the owner of the directory, or set REMUDA_DATA_DIR.";
    findings.push(problem(about, `you may not write to ${dataDir}`, todo));
  }
  return findings.length > 0 ? findings : [ok(about, `you own ${dataDir}, and other users cannot read it`)];
}

function ownerOf(dataDir: string, stat: Stats): Finding[] {
  const me = process.getuid?.();
  if (me === undefined || me === stat.uid) return [];
  const what = `${dataDir} belongs to user ${stat.uid}, and you are ${me}. Neither can read the other's files`;
  return [problem(about, what, `sudo chown -R "$(id -u)" ${shellQuoted(dataDir)}   # or run Remuda as its owner`)];
}

function keyIn(dataDir: string): Finding[] {
  const path = join(dataDir, "key");
  if (!existsSync(path)) {
    const hasStore = existsSync(join(dataDir, "nats", "store"));
    if (!hasStore) return [];
    const what = `the key ${path} is missing. Without it no pool in the store can have a leader`;
    return [problem(about, what, "Restore it from a backup. A new key does not open existing pools.")];
  }
  try {
    keyOf(readFileSync(path, "utf8"), path);
    return [];
  } catch (error) {
    return [problem(about, messageOf(error))];
  }
}

/** Files with secrets, or next to secrets, that other users can read. */
function openToOthers(dataDir: string): Finding[] {
  const isOpen = (stat: Stats): boolean => (stat.mode & 0o077) !== 0;
  const findings: Finding[] = [];
  if (isOpen(lstatSync(dataDir))) {
    const what = `other users of this machine can open ${dataDir} (mode ${modeOf(lstatSync(dataDir))})`;
    findings.push(warning(about, what, `chmod 700 ${shellQuoted(dataDir)}`));
  }
  for (const name of readdirSync(dataDir).sort()) {
    const path = join(dataDir, name);
    const stat = lstatSync(path);
    // A lock is an empty file, created by a program that sets no modes.
    if (!isOpen(stat) || name.endsWith(".lock") || !(stat.isFile() || (stat.isDirectory() && name === "nats")))
      continue;
    const what = `other users of this machine can read ${path} (mode ${modeOf(stat)})`;
    findings.push(problem(about, what, `chmod ${stat.isFile() ? "600" : "700"} ${shellQuoted(path)}`));
  }
  return findings;
}

function room(dataDir: string): Finding {
  const place = existing(dataDir);
  const { bavail, bsize } = statfsSync(place);
  const free = bavail * bsize;
  const what = `${(free / 1024 ** 3).toFixed(1)} GiB are free on the disk of ${place}`;
  const todo = "Free some space, or move REMUDA_DATA_DIR to another disk. A full disk stops all pools.";
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
