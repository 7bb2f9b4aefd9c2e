// `remuda exec`: a command through a leased proxy, against a real service, a real proxy, and a target that records the
// address of each visitor.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, type TestContext, test } from "vitest";
import { proxyVariables } from "../../cli/proxy-variables.ts";
import type { LeaseReply } from "../../protocol/lease.ts";
import type { StatsReply } from "../../protocol/pool.ts";
import type { ProxyReply } from "../../protocol/proxy.ts";
import { birthOf } from "../../runtime/broker/record.ts";
import { runCommand } from "../kit/command.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, runCli } from "../kit/process.ts";
import { serviceForAll } from "../kit/service.ts";
import { startTarget, type Target } from "../kit/target.ts";

const root = new URL("../..", import.meta.url).pathname;
let dataDir: string;
let service: RemudaProcess;
let target: Target;
let proxy: ForwardProxy;

serviceForAll((started) => {
  ({ dataDir, service } = started);
});

beforeAll(async () => {
  target = await startTarget();
  proxy = await startForwardProxy({ exit: "127.0.0.2", credentials: { username: "ann", password: "p@ss:w/rd" } });
});

afterAll(async () => {
  await proxy?.stop();
  await target?.stop();
});

/** Over HTTP, which starts no process. */
async function api<T>(method: string, path: string, body?: string): Promise<T> {
  const response = await fetch(`${service.httpUrl}/v1/pools/${path}`, {
    method,
    ...(body === undefined ? {} : { body }),
  });
  expect(response.ok).toBe(true);
  return (await response.json()) as T;
}

async function open(pool: string, list = "192.0.2.1:80"): Promise<void> {
  await api("PUT", pool);
  if (list !== "") await api("POST", `${pool}/proxies`, JSON.stringify([list]));
}

async function onlyProxy(pool: string): Promise<ProxyReply> {
  const [only] = (await api<{ proxies: ProxyReply[] }>("GET", `${pool}/proxies`)).proxies;
  if (only === undefined) throw new Error(`the pool ${pool} has no proxy`);
  return only;
}

const statsOf = (pool: string) => api<StatsReply>("GET", `${pool}/stats`);

const exec = (pool: string, options: string[], command: string[], env = {}) =>
  runCli(["exec", "--pool", pool, ...options, "--", ...command], { dataDir, env });

interface Started {
  child: ChildProcess;
  output: () => string;
  ended: Promise<number | null>;
}

/**
 * For signals: the process itself, with pipes. Ready when the command has written a line. @param atEnd of the test that
 * starts it, if tests run at the same time.
 */
async function start(
  pool: string,
  options: string[],
  command: string[],
  atEnd: TestContext["onTestFinished"] = onTestFinished,
): Promise<Started> {
  const env = { ...process.env, REMUDA_DATA_DIR: dataDir };
  const args = ["cli/main.ts", "exec", "--pool", pool, ...options, "--", ...command];
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  atEnd(() => void child.kill("SIGKILL"));
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (text += chunk));
  const ended = once(child, "exit").then(([code]) => code as number | null);
  await eventually(() => expect(text).toContain("\n"));
  return { child, output: () => text, ended };
}

// These two count the arrivals at the target, so neither runs beside another test.
describe("a command", () => {
  test("sends its requests through the proxy, with curl and Node's own fetch alike, whatever NO_PROXY is set here", async () => {
    await open("through", proxy.url);
    const before = target.arrivals.length;
    const env = { NO_PROXY: "*", no_proxy: "127.0.0.1" };
    expect(await exec("through", [], ["curl", "-sf", target.url], env)).toEqual({
      code: 0,
      stdout: "seen\n",
      stderr: "",
    });
    const script = `process.stdout.write(await (await fetch("${target.url}")).text())`;
    expect(await exec("through", [], [process.execPath, "--input-type=module", "-e", script], env)).toMatchObject({
      code: 0,
      stdout: "seen\n",
    });
    expect(target.arrivals.slice(before).map(({ exit }) => exit)).toEqual(["127.0.0.2", "127.0.0.2"]);
    expect(await onlyProxy("through")).toMatchObject({
      openLeases: 0,
      score: 2,
      totals: { granted: 2, succeeded: 2, failed: 0, unreported: 0 },
    });
  });

  test("reaches the hosts of --direct without it", async () => {
    const before = target.arrivals.length;
    await exec("through", ["--direct", "127.0.0.1"], ["curl", "-sf", target.url]);
    expect(target.arrivals.slice(before).map(({ exit }) => exit)).toEqual(["127.0.0.1"]);
  });
});

// Two at once, because each waits for several processes one after the other.
describe.concurrent("a command", () => {
  test("that fails ends with its own exit code, and counts as a failure of the proxy, or as --failure says", async () => {
    await open("failing");
    expect((await exec("failing", ["--failure", "target-error"], ["sh", "-c", "exit 22"])).code).toBe(22);
    expect(await onlyProxy("failing")).toMatchObject({ state: "available", score: 0, totals: { neutral: 1 } });
    expect((await exec("failing", [], ["sh", "-c", "exit 3"])).code).toBe(3);
    expect(await onlyProxy("failing")).toMatchObject({ score: -1, totals: { failed: 1, neutral: 1 } });
  });

  test("may make --uses requests, which all count as made; --json prints the lease on stderr only", async () => {
    await open("many");
    const { code, stdout, stderr } = await exec("many", ["--uses", "5", "--json"], ["sh", "-c", 'echo "$REMUDA_USES"']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "5\n" });
    expect(JSON.parse(stderr)).toMatchObject({ uses: 5, used: 5, result: "success", exitCode: 0 });
    expect(await onlyProxy("many")).toMatchObject({ usesSinceRest: 5, usesInWindow: 5, openLeases: 0, score: 1 });
  });

  test("that reports its own uses gets one more outcome for the whole run", async () => {
    await open("reporting");
    const own = `"${process.execPath}" cli/main.ts report "$REMUDA_LEASE_ID" --pool reporting --n 1 --status 429`;
    expect((await exec("reporting", ["--uses", "2"], ["sh", "-c", own])).code).toBe(0);
    expect(await onlyProxy("reporting")).toMatchObject({ totals: { succeeded: 1, failed: 1 }, openLeases: 0 });
  });

  test.each([
    [
      "no-such-command",
      127,
      "remuda: cannot run no-such-command: no such command, or the current folder does not exist\n",
    ],
    ["/etc/passwd", 126, "remuda: cannot run /etc/passwd: it is not executable\n"],
  ])("that cannot be run, %s, gives its uses back and counts against no proxy", async (command, code, stderr) => {
    const pool = `unrun-${code}`;
    await open(pool);
    expect(await exec(pool, ["--uses", "3"], [command])).toEqual({ code, stdout: "", stderr });
    expect(await onlyProxy(pool)).toMatchObject({
      usesSinceRest: 0,
      openLeases: 0,
      score: 0,
      totals: { failed: 0, neutral: 0 },
    });
  });

  test("is not run without a lease, and the error code and exit code say why", async () => {
    await open("empty", "");
    const refused = await exec("empty", [], ["echo", "ran"]);
    expect(refused).toMatchObject({ code: 1, stdout: "", stderr: expect.stringMatching(/^remuda: no-match: /) });
    const gone = await exec("empty", [], ["echo", "ran"], { REMUDA_NATS_URL: "nats://127.0.0.1:1" });
    expect(gone).toMatchObject({ code: 3, stdout: "" });
    expect(await runCommand(["exec"], { dataDir })).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("missing required argument"),
    });
  });

  test("keeps its own options, even without --", async () => {
    await open("bare");
    const { stdout } = await runCli(["exec", "--pool", "bare", "echo", "--uses", "x", "--help"], { dataDir });
    expect(stdout).toBe("--uses x --help\n");
  });
});

describe.concurrent("signals", () => {
  test("reach the command, which decides how to react", async ({ onTestFinished }) => {
    await open("trap");
    const script = 'trap "echo got it; exit 7" TERM; echo ready; for i in $(seq 400); do sleep 0.05; done';
    const { child, output, ended } = await start("trap", [], ["sh", "-c", script], onTestFinished);
    child.kill("SIGTERM");
    expect(await ended).toBe(7);
    expect(output()).toContain("got it");
  });

  test.for([
    ["SIGINT", 130],
    ["SIGHUP", 129],
  ] as const)("%s that kills the command gives %i, and counts against no proxy", async ([signal, code], context) => {
    const pool = signal.toLowerCase();
    await open(pool);
    const node = ["-e", 'console.log("ready"); setInterval(() => {}, 1000)'];
    const { child, ended } = await start(pool, [], [process.execPath, ...node], context.onTestFinished);
    child.kill(signal);
    expect(await ended).toBe(code);
    expect(await onlyProxy(pool)).toMatchObject({ openLeases: 0, score: 0, totals: { neutral: 1, failed: 0 } });
  });
});

// Each of them waits for the end of a lease.
describe.concurrent("time", () => {
  test("renews the lease of a long command, and its success counts in time", async ({ onTestFinished }) => {
    await open("longer");
    const flag = join(dataDir, "long-enough");
    const script = `echo $REMUDA_LEASE_ID; while [ ! -e "${flag}" ]; do sleep 0.05; done`;
    const { ended } = await start("longer", ["--ttl", "6s"], ["sh", "-c", script], onTestFinished);
    const only = async () => (await api<{ leases: LeaseReply[] }>("GET", "longer/leases")).leases[0];
    const firstEnd = (await only())?.expiresAt ?? 0;
    // By the pool's own clock.
    await eventually(async () => expect((await statsOf("longer")).at).toBeGreaterThan(firstEnd + 100));
    expect((await only())?.expiresAt).toBeGreaterThan(firstEnd);
    await writeFile(flag, "");
    expect(await ended).toBe(0);
    expect(await statsOf("longer")).toMatchObject({
      leases: { open: 0, granted: 1, expired: 0 },
      outcomes: { succeeded: 1, ignored: 0 },
    });
  });

  test("ends the command and its children before a lease that cannot be renewed ends", async ({ onTestFinished }) => {
    await open("cut");
    const script = "sleep 60 & echo $! $REMUDA_LEASE_ID; wait";
    const { output, ended } = await start("cut", ["--ttl", "8s"], ["sh", "-c", script], onTestFinished);
    const [pid = "", leaseId = ""] = output().trim().split(" ");
    expect(birthOf(Number(pid))).toBeDefined();
    const { leases } = await api<{ leases: LeaseReply[] }>("GET", "cut/leases");
    const expiresAt = leases[0]?.expiresAt;
    await api("DELETE", `cut/leases/${leaseId}`);
    expect(await ended).toBe(143);
    expect((await statsOf("cut")).at).toBeLessThan(expiresAt ?? 0); // By the pool's own clock.
    await eventually(() => expect(birthOf(Number(pid))).toBeUndefined());
    expect(output()).toMatch(
      /remuda: the lease l_\S+ ends and cannot be renewed \(The lease \S+ is not known, or has ended\)\. Ending sh\.\n/,
    );
  });

  test("kills a command that does not end when its lease is over", async ({ onTestFinished }) => {
    await open("stubborn");
    const script = 'trap "" TERM; echo $REMUDA_LEASE_ID; for i in $(seq 200); do sleep 0.1; done';
    const { output, ended } = await start("stubborn", ["--ttl", "2s"], ["sh", "-c", script], onTestFinished);
    await api("DELETE", `stubborn/leases/${output().trim()}`);
    expect(await ended).toBe(137);
  });
});

test("reports a service that has gone, and keeps the command's exit code", async () => {
  await open("gone");
  const flag = join(dataDir, "go-on");
  const script = `echo ready; while [ ! -e "${flag}" ]; do sleep 0.05; done; exit 4`;
  const { output, ended } = await start("gone", [], ["sh", "-c", script]);
  await service.interrupt();
  await writeFile(flag, "");
  expect(await ended).toBe(4);
  expect(output()).toMatch(/remuda: the lease l_\S+ could not be released: no service at .*ends by itself in at most/);
});

test("sets the proxy in every variable; a socks5 proxy resolves names itself, and Node is left alone", () => {
  const lease = {
    leaseId: "l_1",
    proxyId: "p_1",
    pool: "shop",
    uses: 2,
    scheme: "socks5",
    url: "socks5://u:p@192.0.2.1:1080",
  } as LeaseReply;
  expect(proxyVariables(lease)).toEqual({
    HTTP_PROXY: "socks5h://u:p@192.0.2.1:1080",
    http_proxy: "socks5h://u:p@192.0.2.1:1080",
    HTTPS_PROXY: "socks5h://u:p@192.0.2.1:1080",
    https_proxy: "socks5h://u:p@192.0.2.1:1080",
    ALL_PROXY: "socks5h://u:p@192.0.2.1:1080",
    all_proxy: "socks5h://u:p@192.0.2.1:1080",
    NO_PROXY: undefined,
    no_proxy: undefined,
    NODE_USE_ENV_PROXY: undefined,
    REMUDA_LEASE_ID: "l_1",
    REMUDA_PROXY_ID: "p_1",
    REMUDA_PROXY_URL: "socks5://u:p@192.0.2.1:1080",
    REMUDA_POOL: "shop",
    REMUDA_USES: "2",
  });
  for (const scheme of ["http", "https", "socks4", "socks4a", "socks5h"] as const) {
    const url = `${scheme}://192.0.2.1:80`;
    expect(proxyVariables({ ...lease, scheme, url }).ALL_PROXY).toBe(url);
  }
});
