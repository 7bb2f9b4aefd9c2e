// The tables of the reference for operators, compared with the code. The commands of the how-to are run as an operator
// would run them.
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { roles } from "../../protocol/rights.ts";
import { sectionsOf } from "../docs/markdown.ts";
import { cloneFolder, readPage, runBlock } from "../kit/page.ts";
import { type RemudaProcess, startRemuda } from "../kit/process.ts";

const page = readPage("operating.md");
const reference = readPage("operating-reference.md");
let folder: string;
let remuda: RemudaProcess;

beforeAll(async () => {
  folder = cloneFolder();
  remuda = await startRemuda({ dataDir: join(folder, ".remuda") });
}, 150_000);

afterAll(async () => {
  await remuda?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** The code words in the first column of the tables under a heading of the reference. */
function firstColumn(heading: string): string[] {
  const { lines = [] } = sectionsOf(reference).find((each) => each.heading === heading) ?? {};
  return lines.flatMap(({ text }) => {
    const [, cell = ""] = text.startsWith("|") ? text.split("|") : [];
    return [...cell.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code);
  });
}

test("the table of settings lists every variable that is read, and no other", () => {
  const config = readFileSync(new URL("../../runtime/config.ts", import.meta.url), "utf8");
  const read = new Set(config.match(/REMUDA_[A-Z_]+/g));
  expect(firstColumn("Settings").sort()).toEqual([...read].sort());
});

test("the table of users lists every role", () => {
  expect(firstColumn("Users").sort()).toEqual([...roles].sort());
});

test("the lines under Users do what the page says", { timeout: 60_000 }, async () => {
  const { code, output } = await runBlock(page, "Users", { folder, env: { REMUDA_NATS_PORT: "0" } });
  expect({ code, output }).toEqual({ code: 0, output });
  expect(output.match(/^REMUDA_NATS_URL=nats:\/\/(client|auditor|alice|grafana|ann):/gm)).toHaveLength(6);
  expect(output.match(/^REMUDA_HTTP_KEY=/gm)).toHaveLength(5);
  expect(output).toMatch(/^alice +worker +all$/m);
  expect(output).toMatch(/^alice is removed$/m);
});
