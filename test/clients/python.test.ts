// The Python client: its own tests, in Python, against the table of outcomes and a real service.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Lab, startLab } from "./lab.ts";
import { buildPython, installPython, python, root, run } from "./run.ts";
import { startWorld, type World } from "./world.ts";

const cwd = join(root, "clients/python");
let folder: string;
let lab: Lab;
let world: World;

/** This client keeps no connections, and its body is read before the caller has it. */
const without = [
  "a kept connection closes before any answer",
  "the caller aborts",
  "the caller cancels it",
  "the lease ends while the reader has paused",
];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "clients-python-"));
  [lab, world] = [await startLab("python", without), await startWorld(folder)];
}, 150_000);
afterAll(async () => {
  await Promise.all([lab?.stop(), world?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

test("its own tests pass: its rules, and each row of the table of outcomes over each transport", async () => {
  const env = {
    PYTHONPATH: join(cwd, "src"),
    CLASSIFICATION: join(root, "clients/classification.json"),
    LAB: JSON.stringify(lab.rows),
    CA: world.env["CA"] ?? "",
  };
  const { code, output } = await run(python, ["-W", "error", "-m", "unittest", "discover", "-s", "tests"], {
    cwd,
    env,
  });
  expect(output).toMatch(/^OK$/m);
  expect(code).toBe(0);
});

test("leases, fetches and reports with a real service, alone and under requests, httpx and aiohttp", async () => {
  const env = { ...world.env, PYTHONPATH: `${join(cwd, "src")}:${join(cwd, "tests")}` };
  const { code, output } = await run(python, ["-m", "unittest", "with_service"], { cwd, env });
  expect(output).toMatch(/^OK$/m);
  expect(code).toBe(0);
}, 120_000);

const page = readFileSync(join(root, "docs/python.md"), "utf8");
const examples = [...page.matchAll(/^## (\w+)|```python\n([\s\S]*?)```/gm)].reduce<[string, string][]>(
  (found, [, heading, code]) => {
    if (heading !== undefined) found.push([heading, ""]);
    else if (found.length === 0) found.push(["its first example", code ?? ""]);
    else found[found.length - 1]![1] += code ?? "";
    return found;
  },
  [],
);

test("each example of docs/python.md runs as written, and each of its requests is a use", async () => {
  const ran = examples.filter(([, code]) => code !== "");
  expect(ran.map(([name]) => name)).toEqual([
    "its first example",
    "lease",
    "fetch",
    "asyncio",
    "requests",
    "httpx",
    "aiohttp",
  ]);
  const pool = "python-examples";
  await world.service.pool(pool, JSON.parse(world.env["PROXIES"] ?? "[]"), { rate: null, concurrency: null });
  // Only their pool and their site are others.
  const programs = ran.map(([, code]) =>
    code.replaceAll("https://example.org", world.env["SITE"] ?? "").replaceAll("Client()", `Client(pool="${pool}")`),
  );
  // One process, because loading the libraries takes longer than the examples.
  const text = programs.map((program) => `exec(compile(${JSON.stringify(program)}, "example", "exec"), {})`).join("\n");
  const { code, output } = await run(python, ["-c", text], {
    cwd,
    env: { ...world.env, PYTHONPATH: join(cwd, "src") },
  });
  expect(output).toBe("200 5\n200 None 1\n[200, 200, 200]\n200\n200\n200 5\n");
  expect(code).toBe(0);
  const { body } = await world.service.call(`GET /v1/pools/${pool}/stats`);
  expect(body).toMatchObject({ leases: { open: 0, expired: 0 }, outcomes: { succeeded: 13, failed: 0, neutral: 0 } });
});

test("builds a wheel and an sdist, and the wheel installs without a network into a fresh environment", async () => {
  const [wheel = "", sdist = ""] = (await buildPython([cwd], folder)).reverse();
  expect(basename(wheel)).toBe("remuda_client-0.1.0-py3-none-any.whl");
  const listed = await run("tar", ["tzf", sdist], { cwd: folder });
  expect(listed.output).toContain("/src/remuda_client/py.typed");
  const own = await installPython([wheel], folder);
  const program = [
    "import importlib.metadata, remuda_client, os.path",
    "with remuda_client.Client(pool='python-examples') as client:",
    "    print(importlib.metadata.version('remuda-client'), client.fetch(os.environ['SITE'] + '/seen').text.strip())",
    "print(os.path.exists(os.path.join(os.path.dirname(remuda_client.__file__), 'py.typed')))",
  ].join("\n");
  expect(await run(own, ["-c", program], { cwd: folder, env: world.env })).toEqual({
    code: 0,
    output: "0.1.0 seen\nTrue\n",
  });
}, 120_000);
