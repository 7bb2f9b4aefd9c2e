// Finds a nats-server to run. If the machine has none, it fetches one, so nothing has to be installed first. The search
// goes from the most to the least deliberate choice: the path that the user named, an installed server, the cache of an
// earlier start, and last the network. Each step reports what it did, so the user can see which server runs.

import { access, constants } from "node:fs/promises";
import { delimiter, join, resolve } from "node:path";
import { Fault, messageOf } from "../fault.ts";
import { officialArchive } from "./archive.ts";
import { findCached, install, type Source } from "./cache.ts";
import { debianPackage } from "./debian.ts";
import { oldestVersion, probe, usableServer } from "./executable.ts";

export type FindOptions = {
  /** From REMUDA_NATS_SERVER. If set, no other place is searched. */
  readonly natsServer?: string | undefined;
  /** The PATH to search. */
  readonly path?: string | undefined;
  readonly cacheDir: string;
  readonly say: (line: string) => void;
  readonly sources?: readonly Source[];
};

/**
 * The absolute path of a nats-server that runs here and is new enough. Throws a Fault "fix-setup" if none can be had.
 */
export async function findBinary(options: FindOptions): Promise<string> {
  const { natsServer, cacheDir, say } = options;
  if (natsServer !== undefined) return named(natsServer, say);
  const failures: string[] = [];

  const installed = await onPath(options.path ?? "", say);
  if (installed !== undefined) return installed;
  failures.push(`PATH: no nats-server of ${oldestVersion.join(".")} or newer`);

  const cached = await findCached(cacheDir, say);
  if (cached !== undefined) return cached;
  failures.push(`cache: none in ${cacheDir}`);

  for (const source of options.sources ?? [officialArchive(), debianPackage()]) {
    try {
      return await install(source, { cacheDir, say });
    } catch (error) {
      const reason = messageOf(error);
      failures.push(`${source.name}: ${reason}`);
      say(`no nats-server from the ${source.name}: ${reason}`);
    }
  }
  throw new Fault(
    "fix-setup",
    `no nats-server was found, and none could be fetched:\n${failures.map((line) => `  - ${line}\n`).join("")}` +
      `Install nats-server ${oldestVersion.join(".")} or newer and set REMUDA_NATS_SERVER to its path, ` +
      "or set REMUDA_NATS_URL to a NATS that already runs.",
  );
}

async function named(path: string, say: (line: string) => void): Promise<string> {
  const file = resolve(path);
  const found = await probe(file);
  if (!found.usable) {
    throw new Fault(
      "fix-setup",
      `REMUDA_NATS_SERVER cannot be used: ${found.reason} (expected an executable nats-server, ` +
        `${oldestVersion.join(".")} or newer; unset it to have one found or fetched)`,
    );
  }
  say(`nats-server ${found.version} at ${file} (REMUDA_NATS_SERVER)`);
  return file;
}

async function onPath(path: string, say: (line: string) => void): Promise<string | undefined> {
  for (const folder of path.split(delimiter).filter((each) => each !== "")) {
    const file = resolve(join(folder, "nats-server"));
    try {
      await access(file, constants.X_OK);
    } catch {
      continue;
    }
    const found = await usableServer(file, "the PATH", say);
    if (found !== undefined) return found;
  }
  return undefined;
}
