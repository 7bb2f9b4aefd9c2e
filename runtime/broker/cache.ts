// The cache of fetched servers: <cacheDir>/nats-server-<version>/nats-server. An entry appears by one rename, complete
// or not at all. So starts that fetch at the same time cannot break each other: the first wins, the others use its
// file.

import { chmod, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { compareVersions, parseVersion, probe, usableServer } from "./executable.ts";

/** The newest cached server that runs, if any. */
export async function findCached(cacheDir: string, say: (line: string) => void): Promise<string | undefined> {
  const entries = await readdir(cacheDir).catch(() => []);
  const newestFirst = entries
    .filter((name) => name.startsWith("nats-server-"))
    .toSorted((a, b) => compareVersions(parseVersion(b) ?? [0, 0, 0], parseVersion(a) ?? [0, 0, 0]));
  for (const name of newestFirst) {
    const found = await usableServer(join(cacheDir, name, "nats-server"), "the cache", say);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * A place on the network. `unpack` puts the files into the (existing, empty) directory and returns the path of the
 * executable. On failure it throws an Error whose message is a sentence for the user.
 */
export type Source = {
  readonly name: string;
  unpack(directory: string, say: (line: string) => void): Promise<string>;
};

/** Returns the path in the cache. Throws if unpacking fails, or if the unpacked files are unusable. */
export async function install(
  { unpack }: Source,
  { cacheDir, say }: { readonly cacheDir: string; readonly say: (line: string) => void },
): Promise<string> {
  await mkdir(cacheDir, { recursive: true });
  // Inside the cache and not in /tmp: a rename stays within one file system, and /tmp may forbid execution.
  const stage = await mkdtemp(join(cacheDir, ".incoming-"));
  try {
    await mkdir(join(stage, "unpacked"));
    await mkdir(join(stage, "entry"));
    await rename(await unpack(join(stage, "unpacked"), say), join(stage, "entry", "nats-server"));
    await chmod(join(stage, "entry", "nats-server"), 0o755);
    const fresh = await probe(join(stage, "entry", "nats-server"));
    if (!fresh.usable) throw new Error(`the fetched server cannot be used: ${fresh.reason}`);

    const entry = join(cacheDir, `nats-server-${fresh.version}`);
    await moveInto(entry, stage);
    say(`nats-server ${fresh.version} is now at ${join(entry, "nats-server")}`);
    return join(entry, "nats-server");
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

async function moveInto(entry: string, stage: string): Promise<void> {
  try {
    await rename(join(stage, "entry"), entry);
  } catch (error) {
    // Another start was faster, unless the existing entry does not run.
    if ((await probe(join(entry, "nats-server"))).usable) return;
    await rename(entry, join(stage, "broken")).catch(() => {
      throw error;
    });
    await rename(join(stage, "entry"), entry);
  }
}
