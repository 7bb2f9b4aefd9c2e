// Tells whether a file is a nats-server that runs on this machine and is new enough. The only proof is to run it.

import { execFile } from "node:child_process";

type Version = readonly [major: number, minor: number, patch: number];

/** Older servers lack fixes of the replicated log ("Don't commit previous terms") that our fence relies on. */
export const oldestVersion: Version = [2, 12, 6];

/** The first `1.2.3` in a text such as "nats-server: v2.15.1" or "nats-server-2.15.1". */
export function parseVersion(text: string): Version | undefined {
  const match = /(?:^|[^\d.])(\d+)\.(\d+)\.(\d+)(?![\d.])/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3])];
}

/** Negative if a is older. */
export function compareVersions(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

type Probe = { readonly usable: true; readonly version: string } | { readonly usable: false; readonly reason: string };

/** Runs `<path> --version`, at most 10 s. */
export async function probe(path: string): Promise<Probe> {
  const ran = await new Promise<{ error: Error | null; output: string }>((done) => {
    execFile(path, ["--version"], { timeout: 10_000, encoding: "utf8" }, (error, stdout, stderr) =>
      done({ error, output: `${stdout}\n${stderr}` }),
    );
  });
  const unusable = (reason: string): Probe => ({ usable: false, reason });
  if (ran.error !== null) return unusable(`${path} does not run (${firstLine(ran.error.message)})`);
  const version = ran.output.includes("nats-server") ? parseVersion(ran.output) : undefined;
  if (version === undefined) {
    return unusable(`${path} --version printed no nats-server version but ${JSON.stringify(firstLine(ran.output))}`);
  }
  if (compareVersions(version, oldestVersion) < 0) {
    return unusable(`${path} is ${version.join(".")}, older than ${oldestVersion.join(".")}`);
  }
  return { usable: true, version: version.join(".") };
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}

/** The path of the server if it can be used. Says so, or why it cannot. @param where it was found. */
export async function usableServer(
  path: string,
  where: string,
  say: (line: string) => void,
): Promise<string | undefined> {
  const found = await probe(path);
  if (found.usable) say(`nats-server ${found.version} at ${path} (${where})`);
  else say(`the nats-server of ${where} cannot be used: ${found.reason}`);
  return found.usable ? path : undefined;
}
