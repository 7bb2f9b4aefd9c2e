// Runs the commands of the how-to pages as they are written, page after page, against one service. Ids that a page
// leaves open (p_…, l_…) are those of a proxy and a lease of the pool shop.
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { linksOf } from "../docs/markdown.ts";
import { runCommand } from "../kit/command.ts";
import type { RemudaProcess } from "../kit/process.ts";
import { serviceForAll } from "../kit/service.ts";

const folder = new URL("../../docs/howto/", import.meta.url).pathname;
const pages = readdirSync(folder).sort();
const screenLines = 55;

let dataDir: string;
let service: RemudaProcess;
let vendor: Server;

serviceForAll((started) => {
  ({ dataDir, service } = started);
});

beforeAll(async () => {
  vendor = createServer((_request, response) => response.end("192.0.2.77:80\n"));
  await new Promise<void>((done) => vendor.listen(0, "127.0.0.1", done));
  expect((await fetch(`${service.httpUrl}/v1/pools/shop`, { method: "PUT" })).ok).toBe(true);
  const body = "192.0.2.1:80\n192.0.2.2:80\n192.0.2.3:80\n";
  expect((await fetch(`${service.httpUrl}/v1/pools/shop/proxies`, { method: "POST", body })).ok).toBe(true);
});
afterAll(() => void vendor?.close());

const ask = async <T>(method: string, path: string): Promise<T> =>
  (await (await fetch(`${service.httpUrl}/v1/pools/shop/${path}`, { method })).json()) as T; // The protocol's replies.

/** A page says what it changes against the default, and begins without open leases. */
async function asNew(): Promise<void> {
  await ask("POST", "policy/reset");
  const { leases } = await ask<{ leases: { leaseId: string }[] }>("GET", "leases");
  for (const { leaseId } of leases) await ask("DELETE", `leases/${leaseId}?used=0`);
}

/** Words of a line as a shell splits them: in quotes, or without a space. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|"([^"]*)"|([^\s'"#]\S*)|(#.*)/g)].flatMap(([, one, two, plain]) => {
    const word = one ?? two ?? plain;
    return word === undefined ? [] : [word];
  });
}

function commandsOf(page: string): string[] {
  const blocks = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block = ""]) => block);
  return blocks.flatMap((block) => block.trimEnd().split(/\n(?=npx remuda )/));
}

test.each(pages)("the commands of %s work", async (name) => {
  await asNew();
  for (const command of commandsOf(readFileSync(join(folder, name), "utf8"))) {
    const { proxies } = await ask<{ proxies: { id: string; state: string }[] }>("GET", "proxies");
    const proxyId = proxies.find(({ state }) => state !== "retired")?.id ?? "";
    const leaseId = command.includes("l_…") ? (await ask<{ leaseId: string }>("POST", "leases")).leaseId : "";
    const { port } = vendor.address() as AddressInfo; // It listens on TCP.
    const here = command
      .replace("p_…", proxyId)
      .replace("l_…", leaseId)
      .replace("https://vendor.example", `http://127.0.0.1:${port}`);
    const [npx, remuda, ...args] = wordsOf(here);
    expect([npx, remuda], command).toEqual(["npx", "remuda"]);
    const env = { REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0" };
    // A command that goes on for ever has its own tests. Its options are read here.
    const isEndless = args[0] === "watch";
    const { code, stdout, stderr } = await runCommand(isEndless ? [...args, "--help"] : args, { dataDir, env });
    const errors = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("remuda: warning: "));
    expect({ command, code, errors }).toEqual({ command, code: 0, errors: [] });
    expect(stdout, command).not.toBe("");
  }
});

test("each page is at most a screen long, begins with a command or a file, and is on the index", () => {
  const index = readFileSync(join(folder, "../howto.md"), "utf8");
  const linked = linksOf(index).map(({ target }) => target);
  expect(linked.filter((target) => target.startsWith("howto/")).sort()).toEqual(pages.map((name) => `howto/${name}`));
  for (const name of pages) {
    const lines = readFileSync(join(folder, name), "utf8").trimEnd().split("\n");
    expect(lines.length, name).toBeLessThanOrEqual(screenLines);
    expect(
      lines.findIndex((line) => line.startsWith("```")),
      name,
    ).toBeLessThanOrEqual(4);
  }
});
