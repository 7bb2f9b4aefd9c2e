// The Go client: its own tests, in Go, against the table of outcomes and a real service.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Lab, startLab } from "./lab.ts";
import { goEnv, root, run } from "./run.ts";
import { startWorld, type World } from "./world.ts";

const cwd = join(root, "clients/go");
let folder: string;
let lab: Lab;
let world: World;

/** This client keeps no connections, because each request has a lease of its own. */
const without = ["a kept connection closes before any answer"];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "clients-go-"));
  [lab, world] = [await startLab("go", without), await startWorld(folder)];
}, 150_000);
afterAll(async () => {
  await Promise.all([lab?.stop(), world?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

test("go vet and gofmt find nothing", async () => {
  expect(await run("go", ["vet", "./..."], { cwd, env: goEnv })).toEqual({ code: 0, output: "" });
  expect(await run("gofmt", ["-l", "."], { cwd, env: goEnv })).toEqual({ code: 0, output: "" });
}, 240_000);

test("its own tests pass: its rules, each row of the table of outcomes, and a real service", async () => {
  const env = { ...goEnv, ...world.env, LAB: JSON.stringify(lab.rows) };
  // With GO_RACE=1 also for data races. That takes a C compiler, and a minute the first time.
  const race = process.env["GO_RACE"] === "1";
  const args = ["test", "-count=1", "-parallel=64", "-v", ...(race ? ["-race"] : []), "."];
  const { code, output } = await run("go", args, { cwd, env: race ? { ...env, CGO_ENABLED: "1" } : env });
  const wrong = /^\s*(--- (FAIL|SKIP)|\w+_test\.go:)|^panic|^FAIL|DATA RACE/;
  expect(output.split("\n").filter((line) => wrong.test(line))).toEqual([]);
  expect(code).toBe(0);
  expect(output.match(/^ {4}--- PASS/gm)?.length).toBe(lab.rows.length);
}, 240_000);

test("the example of docs/go.md runs as written, as a module of its own", async () => {
  const page = readFileSync(join(root, "docs/go.md"), "utf8");
  const [, example = ""] = /```go\n([\s\S]*?)```/.exec(page) ?? [];
  const [, edit = ""] = /```sh\ngo (.*)\n```/.exec(page) ?? [];
  const own = join(folder, "example");
  mkdirSync(own);
  writeFileSync(join(own, "go.mod"), "module example\n\ngo 1.19\n");
  const here = example.replace("https://example.org/", `${world.env["SITE"]}/seen`);
  writeFileSync(join(own, "main.go"), here.replace("Options{}", 'Options{Pool: "go-example"}'));
  const pool = "go-example";
  await world.service.pool(pool, JSON.parse(world.env["PROXIES"] ?? "[]"), { rate: null });
  const edited = await run("go", edit.replace("../remuda/clients/go", cwd).split(" "), { cwd: own, env: goEnv });
  expect(edited).toEqual({ code: 0, output: "" });
  const ran = await run("go", ["run", "."], { cwd: own, env: { ...goEnv, ...world.env } });
  expect(ran).toEqual({ code: 0, output: "200 5\n1 2 <nil>\n2 <nil>\n" });
  const { body } = await world.service.call(`GET /v1/pools/${pool}/stats`);
  expect(body).toMatchObject({ leases: { open: 0, expired: 0 }, outcomes: { succeeded: 4, failed: 0, ignored: 0 } });
}, 240_000);
