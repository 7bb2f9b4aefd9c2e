// Typing errors and odd input, each against a running service. The sentence says what is wrong, no output is cut off,
// and --json always gives JSON.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { lstat, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Refused } from "../../cli/failure.ts";
import { printPages } from "../../cli/pages.ts";
import { refuse } from "../../protocol/refusal.ts";
import { runCommand } from "../kit/command.ts";
import { eventually } from "../kit/poll.ts";
import { type RemudaProcess, runCli } from "../kit/process.ts";
import { serviceForAll } from "../kit/service.ts";

const root = new URL("../..", import.meta.url).pathname;
let dataDir: string;
let service: RemudaProcess;
serviceForAll((started) => {
  ({ dataDir, service } = started);
});

const remuda = (...args: string[]) => runCommand(args, { dataDir });

test.each(["proxies list", "leases", "proxies export", "pool stats"])(
  "prints a refusal as one JSON document: %s",
  async (command) => {
    const { code, stdout, stderr } = await remuda(...command.split(" "), "--pool", "nowhere", "--json");
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ code: "unknown-pool" });
    expect(stderr).toMatch(/^remuda: unknown-pool: /);
  },
);

test("prints an interrupted list as one JSON document that says where to continue", async () => {
  let written = "";
  const write = process.stdout.write;
  process.stdout.write = ((text: string) => {
    written += text;
    return true;
  }) as typeof write;
  onTestFinished(() => {
    process.stdout.write = write;
  });
  const gone = new Refused(refuse("unavailable", "The pool has no leader."));
  const pages = [{ proxies: [{ id: "p_1" }, { id: "p_2" }], next: "p_2" }];
  const ask = (): Promise<never> => {
    const page = pages.shift();
    return (page === undefined ? Promise.reject(gone) : Promise.resolve(page)) as Promise<never>;
  };
  const options = { limit: 100, all: true, json: true } as const;
  const list = { verb: "proxies.list", filter: {}, options, show: () => {} } as const;
  const ended = await printPages(ask, list).catch((error: unknown) => error);
  process.stdout.write = write;
  expect(ended).toBe(gone);
  // Otherwise its own JSON would follow the list's.
  expect(gone.isTold).toBe(true);
  expect(JSON.parse(written)).toEqual({ proxies: [{ id: "p_1" }, { id: "p_2" }], next: "p_2" });
});

test("refuses a wait beyond all bounds, and does not report a silent service", async () => {
  expect(await remuda("lease", "--wait", "100d")).toEqual({
    code: 1,
    stdout: "",
    stderr: "remuda: invalid-request: waitMs: must be at most 60000.\n",
  });
  const { code, stderr } = await remuda("lease", "--wait", "999999999999d");
  expect(code).toBe(2);
  expect(stderr).toContain("The duration is too long.");
});

test("names the wrong value of a report that cannot be read", async () => {
  await remuda("pool", "open", "--pool", "reports");
  const list = join(dataDir, "reports.txt");
  await writeFile(list, "192.0.2.1:80\n");
  await remuda("proxies", "add", "--pool", "reports", list);
  const { leaseId } = JSON.parse((await remuda("lease", "--pool", "reports", "--uses", "2", "--json")).stdout);
  const report = (...args: string[]) => remuda("report", leaseId, "--pool", "reports", ...args);
  for (const [args, sentence] of [
    [["--n", "1", "--status", "9999"], "invalid-request: status: must be at most 999."],
    [["--n", "1", "--status", "200", "--latency", "2d"], "invalid-request: latencyMs: must be at most"],
    [["--n", "100000", "--status", "200"], "n-too-large: the report was ignored. The lease has fewer uses"],
  ] as const) {
    const { code, stdout, stderr } = await report(...args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain(`remuda: ${sentence}`);
  }
});

test("says that a number may be 0", async () => {
  for (const args of [
    ["release", "l_aaaaaaaaaaaaaaaaaaaaaaaa", "--used", "-1"],
    ["report", "l_aaaaaaaaaaaaaaaaaaaaaaaa", "--status", "200", "--bytes", "1.5"],
  ]) {
    const { code, stderr } = await remuda(...args);
    expect(code).toBe(2);
    expect(stderr).toContain("It must be a whole number of at least 0.");
  }
});

test("accepts only a name or an address as the host for other machines, and creates no user otherwise", async () => {
  for (const host of ["a b", "https://remuda.example", "remuda.example:4222", "x;rm -rf", "", "1.2.3"]) {
    for (const command of [["env"], ["user", "add", "ann"]]) {
      const { code, stdout, stderr } = await remuda(...command, "--host", host);
      expect({ host, code, stdout }).toEqual({ host, code: 2, stdout: "" });
      expect(stderr).toContain("It must be a host name or an address, without a scheme or port.");
    }
  }
  expect((await remuda("user", "list")).stdout).not.toContain("ann");
  for (const host of ["remuda.example", "192.0.2.7", "2001:db8::7"])
    expect((await remuda("env", "--host", host)).stdout).toContain(host);
});

test("names an empty command", async () => {
  await remuda("proxies", "add", join(dataDir, "reports.txt"));
  expect(await remuda("exec", "--", "")).toEqual({
    code: 126,
    stdout: "",
    stderr: 'remuda: cannot run "": it is empty\n',
  });
});

test("reports an invalid data directory in a sentence, for every command", async () => {
  const folder = await mkdtemp(join(tmpdir(), "clumsy-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "file");
  await writeFile(file, "");
  for (const args of [["audit", "key"], ["lease"], ["user", "list"], ["doctor"], ["up"]]) {
    const { code, stderr } = await runCommand(args, { dataDir: file });
    expect({ args, code }).toEqual({ args, code: 2 });
    expect(stderr).toMatch(/^remuda: [^\n]*file[^\n]* cannot be (read|made) [^\n]*\n$/);
  }
  const env = { REMUDA_NATS_URL: "nats://127.0.0.1:4222" };
  const { code, stderr } = await runCommand(["run", "picker"], { dataDir: file, env });
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/^remuda: [^\n]* cannot be [^\n]*\n$/) });
});

test("prints the last output of a dead NATS server on separate lines", async () => {
  const folder = await mkdtemp(join(tmpdir(), "clumsy-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const env = { REMUDA_NATS_HOST: "192.0.2.1", REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0" };
  const { code, stderr } = await runCli(["up"], { dataDir: folder, env });
  expect(code).toBe(2);
  expect(stderr).toMatch(/^remuda: nats-server ended before it was ready \(exit 1\); it said:\n( {2}[^\n]*\n)+$/m);
  expect(stderr).toMatch(/^ {2}[^\n]*Error listening on port/m);
  expect(stderr).not.toContain("\uFFFD");
});

test("reports an output that cannot be written, at least by the exit code", async () => {
  const inShell = (line: string) => {
    const env = { ...process.env, REMUDA_DATA_DIR: dataDir, REMUDA: `"${process.execPath}" cli/main.ts` };
    return spawnSync("sh", ["-c", line], { cwd: root, env, encoding: "utf8" });
  };
  for (const command of ["pool list", "proxies list --json", "proxies export", "pool stats", "doctor"]) {
    const { status, stderr } = inShell(`eval "$REMUDA ${command}" > /dev/full`);
    expect({ command, status, stderr }).toEqual({
      command,
      status: 2,
      stderr: "remuda: the standard output cannot be written (ENOSPC)\n",
    });
  }
  expect(inShell('eval "$REMUDA lease --nonsense" 2> /dev/full').status).toBe(2);
  expect(inShell('eval "$REMUDA lease --pool nowhere" 2> /dev/full').status).toBe(1);
});

test("never replaces something other than a file by a list", async () => {
  const folder = await mkdtemp(join(tmpdir(), "clumsy-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  for (const place of [pipe, folder]) {
    expect(await remuda("proxies", "export", "--output", place)).toEqual({
      code: 2,
      stdout: "",
      stderr: `remuda: ${place} is not a file. Name a file.\n`,
    });
  }
  expect((await lstat(pipe)).isFIFO()).toBe(true);
});

test.each([
  ["lease", []],
  ["exec", ["--", "true"]],
] as const)("Ctrl-C cancels the waiting request of a %s", async (command, more) => {
  const pool = `waiting-${command}`;
  const pools = `${service.httpUrl}/v1/pools/${pool}`;
  await fetch(pools, { method: "PUT", body: '{"policy": {"concurrency": 1}}' });
  await fetch(`${pools}/proxies`, { method: "POST", body: "192.0.2.1:80" });
  const { leaseId } = (await (await fetch(`${pools}/leases`, { method: "POST" })).json()) as { leaseId: string };
  const stats = async () => (await (await fetch(`${pools}/stats`)).json()) as { waiting: number };
  const env = { ...process.env, REMUDA_DATA_DIR: dataDir };
  const args = ["cli/main.ts", command, "--pool", pool, "--wait", "60s", ...more];
  const waiter = spawn(process.execPath, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [waiter.stdout, waiter.stderr]) stream.on("data", (chunk) => (said += chunk));
  const ended = once(waiter, "close");
  await eventually(async () => expect(await stats()).toMatchObject({ waiting: 1 }), { timeoutMs: 20_000 });
  for (let times = 0; times < 2; times++) waiter.kill("SIGINT"); // As through npx, which passes on the signal that the terminal already sent.
  expect([(await ended)[0], said]).toEqual([130, ""]);
  expect(await stats()).toMatchObject({ waiting: 0 });
  await fetch(`${pools}/leases/${leaseId}`, { method: "DELETE" });
  expect(await stats()).toMatchObject({ leases: { open: 0, granted: 1 } });
});
