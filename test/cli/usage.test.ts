// Wrong usage and no service: a sentence that says what to do, the right exit code, and never a stack trace.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { addAudit } from "../../cli/audit.ts";
import { addBackup } from "../../cli/backup.ts";
import { addCompletion } from "../../cli/completion.ts";
import { addDoctor } from "../../cli/doctor.ts";
import { addEnvironment } from "../../cli/environment.ts";
import { examples } from "../../cli/examples.ts";
import { addExec } from "../../cli/exec.ts";
import { addKeys } from "../../cli/keys.ts";
import { addLeases } from "../../cli/leases.ts";
import { addPools } from "../../cli/pools.ts";
import { addProxies } from "../../cli/proxies.ts";
import { addSources } from "../../cli/sources.ts";
import { addTokens } from "../../cli/token.ts";
import { addUsers } from "../../cli/user.ts";
import { addWatch } from "../../cli/watch.ts";
import { proxyStates } from "../../events/words.ts";
import { deadPort } from "../client/lab.ts";
import { findTestBinary, startTestBroker } from "../kit/broker.ts";
import { runCommand } from "../kit/command.ts";
import { natsThatSays } from "../kit/rejecting-nats.ts";

let dataDir: string;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "cli-test-"));
});
afterAll(() => rm(dataDir, { recursive: true, force: true }));

describe("wrong usage", () => {
  test.each([
    ["nonsense", "remuda: unknown command 'nonsense'"],
    ["lease --nonsense", "remuda: unknown option '--nonsense'"],
    ["lease extra", "remuda: too many arguments for 'lease'"],
    ["lease --ttl 90", "It must be a number with a unit, such as 500ms, 90s, 10m, 2h or 1d."],
    ["lease --uses 0x10", "It must be a whole number of at least 1."],
    ["lease --label country", "It must be name=value, such as country=US."],
    ["lease --pool Bad.Name", "It must be lower-case letters, digits and dashes"],
    ["release", "remuda: missing required argument 'leaseId'"],
    ["report l_aaaaaaaaaaaaaaaaaaaaaaaa", "Give one of --status, --result, --reason, --error and --token-rejected."],
    ["report l_aaaaaaaaaaaaaaaaaaaaaaaa --reason bored", "Allowed choices are unreachable, timeout"],
    ["proxies rest p_aaaaaaaaaaaaaaaa", "remuda: required option '--for <duration>' not specified"],
    ["run picker", "REMUDA_NATS_URL is not set"],
    ["leese", "(Did you mean lease?)"],
    ["proxies lst", "(Did you mean list?)"],
    ["status", "(Did you mean remuda doctor, or remuda pool stats?)"],
    ["proxies rm", "(Did you mean remuda proxies retire?)"],
  ])("%s", async (args, sentence) => {
    const { code, stdout, stderr } = await runCommand(args.split(" "), { dataDir });
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(sentence);
    expect(stderr).toMatch(/^remuda: /);
    expect(stderr).not.toContain("    at ");
  });

  test("names an invalid variable", async () => {
    const { code, stderr } = await runCommand(["lease"], { dataDir, env: { REMUDA_NATS_PORT: "many" } });
    expect(code).toBe(2);
    expect(stderr).toMatch(/^remuda: REMUDA_NATS_PORT is "many"/);
  });

  test("without a command, lists all of them on stderr", async () => {
    const { code, stdout, stderr } = await runCommand([], { dataDir });
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain("Exit code: 0 done, 1 refused");
    expect(stderr.split("\n").filter((line) => line.length > 80)).toEqual([]);
  });
});

test.each(["up", "run", "proxies add", "exec", "watch", "doctor"])(
  "remuda %s --help ends with an example, and fits into 80 columns",
  async (command) => {
    const { code, stdout, stderr } = await runCommand([...command.split(" "), "--help"], { dataDir });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain(`Usage: remuda ${command}`);
    expect(stdout).toContain(`\nFor example:\n  ${examples[command]?.[0]}\n`);
    expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
  },
);

test("each command has an example, and each example a command", async () => {
  const program = new Command().enablePositionalOptions();
  addEnvironment(program, () => unasked());
  addProxies(program, unasked);
  addLeases(program, unasked);
  addExec(program, unasked);
  addPools(program, unasked);
  addSources(program, unasked);
  addWatch(program, unasked, unasked);
  addUsers(program, unasked);
  addTokens(program, unasked, unasked);
  await addAudit(program.command("audit"), unasked, undefined);
  addBackup(program, unasked);
  addKeys(program, unasked);
  addDoctor(program);
  addCompletion(program);
  const leaves = (command: Command, words: string[]): string[] =>
    command.commands.length === 0
      ? [words.join(" ")]
      : command.commands.flatMap((each) => leaves(each, [...words, each.name()]));
  expect(["up", "run", ...leaves(program, [])].sort()).toEqual(Object.keys(examples).sort());
  for (const [command, lines] of Object.entries(examples)) {
    for (const line of lines) expect(line).toContain(`npx remuda ${command}`);
  }
});

test("bash completes commands, options and choices", async () => {
  const { stdout } = await runCommand(["completion", "bash"], { dataDir });
  const completed = (line: string): string[] => {
    const words = `COMP_WORDS=(${line}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _remuda; echo "\${COMPREPLY[@]}"`;
    return execFileSync("bash", ["-c", `${stdout}\n${words}`], { encoding: "utf8" })
      .trim()
      .split(" ");
  };
  expect(completed('remuda pro""')).toEqual(["proxies"]);
  expect(completed('remuda proxies re""')).toEqual(["retire", "rest", "revive"]);
  expect(completed('remuda proxies list --pool x --state ""')).toEqual([...proxyStates]);
  expect(completed("remuda proxies list --so")).toEqual(["--sort"]);
  expect(completed('remuda audit what-if --p""')).toEqual(["--pool", "--policy"]);
  expect(completed('remuda run ""')).toContain("guest-token");
  for (const shell of ["zsh", "fish"])
    expect((await runCommand(["completion", shell], { dataDir })).stdout).toContain("what-if");
  expect((await runCommand(["completion", "tcsh"], { dataDir })).code).toBe(2);
});

function unasked(): never {
  throw new Error("nothing is asked here");
}

test("remuda --help lists every command", async () => {
  const { stdout } = await runCommand(["--help"], { dataDir });
  for (const command of Object.keys(examples)) expect(stdout).toContain(`\n  ${command.split(" ")[0]}`);
});

test("ignores a corrupt address file, and does not crash", async () => {
  await writeFile(join(dataDir, "address.json"), "{}\n");
  onTestFinished(() => rm(join(dataDir, "address.json")));
  const { code, stderr } = await runCommand(["lease"], {
    dataDir,
    env: { REMUDA_NATS_PORT: String(await deadPort()) },
  });
  expect(code).toBe(3);
  expect(stderr).toMatch(/^remuda: no service at nats:/);
});

describe("no service", () => {
  test("nothing listens: names the address, and what to do", async () => {
    const env = { REMUDA_NATS_URL: `nats://user:secret@127.0.0.1:${await deadPort()}` };
    for (const args of [["lease"], ["pool", "list"], ["proxies", "list", "--json"]]) {
      const { code, stdout, stderr } = await runCommand(args, { dataDir, env });
      expect({ code, stdout }).toEqual({ code: 3, stdout: "" });
      expect(stderr).toMatch(
        /^remuda: no service at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ \(connection refused\)\. .*remuda up/,
      );
    }
  });

  test("a program listens but never answers", async () => {
    const mute = createServer(() => {}).listen(0, "127.0.0.1");
    onTestFinished(() => void mute.close());
    await once(mute, "listening");
    const address = mute.address();
    const port = typeof address === "object" ? address?.port : undefined;
    const { code, stderr } = await runCommand(["lease"], {
      dataDir,
      env: { REMUDA_NATS_URL: `nats://127.0.0.1:${port}` },
    });
    expect(code).toBe(3);
    expect(stderr).toMatch(/^remuda: no service at \S+ \(it did not answer in time\)/);
  });

  test("distinguishes a NATS server without a picker", async () => {
    const broker = await startTestBroker();
    onTestFinished(() => broker.stop());
    for (const args of [["lease"], ["pool", "list"], ["pool", "open"]]) {
      const { code, stderr } = await runCommand(args, { dataDir, env: { REMUDA_NATS_URL: broker.url } });
      expect(code).toBe(3);
      expect(stderr).toMatch(/^remuda: NATS answers at nats:\/\/\S+, but no picker does\. /);
    }
  });

  test("uses the credentials of the URL, and reports wrong ones as such", async () => {
    const port = await startGuardedNats(["--user", "user", "--pass", "p@ss"]);
    const asking = (login: string) =>
      runCommand(["lease"], { dataDir, env: { REMUDA_NATS_URL: `nats://${login}@127.0.0.1:${port}` } });
    expect((await asking("user:p%40ss")).stderr).toContain("but no picker does");
    expect(await asking("user:wrong")).toEqual({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(
        /^remuda: NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ does not accept the login of the user "user"\. Set REMUDA_NATS_URL /,
      ),
    });
  });
});

describe("a login", () => {
  const asking = (url: string, ...args: string[]) => runCommand(args, { dataDir, env: { REMUDA_NATS_URL: url } });

  test("that came too late is repeated, and not reported as a mistake", async () => {
    const { url, logins } = await natsThatSays("Authentication Timeout", 100);
    expect(await asking(url, "lease")).toEqual({
      code: 3,
      stdout: "",
      stderr: expect.stringMatching(
        /^remuda: NATS at nats:\/\/\*\*\*@127\.0\.0\.1:\d+ received no login in time, 5 times/,
      ),
    });
    expect(logins()).toBe(5);
  });

  test("that has expired is reported as expired", async () => {
    const { url } = await natsThatSays("User Authentication Expired", 100);
    expect(await asking(url, "lease")).toEqual({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(/^remuda: The login of the user "user" at \S+ has expired\. Set REMUDA_NATS_URL /),
    });
  });

  test("is not sent in the clear if the URL says tls://", async () => {
    const broker = await startTestBroker();
    onTestFinished(() => broker.stop());
    const url = broker.url.replace("nats://", "tls://user:s3cret@");
    for (const command of ["lease", "watch"]) {
      const { code, stderr } = await asking(url, command);
      expect(code).toBe(3);
      expect(stderr).toContain("(server does not support 'tls')");
    }
  });
});

describe("the launcher", () => {
  const launcher = fileURLToPath(new URL("../../cli/remuda.js", import.meta.url));
  const nodes = (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, "node"));
  const old = nodes.find((node) => existsSync(node) && isOld(node)) ?? process.execPath;

  test("starts the command line with a node that is new enough", () => {
    expect(execFileSync(process.execPath, [launcher, "--version"], { encoding: "utf8" })).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test("prints the version without the command line", () => {
    const place = mkdtempSync(join(tmpdir(), "launcher-test-"));
    onTestFinished(() => rmSync(place, { recursive: true, force: true }));
    cpSync(launcher, join(place, "cli/remuda.js"));
    cpSync(fileURLToPath(new URL("../../package.json", import.meta.url)), join(place, "package.json"));
    const printed = execFileSync(old, [join(place, "cli/remuda.js"), "-V"], { encoding: "utf8" });
    expect(printed).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test("an old node (if there is one, else this) starts the project's own, with input and exit code", async () => {
    expect(execFileSync(old, [launcher, "--version"], { encoding: "utf8" })).toMatch(/^\d+\.\d+\.\d+\n$/);
    const env = { ...process.env, REMUDA_DATA_DIR: dataDir, REMUDA_NATS_URL: `nats://127.0.0.1:${await deadPort()}` };
    const child = spawn(old, [launcher, "pool", "policy", "-"], { env, stdio: ["pipe", "ignore", "pipe"] });
    child.stdin.end("[1]");
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    const [code] = await once(child, "close");
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: 'remuda: standard input is not a JSON object. Give one such as {"concurrency": 2}.\n',
    });
  });
});

function isOld(node: string): boolean {
  const [major = 0, minor = 0] = execFileSync(node, ["--version"], { encoding: "utf8" })
    .slice(1)
    .split(".")
    .map(Number);
  return major < 22 || (major === 22 && minor < 18);
}

/** Returns its port, once it listens there. */
async function startGuardedNats(flags: readonly string[]): Promise<number> {
  const binary = await findTestBinary();
  const child: ChildProcess = spawn(binary, ["-a", "127.0.0.1", "-p", "-1", ...flags], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  onTestFinished(async () => {
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  });
  for await (const line of createInterface({ input: child.stderr! })) {
    const port = /client connections on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (port !== undefined) return Number(port);
  }
  throw new Error("nats-server ended before it listened");
}
