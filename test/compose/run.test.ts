// The services of docker-compose.yml as processes: the files that the Dockerfile would copy, the packages that it
// installs, and the same commands, environment and health checks. If we are root, they run as another user. Unlike
// containers, they use our folders for volume paths and loopback ports for service names.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { copyFile, mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loginsOf } from "../../cli/service-users.ts";
import { freePort } from "../../demo/free-port.ts";
import { findTestBinary } from "../kit/broker.ts";
import { usersIn } from "../kit/login.ts";
import { eventually } from "../kit/poll.ts";
import {
  copiesIn,
  copyContext,
  mountsOf,
  read,
  readCompose,
  readDockerfile,
  servicesOfTheCommandLine,
} from "./files.ts";

const compose = readCompose();
const uid = process.getuid?.() === 0 ? 1000 : undefined;
const ports = { nats: 0, monitoring: 0, http: 0, gateway: 0 };
const running = new Map<string, ChildProcess>();
let said = "";
let place: string;

beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), "compose-run-"));
  chmodSync(place, 0o755);
  for (const name of ["nats", "monitoring", "http", "gateway"] as const) ports[name] = await freePort();
  await buildImage();
  mkdirSync(join(place, "volumes"));
  for (const name of Object.keys(compose.volumes)) own(join(place, "volumes", name), 0o700);
  own(join(place, "tmp"), 0o755);
  own(join(place, "compiled"), 0o755);
}, 300_000);

afterAll(async () => {
  for (const child of running.values()) child.kill("SIGKILL");
  await Promise.all([...running.values()].map(ended));
  await rm(place, { recursive: true, force: true, maxRetries: 20 });
});

test("init creates the users once, and gives each service its own files, readable by no other", async () => {
  expect(await runOnce("init")).toMatchObject({ code: 0, stderr: "" });
  const users = readVolume("installation/users.json");
  expect(await runOnce("init")).toMatchObject({ code: 0 });
  expect(readVolume("installation/users.json")).toBe(users);
  const files = [
    "installation/users.json",
    "nats/users.conf",
    ...Object.keys(loginsOf).map((name) => `${name}/users.json`),
  ];
  for (const file of files) {
    const { mode, uid: owner } = statSync(join(place, "volumes", file));
    expect([file, mode & 0o777, owner]).toEqual([file, 0o600, uid ?? owner]);
  }
  const all = usersIn(join(place, "volumes/installation"));
  for (const [service, logins] of Object.entries(loginsOf)) {
    const known = all.filter(({ password }) => readVolume(`${service}/users.json`).includes(password));
    expect([service, logins]).toEqual([service, expect.arrayContaining(known.map(({ name }) => name))]);
    // HTTP checks keys by their hashes.
    const keys = all.filter(({ key }) => key !== undefined && readVolume(`${service}/users.json`).includes(key));
    expect([service, keys]).toEqual([service, []]);
  }
});

test("all services become healthy in the order of their dependencies", async () => {
  await start("nats");
  await inTime(() => natsIsHealthy());
  for (const name of (await servicesOfTheCommandLine()).filter((each) => each !== "api")) {
    await expect(isHealthy(name)).resolves.toBe(false);
    await start(name);
    await inTime(async () => expect(await isHealthy(name)).toBe(true));
    if (name === "picker") expect(await runOnce("default-pool")).toMatchObject({ code: 0 });
  }
  chmodSync(join(place, "volumes/api"), 0o500); // It is mounted read-only.
  await expect(isHealthy("api")).resolves.toBe(false);
  await start("api");
  await inTime(async () => expect(await isHealthy("api")).toBe(true));
}, 300_000);

let alice: Record<string, string>;

test("an added user leases over HTTP with its key and over NATS with its login; others are refused", async () => {
  const { code, stdout } = await runOnce("cli", [
    "user",
    "add",
    "alice",
    "--role",
    "admin",
    "--host",
    "127.0.0.1",
    "--json",
  ]);
  expect(code).toBe(0);
  alice = JSON.parse(stdout);
  expect(alice.REMUDA_HTTP_URL).toBe(`http://127.0.0.1:${ports.http}`);
  chmodSync(join(place, "volumes/api"), 0o700);
  expect(await runOnce("init")).toMatchObject({ code: 0 });
  chmodSync(join(place, "volumes/api"), 0o500);
  running.get("nats")?.kill("SIGHUP");
  const key = { authorization: `Bearer ${alice.REMUDA_HTTP_KEY}` };
  const list = {
    method: "POST",
    headers: { ...key, "content-type": "text/plain" },
    body: "127.0.0.2:80\n127.0.0.3:80",
  };
  expect(await (await fetch(`${alice.REMUDA_HTTP_URL}/v1/pools/default/proxies`, list)).json()).toMatchObject({
    added: 2,
  });

  expect((await leaseOverHttp({})).status).toBe(401);
  expect((await leaseOverHttp({ authorization: "Bearer wrong" })).status).toBe(401);
  expect((await leaseOverHttp(key)).status).toBe(201);
  const lease = () => runOnce("cli", ["lease", "--json"], { REMUDA_NATS_URL: alice.REMUDA_NATS_URL ?? "" });
  const overNats = await eventually(async () => {
    const done = await lease();
    expect(done).toMatchObject({ code: 0 }); // Until the server has reloaded its users.
    return done;
  });
  expect(JSON.parse(overNats.stdout)).toMatchObject({ pool: "default", leaseId: expect.stringMatching(/^l_/) });
  expect(await runOnce("cli", ["doctor"])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^0 problems/m) });
  const wrongLogin = { REMUDA_NATS_URL: `nats://alice:wrong@127.0.0.1:${ports.nats}` };
  expect((await runOnce("cli", ["lease"], wrongLogin)).code).toBe(2);
}, 120_000);

test("a killed picker is noticed, and its leases are still valid when it is back", async () => {
  const headers = { authorization: `Bearer ${alice.REMUDA_HTTP_KEY}` };
  const { leaseId } = (await (await leaseOverHttp(headers)).json()) as { leaseId: string };
  const picker = running.get("picker");
  picker?.kill("SIGKILL");
  await ended(picker!); // It was started above.
  await expect(isHealthy("api")).resolves.toBe(false);
  await utimes(aliveFile("picker"), new Date(), new Date(Date.now() - 20_000));
  await expect(isHealthy("picker")).resolves.toBe(false);

  await start("picker"); // As the restart policy does.
  await inTime(async () => expect(await isHealthy("api")).toBe(true));
  await expect(isHealthy("picker")).resolves.toBe(true);
  const url = `http://127.0.0.1:${ports.http}/v1/pools/default/leases/${leaseId}`;
  expect((await fetch(url, { method: "DELETE", headers })).status).toBe(200);
}, 120_000);

test("each service stops in order and in time, and has logged no secret", async () => {
  for (const [name, child] of [...running].reverse()) {
    const startedAt = performance.now();
    child.kill("SIGTERM");
    const code = await ended(child);
    expect([name, name === "nats" ? [0, 1].includes(code ?? -1) : code === 0]).toEqual([name, true]);
    expect(performance.now() - startedAt).toBeLessThan(5000);
  }
  const secrets = usersIn(join(place, "volumes/installation")).flatMap(({ password, key }) => [
    password,
    key ?? password,
  ]);
  expect(said).toContain("remuda is ready");
  expect(secrets.filter((secret) => said.includes(secret))).toEqual([]);
  expect(readdirSync(join(place, "app")).filter((name) => name.startsWith(".remuda"))).toEqual([]);
});

/** The two stages of the Dockerfile. */
async function buildImage(): Promise<void> {
  const packages = join(place, "packages");
  const app = join(place, "app");
  for (const [stage, folder] of [packages, app].entries()) {
    mkdirSync(folder);
    for (const { from, to } of copiesIn(stage))
      for (const path of from) copyContext(path, to === "./" ? join(folder, path) : join(folder, to));
  }
  const install = readDockerfile().find(({ word, stage }) => word === "RUN" && stage === 0)?.rest ?? "";
  expect(install).toBe("npm ci --omit=dev");
  const [command = "", ...args] = install.split(" ");
  // Without the executables of a platform, a quarter of a gigabyte: the image removes Node's, and the services use no
  // other.
  await promisify(execFile)(command, args, {
    cwd: packages,
    env: { ...npmEnvironment(), npm_config_prefer_offline: "true", npm_config_cpu: "none" },
  });
  expect(existsSync(join(packages, "node_modules/vitest"))).toBe(false);
  renameSync(join(packages, "node_modules"), join(app, "node_modules"));

  // In a place that another user can read.
  mkdirSync(join(place, "bin"));
  await copyFile(process.execPath, join(place, "bin/node"));
  await copyFile(await findTestBinary(), join(place, "bin/nats-server"));
  const conf = here("nats", read("compose/nats.conf"))
    .replace(/host: "0.0.0.0"\nport: 4222/, `host: "127.0.0.1"\nport: ${ports.nats}`)
    .replace("127.0.0.1:8222", `127.0.0.1:${ports.monitoring}`)
    .replace("../../data/users.conf", "../volumes/nats/users.conf");
  mkdirSync(join(place, "etc"));
  await writeFile(join(place, "etc/remuda.conf"), conf);
}

/** Without the variables that `npm test` sets for its own scripts of the project. */
function npmEnvironment(): NodeJS.ProcessEnv {
  const ofTheScript = /^(npm_(config_local_prefix$|package_|lifecycle_)|INIT_CWD$|NODE_OPTIONS$|NODE_ENV$|VITEST)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !ofTheScript.test(name)));
}

function own(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
  if (uid !== undefined) chownSync(path, uid, uid);
}

/** A text for the container, with paths and addresses replaced by the local ones. */
function here(service: string, text: string): string {
  const mounts = [...mountsOf(compose.services[service]!)].filter(([, source]) => source in compose.volumes);
  return [...mounts, ["/services", ""] as const]
    .reduce(
      (each, [target, source]) =>
        each.replace(new RegExp(`(?<=^|")${target}(?=$|/|")`), join(place, "volumes", source)),
      text,
    )
    .replace(/^\/app(?=\/)/, join(place, "app"))
    .replace(/^\/etc\/nats(?=\/)/, join(place, "etc"))
    .replace(/\/\/nats:4222$/, `//127.0.0.1:${ports.nats}`)
    .replace(/^(http:\/\/)api:7480$/, `$1127.0.0.1:${ports.http}`)
    .replace(/^7480$/, String(ports.http))
    .replace(/^7481$/, String(ports.gateway));
}

const aliveFile = (service: string): string => join(place, "tmp", service);

/** The image's variables, then the service's. A variable of the engine's own environment is unset. */
function environmentOf(service: string): Record<string, string> {
  const image = readDockerfile()
    .filter(({ word }) => word === "ENV")
    .flatMap(({ rest }) =>
      rest
        .trim()
        .split(/\s+/)
        .map((each) => each.split("=") as [string, string]),
    );
  const given = Object.entries(compose.services[service]?.environment ?? {});
  const all = [...image, ...given].map(([name, value]) => {
    const plain = value.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1");
    return [name, name === "REMUDA_ALIVE_FILE" ? aliveFile(service) : here(service, plain)];
  });
  // As in all tests (vitest.config.ts): some thirty processes would compile the same code.
  const compiled = { NODE_COMPILE_CACHE: join(place, "compiled") };
  return { PATH: `${join(place, "bin")}:${process.env.PATH}`, ...compiled, ...Object.fromEntries(all) };
}

function launch(service: string, command: readonly string[], env: Record<string, string> = {}): ChildProcess {
  // The engine's: nothing outlives the test, and no process is root.
  const guard = ["setpriv", "--pdeathsig", "KILL"];
  const other = uid === undefined ? [] : [`--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--no-new-privs"];
  const [first = "", ...rest] = [...guard, ...other, ...command.map((each) => here(service, each))];
  const child = spawn(first, rest, {
    cwd: join(place, "app"),
    env: { ...environmentOf(service), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk) => (said += service === "cli" ? "" : chunk));
  return child;
}

function commandOf(service: string): string[] {
  const { build, command = [] } = compose.services[service]!; // Named by the tests, or by the command line.
  const entry = readDockerfile().find(({ word }) => word === "ENTRYPOINT")?.rest ?? "[]";
  return build === undefined ? command : [...(JSON.parse(entry) as string[]), ...command];
}

/** Resolves when it says that it is ready, because each health check is a process. */
async function start(service: string): Promise<void> {
  const child = launch(service, commandOf(service));
  running.set(service, child);
  let own = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (own += chunk));
  await eventually(
    () => {
      if (child.exitCode !== null || child.signalCode !== null) return; // Its health check says so.
      expect(own).toMatch(/remuda is ready|Server is ready/);
    },
    { timeoutMs: startMs },
  );
}

async function runOnce(
  service: string,
  args: string[] = [],
  env: Record<string, string> = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = launch(service, [...commandOf(service), ...args], env);
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) child[name]?.on("data", (chunk) => (text[name] += chunk));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...text };
}

/** The time that a service may take to start before a failed check counts. */
const startMs = Number.parseInt(compose.services.api?.healthcheck?.start_period ?? "", 10) * 1000;
const inTime = (check: () => Promise<void>): Promise<void> => eventually(check, { timeoutMs: startMs, everyMs: 250 });

/** As in the health check of the service, or of the image. */
async function isHealthy(service: string): Promise<boolean> {
  const image = readDockerfile().find(({ word }) => word === "HEALTHCHECK")?.rest ?? "";
  const test =
    compose.services[service]?.healthcheck?.test?.slice(1) ?? (JSON.parse(image.split("CMD ")[1] ?? "[]") as string[]);
  const [code] = (await once(launch(service, test), "close")) as [number | null];
  return code === 0;
}

/** Its check is a wget of the image's. */
async function natsIsHealthy(): Promise<void> {
  const url = compose.services.nats?.healthcheck?.test?.at(-1)?.replace(":8222", `:${ports.monitoring}`) ?? "";
  expect((await fetch(url)).status).toBe(200);
}

function leaseOverHttp(headers: Record<string, string>): Promise<Response> {
  return fetch(`http://127.0.0.1:${ports.http}/v1/pools/default/leases`, { method: "POST", headers });
}

function readVolume(path: string): string {
  return readFileSync(join(place, "volumes", path), "utf8");
}

async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode;
}
