import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { officialArchive } from "../../runtime/broker/archive.ts";
import { findBinary } from "../../runtime/broker/binary.ts";
import type { Source } from "../../runtime/broker/cache.ts";
import { debianPackage } from "../../runtime/broker/debian.ts";

let folder: string;
let cacheDir: string;
let said: string[];
const say = (line: string) => said.push(line);
const closing: (() => Promise<void>)[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "binary-test-"));
  cacheDir = join(folder, "cache");
  said = [];
});

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await rm(folder, { recursive: true, force: true });
});

/** An executable that prints a version and nothing else. */
async function fake(path: string, version: string): Promise<string> {
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, `#!/bin/sh\necho "nats-server: v${version}"\n`);
  await chmod(path, 0o755);
  return path;
}

function sourceOf(version: string): Source {
  return { name: "fake source", unpack: (directory) => fake(join(directory, "made-here"), version) };
}

const failing: Source = {
  name: "failing source",
  async unpack() {
    throw new Error("the road is closed");
  },
};

test("prefers REMUDA_NATS_SERVER to everything else", async () => {
  const natsServer = await fake(join(folder, "mine/nats-server"), "2.14.4");
  await fake(join(folder, "bin/nats-server"), "2.15.0");
  expect(await findBinary({ natsServer, path: join(folder, "bin"), cacheDir, say, sources: [] })).toBe(natsServer);
  expect(said).toEqual([`nats-server 2.14.4 at ${natsServer} (REMUDA_NATS_SERVER)`]);
});

test.each(["2.12.5", "2.9.10"])(
  "refuses REMUDA_NATS_SERVER of version %s, and searches nowhere else",
  async (version) => {
    const natsServer = await fake(join(folder, "mine/nats-server"), version);
    const path = join(await fake(join(folder, "bin/nats-server"), "2.15.0"), "..");
    await expect(findBinary({ natsServer, path, cacheDir, say, sources: [sourceOf("2.15.0")] })).rejects.toMatchObject({
      code: "fix-setup",
      message: expect.stringMatching(/REMUDA_NATS_SERVER.*older than 2\.12\.6/),
    });
  },
);

test("refuses REMUDA_NATS_SERVER if it is missing, or another program", async () => {
  const missing = findBinary({ natsServer: join(folder, "none"), cacheDir, say });
  await expect(missing).rejects.toMatchObject({ code: "fix-setup", message: expect.stringContaining("does not run") });
  const other = findBinary({ natsServer: "/bin/true", cacheDir, say });
  await expect(other).rejects.toMatchObject({ code: "fix-setup", message: expect.stringContaining("no nats-server") });
});

test("prefers the PATH to the cache, and reports older servers that it skips", async () => {
  const older = await fake(join(folder, "a/nats-server"), "2.9.10");
  const newer = await fake(join(folder, "b/nats-server"), "2.12.6");
  await fake(join(cacheDir, "nats-server-2.15.0/nats-server"), "2.15.0");
  const path = [join(folder, "a"), join(folder, "b")].join(delimiter);
  expect(await findBinary({ path, cacheDir, say, sources: [] })).toBe(newer);
  expect(said[0]).toBe(`the nats-server of the PATH cannot be used: ${older} is 2.9.10, older than 2.12.6`);
});

test("prefers the cache to the network, and its newest server that runs", async () => {
  await fake(join(cacheDir, "nats-server-2.9.30/nats-server"), "2.9.30");
  const good = await fake(join(cacheDir, "nats-server-2.14.4/nats-server"), "2.14.4");
  await mkdir(join(cacheDir, "nats-server-2.15.0"));
  await writeFile(join(cacheDir, "nats-server-2.15.0/nats-server"), "half a file");
  expect(await findBinary({ path: "", cacheDir, say, sources: [sourceOf("2.15.0")] })).toBe(good);
  expect(said.join("\n")).toMatch(/the nats-server of the cache cannot be used: .*2\.15\.0/);
});

test("keeps a fetched server in the cache, and finds it there the next time", async () => {
  const path = await findBinary({ path: "", cacheDir, say, sources: [failing, sourceOf("2.15.3")] });
  expect(path).toBe(join(cacheDir, "nats-server-2.15.3/nats-server"));
  expect(said).toContain("no nats-server from the failing source: the road is closed");
  expect(await findBinary({ path: "", cacheDir, say, sources: [] })).toBe(path);
  expect(await readdir(cacheDir)).toEqual(["nats-server-2.15.3"]);
});

test("gives concurrent fetching starts the same file", async () => {
  const find = () => findBinary({ path: "", cacheDir, say, sources: [sourceOf("2.15.3")] });
  const paths = await Promise.all([find(), find(), find(), find()]);
  expect(new Set(paths)).toEqual(new Set([join(cacheDir, "nats-server-2.15.3/nats-server")]));
  expect(await readdir(cacheDir)).toEqual(["nats-server-2.15.3"]);
});

test("replaces a broken cache entry", async () => {
  await mkdir(join(cacheDir, "nats-server-2.15.3"), { recursive: true });
  await writeFile(join(cacheDir, "nats-server-2.15.3/nats-server"), "half a file");
  const path = await findBinary({ path: "", cacheDir, say, sources: [sourceOf("2.15.3")] });
  expect(await readFile(path, "utf8")).toContain("2.15.3");
  expect(await readdir(cacheDir)).toEqual(["nats-server-2.15.3"]);
});

test("does not keep a fetched server that is too old", async () => {
  await expect(findBinary({ path: "", cacheDir, say, sources: [sourceOf("2.9.10")] })).rejects.toThrow(/older than/);
  expect(await readdir(cacheDir)).toEqual([]);
});

test("lists each way, why it failed, and what to do in one fault when everything fails", async () => {
  const notDebian = debianPackage({ etc: join(folder, "etc") });
  await mkdir(join(folder, "etc"));
  await writeFile(join(folder, "etc/os-release"), 'ID=otherix\nVERSION_CODENAME="odd"\n');
  await expect(findBinary({ path: "", cacheDir, say, sources: [failing, notDebian] })).rejects.toMatchObject({
    code: "fix-setup",
    message: expect.stringMatching(
      /PATH: .*\n.*cache: .*\n.*failing source: the road is closed\n.*Debian package: this machine runs otherix, not Debian\n.*REMUDA_NATS_SERVER.*REMUDA_NATS_URL/s,
    ),
  });
});

/** A release archive on loopback, with a fake server in it. */
async function publish(): Promise<{ baseUrl: string; sha256: string }> {
  const arch = process.arch === "x64" ? "amd64" : process.arch;
  const name = `nats-server-v2.15.0-${process.platform}-${arch}`;
  await fake(join(folder, "release", name, "nats-server"), "2.15.0");
  execFileSync("tar", ["-czf", join(folder, "a.tar.gz"), "-C", join(folder, "release"), name]);
  const bytes = await readFile(join(folder, "a.tar.gz"));
  const server = createServer((request, response) => {
    // The real one redirects to another host too.
    if (request.url === `/releases/v2.15.0/${name}.tar.gz`) response.writeHead(302, { location: "/there" }).end();
    else response.writeHead(request.url === "/there" ? 200 : 404).end(bytes);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  closing.push(() => new Promise((closed) => server.close(() => closed())));
  const { port } = server.address() as AddressInfo;
  return { baseUrl: `http://127.0.0.1:${port}/releases`, sha256: createHash("sha256").update(bytes).digest("hex") };
}

test("unpacks a release archive with the pinned hash, and runs it", async () => {
  const path = await findBinary({ path: "", cacheDir, say, sources: [officialArchive(await publish())] });
  expect(path).toBe(join(cacheDir, "nats-server-2.15.0/nats-server"));
  expect(execFileSync(path, ["--version"], { encoding: "utf8" })).toBe("nats-server: v2.15.0\n");
});

test("refuses a release archive with another hash, and stores nothing", async () => {
  const { baseUrl } = await publish();
  const sources = [officialArchive({ baseUrl, sha256: "0".repeat(64) })];
  await expect(findBinary({ path: "", cacheDir, say, sources })).rejects.toThrow(/REFUSED.*SHA-256/);
  expect(said.join("\n")).toMatch(/REFUSED/);
  expect(await readdir(cacheDir)).toEqual([]);
});

test("reports a release host that refuses, lacks the file, or keeps silent in the fault", async () => {
  const find = (baseUrl: string, answerMsMax = 3_000) =>
    findBinary({ path: "", cacheDir, say, sources: [officialArchive({ baseUrl, answerMsMax })] });
  const { baseUrl } = await publish();
  await expect(find(`${baseUrl}/elsewhere`)).rejects.toThrow(/HTTP 404/);

  const silent = createServer(() => {});
  await new Promise<void>((listening) => silent.listen(0, "127.0.0.1", listening));
  const { port } = silent.address() as AddressInfo;
  await expect(find(`http://127.0.0.1:${port}`, 50)).rejects.toThrow(/no answer within 50 ms/);
  silent.closeAllConnections();
  await new Promise((closed) => silent.close(closed));
  await expect(find(`http://127.0.0.1:${port}`)).rejects.toThrow(/ECONNREFUSED/);
});
