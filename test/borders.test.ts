import { expect, test } from "vitest";
import {
  borderBreaches,
  breachesIn,
  importCycles,
  importsIn,
  loadersOf,
  packagesWith,
  readSources,
} from "./borders.ts";

const root = new URL("..", import.meta.url).pathname;

test("keeps every border of the repository", () => {
  expect(borderBreaches(root)).toEqual([]);
});

test("reads every folder, the root too, and no package", () => {
  const files = Object.keys(readSources(root));
  expect(files).toEqual(expect.arrayContaining(["vitest.config.ts", "compose/ready.ts", "test/borders.test.ts"]));
  expect(files.filter((file) => file.includes("node_modules"))).toEqual([]);
});

test("starts no broker and no service in the tests of the core", () => {
  const sources = readSources(root);
  const core = Object.keys(sources).filter((file) =>
    /^test\/((audit|docs|lists|properties|rules)\/.*|[^/]*)\.test\.ts$/.test(file),
  );
  expect(core.length).toBeGreaterThan(40);
  const importsOf = importsIn(sources);
  for (const file of core)
    for (const starter of ["test/kit/broker.ts", "test/kit/process.ts"])
      expect(importsOf(file).has(starter), `${file} imports ${starter}`).toBe(false);
});

test("a start loads only the packages that every service needs", () => {
  const services = ["api/server", "audit/service", "guest-token/server", "sources/sources"];
  const loaded = packagesWith(readSources(root), [
    "cli/main.ts",
    "cli/up.ts",
    ...services.map((name) => `services/${name}.ts`),
  ]);
  expect(loaded).toContain("fastify");
  for (const name of ["undici", "socks", "@fastify/swagger", "@fastify/swagger-ui"]) expect(loaded).not.toContain(name);
});

test("a command of the service loads no schema, and the NATS library only to connect", () => {
  const sources = readSources(root);
  const commands = ["main", "leases", "exec", "proxies", "pools", "sources", "environment", "doctor", "completion"];
  const files = commands.map((name) => `cli/${name}.ts`);
  expect([...packagesWith(sources, files)].filter((name) => !name.startsWith("node:"))).toEqual(["commander"]);
  for (const name of ["connection", "watch", "token", "user"])
    expect(packagesWith(sources, [`cli/${name}.ts`])).not.toContain("zod");
});

test("names all files that load a file, directly or through others", () => {
  const sources = {
    "a.ts": 'import { b } from "./x/b.ts";',
    "x/b.ts": 'import type { A } from "../a.ts";\nexport const b = 1;',
    "c.ts": 'import "./a.ts";',
    "d.ts": 'import type { C } from "./c.ts";',
  };
  expect([...loadersOf(sources, ["x/b.ts"])]).toEqual(["x/b.ts", "a.ts", "c.ts"]);
  expect([...loadersOf(sources, ["c.ts"])]).toEqual(["c.ts"]);
});

test.each([
  ["events/a.ts", 'import { x } from "../runtime/b.ts";', "must not import runtime/b.ts"],
  ["events/a.ts", 'import "../runtime/b.ts";', "must not import runtime/b.ts"],
  ["events/a.ts", 'const b = await import("../runtime/b.ts");', "must not import runtime/b.ts"],
  ["state-machines/a.ts", 'import { x } from "node:fs";', "must not import the package node:fs"],
  ["state-machines/a.ts", "const at = Date.now();", "must not name Date"],
  ["state-machines/a.ts", "const x = Math.random();", "must not name Math.random"],
  ["runtime/a.ts", 'import type { Event } from "../events/event.ts";', "must not import events/event.ts"],
  ["services/picker/a.ts", 'import { x } from "../api/b.ts";', "must not import services/api/b.ts"],
  ["services/picker/a.ts", 'export { x } from "../../cli/b.ts";', "must not import cli/b.ts"],
  ["compose/a.ts", 'import { x } from "../services/api/b.ts";', "must not import services/api/b.ts"],
  ["a.ts", 'import { x } from "./events/b.ts";', "must not import events/b.ts"],
  ["new-folder/a.ts", "", "the folder new-folder has no border"],
])("in %s, finds the breach in: %s", (file, source, breach) => {
  expect(breachesIn(source, file)).toEqual([expect.stringContaining(breach)]);
});

test("finds nothing wrong with an allowed import, a comment or a text", () => {
  expect(breachesIn('import { encodeCommit } from "../events/commit.ts";\nimport "node:fs";', "runtime/a.ts")).toEqual(
    [],
  );
  expect(breachesIn('// Date.now() would be wrong here\nconst text = "Date";', "state-machines/a.ts")).toEqual([]);
});

test.each([
  ["values", 'import { b } from "./b.ts";', 'import { a } from "../x/a.ts";'],
  ["types", 'import type { B } from "./b.ts";', 'import type { A } from "./a.ts";'],
  ["lines", 'import {\n  type B,\n  b,\n} from "./b.ts";', 'export { a } from "./a.ts";'],
  ["side effects", 'import "./b.ts";', 'import "./a.ts";'],
  ["expressions", 'const b = () => import("./b.ts");', 'import type { A } from "./a.ts";'],
])("finds a cycle of imported %s", (_what, a, b) => {
  expect(importCycles({ "x/a.ts": a, "x/b.ts": b, "x/c.ts": 'import "./a.ts";' })).toEqual([["x/a.ts", "x/b.ts"]]);
});

test("tells each cycle once, in the order of its imports, and a file that imports itself", () => {
  const cycles = importCycles({
    "a.ts": 'import "./b.ts";\nimport "./d.ts";',
    "b.ts": 'import "./c.ts";',
    "c.ts": 'import "./a.ts";',
    "d.ts": 'import "./e.ts";',
    "e.ts": 'import "./d.ts";',
    "f.ts": 'import "./f.ts";',
  });
  expect(cycles).toEqual([["a.ts", "b.ts", "c.ts"], ["d.ts", "e.ts"], ["f.ts"]]);
});

test("finds no cycle where files only share an import", () => {
  expect(
    importCycles({ "a.ts": 'import "./b.ts";\nimport "./c.ts";', "b.ts": 'import "./c.ts";', "c.ts": "" }),
  ).toEqual([]);
});
