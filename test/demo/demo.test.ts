// The demo, run as a user runs it. Against sites that ban for good, only Remuda ends without a ban.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { eventually } from "../kit/poll.ts";

const root = new URL("../..", import.meta.url).pathname;

/**
 * If the machine is so busy that the service is not back within a window, no request is served. Then the demo runs
 * again.
 */
const tries = [7, 7, 12];
const windows = 3;
/** Of each way of picking. With two, a counter in each is wrong already, and a process costs a second of a core. */
const workers = 2;
/** For a test of anything but the load: as few processes as there can be. */
const small = ["--proxies", "1", "--workers", "1"];

test("Remuda is not banned under a load at which all others are, although it is killed on the way", {
  timeout: 400_000,
}, async () => {
  for (const [index, windowSeconds] of tries.entries()) {
    const load = ["--window", `${windowSeconds}s`, "--windows", String(windows), "--workers", String(workers)];
    const { code, output } = await demo(load);
    const rows = rowsOf(output);
    const ours = rows.get("Remuda, killed with -9 in the middle");
    expect(ours, output).toMatchObject({ bans: 0 });
    expect(ours?.most).toBeLessThanOrEqual(30);
    expect(code).toBe(0); // It depends on bans alone.
    const awaySeconds = Number(/was back after ([\d.]+) s/.exec(output)?.[1]);
    if (awaySeconds > windowSeconds && index < tries.length - 1) continue;
    for (const other of ["plain round-robin", "a counter in each process"]) {
      expect(rows.get(other), output).toMatchObject({ bans: 10 });
      expect(rows.get(other)?.most).toBeGreaterThan(30);
    }
    expect(ours?.most).toBe(30);
    // Almost nothing is lost, except the requests that could not be served while it was away.
    const possible = 100 - (100 * awaySeconds) / (windows * windowSeconds);
    expect(ours?.share, output).toBeGreaterThan(possible - 15);
    return;
  }
});

function rowsOf(output: string): Map<string, { served: number; share: number; bans: number; most: number }> {
  return new Map(
    [...output.matchAll(/^\| (.+?) +\| (\d+) \(([\d.]+) %\) +\| (\d+) +\| (\d+) to (\d+) /gm)].map(
      ([, name = "", served, share, bans, , most]) => [
        name,
        { served: Number(served), share: Number(share), bans: Number(bans), most: Number(most) },
      ],
    ),
  );
}

test("ignores the settings of the user's own Remuda", { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "demo-test-"));
  place = folder;
  const touched = join(folder, "touched");
  const sources = join(folder, "sources.json");
  const from = { kind: "command", command: ["touch", touched] };
  writeFileSync(sources, JSON.stringify({ sources: [{ name: "mine", from }] }));
  const child = launch(["--window", "60s", ...small], {
    TMPDIR: folder,
    REMUDA_SOURCES: sources,
    REMUDA_HTTP_HOST: "host.invalid",
    REMUDA_NATS_USERS: join(folder, "none.json"),
  });
  let output = "";
  child.stderr?.on("data", (chunk) => (output += chunk));
  const exit = once(child, "exit");
  const inFolder = () => readdirSync(folder, { recursive: true }).map((name) => `/${name}`);
  const isReady = () => inFolder().some((name) => name.endsWith("/data/address.json"));
  await eventually(() => expect([isReady(), output].some(Boolean)).toBe(true), { timeoutMs: 60_000 });
  child.kill("SIGINT");
  await exit;
  expect(output).toBe("");
  expect(existsSync(touched)).toBe(false);
});

test("reports a setting that cannot be read in one sentence", async () => {
  const cases: [string[], RegExp][] = [
    [["--window", "soon"], /^--window: seconds from 1 to 600/],
    [["--proxies", "0"], /^--proxies: a whole number from 1 to 200/],
    [["--speed", "2"], /--speed/],
  ];
  for (const [args, sentence] of cases) {
    const { code, output } = await demo(args);
    expect(output).toMatch(sentence);
    expect(output).not.toMatch(/ {4}at /);
    expect(code).toBe(2);
  }
});

let place: string | undefined;
const launched: ChildProcess[] = [];

afterEach(() => {
  for (const child of launched.splice(0)) child.kill("SIGKILL"); // No effect if it has ended.
  if (place !== undefined) rmSync(place, { recursive: true, force: true, maxRetries: 20 });
  place = undefined;
});

test.each([
  // A slow step follows each of these lines: a service starts, workers start, a service starts again.
  ["the service is starting", "SIGINT", "/data/owner.lock"],
  ["the workers run", "SIGINT", "/data/address.json"],
  ["the workers run", "SIGTERM", "/data/address.json"],
  ["the workers run", "SIGKILL", "/data/address.json"],
] as const)("ended while %s (%s), it leaves no process behind", { timeout: 120_000 }, async (_when, signal, file) => {
  const folder = mkdtempSync(join(tmpdir(), "demo-test-"));
  place = folder;
  const child = launch(["--window", "5s", ...small], { TMPDIR: folder }, { detached: true });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += chunk));
  const inFolder = () => readdirSync(folder, { recursive: true }).map((name) => `/${name}`);
  await eventually(() => expect(inFolder().some((name) => name.endsWith(file))).toBe(true), { timeoutMs: 60_000 });
  expect(livingIn(folder).length).toBeGreaterThan(1);
  const exit = once(child, "exit");
  if (signal === "SIGINT") {
    // As Ctrl-C does: the terminal sends it to all processes, and npm passes it on.
    process.kill(-(child.pid ?? 0), signal);
    child.kill(signal);
  } else child.kill(signal);
  expect(await exit).toEqual(signal === "SIGKILL" ? [null, signal] : [130, null]);
  await eventually(() => expect(livingIn(folder)).toEqual([]), { timeoutMs: 20_000 });
  if (signal !== "SIGKILL") expect(readdirSync(folder)).toEqual([]);
  expect(output).not.toMatch(/ {4}at |failed/);
});

/** Our processes: their environment contains the folder's name. */
function livingIn(folder: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, "utf8").includes(folder);
    } catch {
      return false; // It ended between the two looks, or is somebody else's.
    }
  });
}

function demo(args: string[]): Promise<{ code: number | null; output: string }> {
  const child = launch(args);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += chunk));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, output })));
}

function launch(args: string[], more: Record<string, string> = {}, { detached = false } = {}): ChildProcess {
  const { NODE_OPTIONS: _vitest, ...env } = process.env;
  const child = spawn(process.execPath, ["demo/run.ts", ...args], {
    cwd: root,
    env: { ...env, ...more },
    stdio: ["ignore", "pipe", "pipe"],
    detached,
  });
  launched.push(child);
  return child;
}
