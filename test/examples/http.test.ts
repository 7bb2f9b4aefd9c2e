// Runs every runnable line of the HTTP page as a reader would. A lease that a line names is the previous one.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { usersIn } from "../kit/login.ts";
import { cloneFolder, readPage } from "../kit/page.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";

const lines = [...readPage("http.md").matchAll(/```sh\n([\s\S]*?)```/g)].flatMap(([, block = ""]) =>
  block.trimEnd().split("\n"),
);
let folder: string;
let remuda: RemudaProcess;
let leaseId = "l_…";

beforeAll(async () => {
  folder = cloneFolder();
  remuda = await startRemuda({ dataDir: join(folder, ".remuda") });
  writeFileSync(join(folder, "proxies.txt"), "192.0.2.1:80\n192.0.2.2:80\n");
  const body = "192.0.2.3:80\n192.0.2.4:80\n";
  expect((await fetch(`${remuda.httpUrl}/v1/pools/default/proxies`, { method: "POST", body })).status).toBe(200);
}, 150_000);

afterAll(async () => {
  await remuda?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function run(line: string): Promise<{ code: number | null; output: string }> {
  const { host } = new URL(remuda.httpUrl ?? "");
  const here = line
    .replace("localhost:7480", host)
    .replace("l_…", leaseId)
    .replace("curl", "curl -sS --fail-with-body");
  const REMUDA_HTTP_KEY = usersIn(join(folder, ".remuda")).find(({ name }) => name === "client")?.key ?? "";
  const child = spawn("sh", ["-uc", here], {
    cwd: folder,
    env: { ...process.env, REMUDA_HTTP_URL: remuda.httpUrl, REMUDA_HTTP_KEY },
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
    // A command that runs forever is ended once it has printed something, as by Ctrl-C.
    if (line.includes("/events") && child.pid !== undefined) process.kill(-child.pid, "SIGINT");
  });
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  return { code: signal === "SIGINT" || code === 130 ? 0 : code, output };
}

const answers: [part: string, answer: RegExp | object][] = [
  [
    "-X POST localhost:7480/v1/pools/default/leases ",
    { leaseId: expect.stringMatching(/^l_/), leftMs: expect.any(Number) },
  ],
  ['"uses":10', { uses: 10 }],
  ["/outcomes", { accepted: 1, ignored: [], ignoredCount: 0, stop: [] }],
  ["-X DELETE", { used: 3, returned: 7 }],
  ["proxies.txt", { added: 2, rejected: [] }],
  ["/events", /^retry: 1000$/m],
  ["Authorization: Bearer", { leaseId: expect.stringMatching(/^l_/) }],
];

test("the page has these lines", () => {
  expect(lines.map((line) => answers.find(([part]) => line.includes(part))?.[0])).toEqual(
    answers.map(([part]) => part),
  );
});

test.each(answers)("%s", async (part, answer) => {
  const line = lines.find((each) => each.includes(part)) ?? "";
  const { code, output } = await run(line);
  expect({ code, output }).toEqual({ code: 0, output });
  if (answer instanceof RegExp) return expect(output).toMatch(answer);
  const body = JSON.parse(output) as { leaseId?: string };
  expect(body).toMatchObject(answer);
  leaseId = body.leaseId ?? leaseId;
});
