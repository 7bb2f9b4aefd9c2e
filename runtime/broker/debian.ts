// Used when the release archive cannot be reached. A Debian machine still has a configured mirror, and newer suites of
// the same archive have a new nats-server. The package is downloaded and unpacked, never installed. apt works on its
// own folders in a temporary place, so the machine's package lists and packages stay as they are. All other settings of
// the machine's apt (how to reach the network, which keys to trust) stay in force.

import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf } from "../fault.ts";
import { type AptSource, findArchive, parseListFile, parseSourcesFile, stanzaFor } from "./apt-sources.ts";
import type { Source } from "./cache.ts";
import { probe } from "./executable.ts";
import { run } from "./run.ts";

/** The next release first. `sid` if the next release has moved on under another name. */
const suites = ["forky", "sid"];

const stepMsMax = 120_000;

export function debianPackage({ etc = "/etc" }: { readonly etc?: string } = {}): Source {
  return {
    name: "Debian package",
    async unpack(directory, say) {
      const archive = await archiveOf(etc);
      const failures: string[] = [];
      for (const suite of suites) {
        say(`fetching the nats-server package of Debian ${suite} from ${archive.uri} (unpacked, not installed)`);
        try {
          const file = await unpackFrom(archive, suite, join(directory, suite));
          const found = await probe(file);
          if (found.usable) return file;
          failures.push(`${suite}: ${found.reason}`);
        } catch (error) {
          failures.push(`${suite}: ${messageOf(error)}`);
        }
      }
      throw new Error(failures.join("; "));
    },
  };
}

async function archiveOf(etc: string): Promise<AptSource> {
  const release = await readFile(join(etc, "os-release"), "utf8").catch(() => "");
  const field = (key: string) => new RegExp(`^${key}="?([^"\n]*)"?$`, "m").exec(release)?.[1] ?? "";
  if (field("ID") !== "debian") throw new Error(`this machine runs ${field("ID") || process.platform}, not Debian`);

  const read = async (path: string) => readFile(path, "utf8").catch(() => "");
  const folder = join(etc, "apt/sources.list.d");
  const names = (await readdir(folder).catch(() => [])).toSorted();
  const sources = parseListFile(await read(join(etc, "apt/sources.list")));
  for (const name of names) {
    if (name.endsWith(".list")) sources.push(...parseListFile(await read(join(folder, name))));
    if (name.endsWith(".sources")) sources.push(...parseSourcesFile(await read(join(folder, name))));
  }
  const archive = findArchive(sources, field("VERSION_CODENAME"));
  if (archive === undefined) {
    throw new Error(`no source in ${etc}/apt has the main component of Debian ${field("VERSION_CODENAME")}`);
  }
  return archive;
}

async function unpackFrom(archive: AptSource, suite: string, directory: string): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), "nats-server-apt-"));
  try {
    for (const folder of ["state/lists/partial", "cache/archives/partial", "sources", "none", "download"]) {
      await mkdir(join(work, folder), { recursive: true });
    }
    await writeFile(join(work, "sources/archive.sources"), stanzaFor(archive, suite));
    await writeFile(join(work, "apt.conf"), settings(work));
    const apt = (...args: string[]) =>
      run("apt-get", ["-c", join(work, "apt.conf"), "-qq", ...args], { msMax: stepMsMax, cwd: join(work, "download") });
    await apt("update");
    await apt("download", "nats-server");
    const file = (await readdir(join(work, "download"))).find((name) => name.endsWith(".deb"));
    if (file === undefined) throw new Error("apt-get download left no package");
    await run("dpkg-deb", ["-x", join(work, "download", file), directory], { msMax: stepMsMax });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  const inSbin = join(directory, "usr/sbin/nats-server");
  return access(inSbin).then(
    () => inSbin,
    () => join(directory, "usr/bin/nats-server"),
  );
}

/**
 * The machine's hooks and pins are meant for its own packages. A pin could forbid the suite; a hook could clean caches.
 */
function settings(work: string): string {
  return [
    "#clear APT::Update::Pre-Invoke;",
    "#clear APT::Update::Post-Invoke;",
    "#clear APT::Update::Post-Invoke-Success;",
    "#clear APT::Default-Release;",
    `Dir::State "${work}/state";`,
    'Dir::State::status "/dev/null";',
    `Dir::Cache "${work}/cache";`,
    `Dir::Etc::sourcelist "/dev/null";`,
    `Dir::Etc::sourceparts "${work}/sources";`,
    `Dir::Etc::preferences "/dev/null";`,
    `Dir::Etc::preferencesparts "${work}/none";`,
    // As root, apt would pass the download to a user that may not enter our temporary folder.
    'APT::Sandbox::User "";',
    'Acquire::Retries "1";',
    'Acquire::http::Timeout "10";',
    'Acquire::https::Timeout "10";',
    "",
  ].join("\n");
}
