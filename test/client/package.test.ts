// The package as it is published: packed, installed into an empty project, and used with every available Node. The
// example of its documentation runs as written. `node test/client/every-node.ts` does the same with Node 20, 22 and 24.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Service, startService } from "../api/http.ts";
import { type ForwardProxy, startForwardProxy } from "../kit/forward-proxy.ts";
import { nodesAtHand, packAndInstall } from "./installed.ts";
import { type Site, startSite } from "./site.ts";

const page = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");
const docs = page("client.md");
/** Crawlee prints errors alone, and writes no folder. */
const quiet = { CRAWLEE_LOG_LEVEL: "ERROR", CRAWLEE_PERSIST_STORAGE: "false" };
/** Examples with a file name. Each prints the status and the length of its page. */
const tools = [...page("node.md").matchAll(/```js (\S+)\n([\s\S]*?)```/g)];
const root = new URL("../..", import.meta.url).pathname;
let service: Service;
let site: Site;
let proxy: ForwardProxy;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "client-package-"));
  packAndInstall(folder);
  for (const tool of ["axios", "got", "@crawlee"])
    symlinkSync(join(root, "node_modules", tool), join(folder, "node_modules", tool));
  [service, site] = [await startService(), await startSite()];
  proxy = await startForwardProxy({ exit: "127.0.0.170" });
  await service.pool("default", [proxy.url], { rate: null });
}, 240_000);
afterAll(async () => {
  await service?.stop();
  await Promise.all([site?.stop(), proxy?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

async function run(
  node: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number | null; output: string }> {
  const child = spawn(node, args, {
    cwd: folder,
    env: { ...process.env, NODE_OPTIONS: "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  return { code: await new Promise((resolve) => child.on("close", resolve)), output };
}

const program = `
  import { connect, RemudaRefusal } from "remuda-client";
  const remuda = await connect();
  const lease = await remuda.lease({ uses: 2 });
  await remuda.report({ leaseId: lease.leaseId, n: 1, status: 200 });
  console.log("released", (await remuda.release(lease, { used: 1 })).returned);
  console.log("seen", (await (await remuda.fetch(process.env.TARGET)).text()).trim());
  const refused = await remuda.lease({ labels: { not: "there" } }).catch((error) => error);
  console.log("refused", refused instanceof RemudaRefusal, refused.code);
  await remuda.close();
`;

for (const [name, path] of nodesAtHand()) {
  test(`${name}: the installed package leases, reports, releases and fetches, over both transports`, async () => {
    const { natsUrl } = service.remuda;
    for (const env of [
      { REMUDA_NATS_URL: natsUrl, REMUDA_HTTP_URL: "" },
      { REMUDA_NATS_URL: "", REMUDA_HTTP_URL: service.url },
    ]) {
      const { code, output } = await run(path, ["--input-type=module", "-e", program], { ...env, TARGET: site.url });
      expect([output, code]).toEqual(["released 1\nseen seen\nrefused true no-match\n", 0]);
    }
  });
}

test("loads nothing of NATS over HTTP", async () => {
  const loaded = `
    import { registerHooks } from "node:module";
    registerHooks({ resolve(specifier, context, next) {
      if (specifier.includes("nats-io")) console.log("loaded", specifier);
      return next(specifier, context);
    } });
    const { connect } = await import("remuda-client");
    const remuda = await connect({ httpUrl: process.env.URL });
    await remuda.release(await remuda.lease(), { used: 0 });
    await remuda.close();
    console.log("done");
    await connect({ natsUrl: "nats://127.0.0.1:1" }).catch(() => {});
  `;
  const { output } = await run(process.execPath, ["--input-type=module", "-e", loaded], { URL: service.url });
  expect(output.split("\n")[0]).toBe("done");
  expect(output).toContain("loaded @nats-io/transport-node");
});

test("contains JavaScript with its own types, and names no schema library", () => {
  const dist = join(folder, "node_modules/remuda-client/dist");
  const files = readdirSync(dist, { recursive: true, encoding: "utf8" });
  expect(files).toContain("client/client.d.ts");
  for (const name of files.filter((each) => /\.(js|ts)$/.test(each))) {
    const foreign = name.endsWith(".js") ? /from "zod"|from "\.[^"]*\.ts"/ : /from "zod"/;
    expect([name, foreign.exec(readFileSync(join(dist, name), "utf8"))]).toEqual([name, null]);
  }
  writeFileSync(
    join(folder, "use.mts"),
    `import { connect, type Outcome, type RemudaRefusal } from "remuda-client";
const client = await connect({ httpUrl: "http://127.0.0.1:1" });
const text: string = await (await client.fetch("http://a/", { method: "POST", body: new FormData() })).text();
const n: number = await client.withLease({ uses: 2 }, (lease, signal) => (signal.aborted ? 0 : lease.take()));
const code: RemudaRefusal["code"] = "pool-exhausted";
const outcome: Outcome = { leaseId: "l", reason: "blocked" };
// @ts-expect-error no such word
const wrong: RemudaRefusal["code"] = "no";
const through: import("undici").Dispatcher = client.dispatcher();
export { text, n, code, outcome, wrong, through };
`,
  );
  const types = [
    "--noEmit",
    "--strict",
    "--module",
    "nodenext",
    "--target",
    "es2023",
    "--types",
    "node",
    "--typeRoots",
    join(root, "node_modules/@types"),
  ];
  execFileSync(join(root, "node_modules/.bin/tsc"), [...types, "--ignoreConfig", "use.mts"], {
    cwd: folder,
    stdio: "pipe",
  });
});

for (const [name, path] of nodesAtHand()) {
  test(`${name}: runs the examples of docs/client.md as written`, async () => {
    const [example = "", classified = ""] = [...docs.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code);
    writeFileSync(join(folder, "example.mjs"), example);
    const env = { REMUDA_NATS_URL: "", REMUDA_HTTP_URL: service.url, TARGET: `${site.url}/seen` };
    const { code, output } = await run(path, ["example.mjs"], env);
    expect(output).toMatch(/^200 5\nuse 1 of 3 through 127\.0\.0\.170, \d+ ms false\nleased 3\n$/);
    expect(code).toBe(0);
    // It goes on after the first one, with its client.
    const around = ['import { connect } from "remuda-client";', "const remuda = await connect();", classified];
    const program = [...around, "console.log(page.status);", "await remuda.close();"].join("\n");
    writeFileSync(join(folder, "classified.mjs"), program.replace("https://example.org/", `${site.url}/seen`));
    expect(await run(path, ["classified.mjs"], env)).toEqual({ code: 0, output: "200\n" });
  });
}

for (const [name, path] of nodesAtHand()) {
  test(`${name}: runs the examples of docs/node.md as written`, async () => {
    for (const [, file = "", code = ""] of tools) {
      writeFileSync(join(folder, file), code);
      const env = { REMUDA_NATS_URL: "", REMUDA_HTTP_URL: service.url, TARGET: `${site.url}/seen.html`, ...quiet };
      expect([file, await run(path, [file], env)]).toEqual([file, { code: 0, output: "200 5\n" }]);
    }
  });
}
