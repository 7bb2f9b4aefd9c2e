// One look at a source of each kind: which text is a list, which is not, and that every look ends. No service is
// needed.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readListFile, runCommand } from "../../services/sources/reading.ts";
import { readUrl } from "../../services/sources/url.ts";
import { loopbackAllowed } from "../kit/outbound.ts";
import { eventually } from "../kit/poll.ts";
import { within } from "../kit/within.ts";

let folder: string;
let servers: Server[];
const never = new AbortController().signal;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sources-reading-"));
  servers = [];
});

afterEach(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  rmSync(folder, { recursive: true, force: true });
});

async function site(answer: RequestListener): Promise<{ host: string; asked: IncomingMessage[] }> {
  const asked: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  }).listen(0, "127.0.0.1");
  servers.push(server);
  await new Promise((resolve) => server.once("listening", resolve));
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

const look = (url: string, { headers = {}, timeoutMs = 10_000, mark = undefined as string | undefined } = {}) =>
  readUrl({ kind: "url", url, headers, timeoutMs }, mark, { signal: never, outbound: loopbackAllowed });
const run = (script: string, timeoutMs = 10_000) =>
  runCommand({ kind: "command", command: ["sh", "-c", script], timeoutMs }, never);

/** An ended process may remain until its parent reads its exit status. */
function runs(pid: string): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("sends a login in a URL as a header, and never shows it", async () => {
  const { host, asked } = await site((request, response) =>
    request.headers.authorization === undefined
      ? response.writeHead(401).end()
      : response.end(`${request.headers.authorization}`),
  );
  const expected = `Basic ${Buffer.from("us er:p@%ss").toString("base64")}`;
  expect(await look(`http://us%20er:p%40%ss@${host}/list`)).toEqual({ text: expected });
  expect(asked[0]?.url).toBe("/list");
  const closed = new Promise((resolve) => servers.at(-1)?.close(resolve));
  servers.at(-1)?.closeAllConnections();
  await closed;
  await expect(look(`http://user:s3cret@${host}/?key=s3cret`)).rejects.toThrow(`${host} cannot be read (ECONNREFUSED)`);
});

test("replaces a default header with the configured one, in any letter case", async () => {
  const { host, asked } = await site((_request, response) => response.end("10.0.0.1:80"));
  const headers = { Accept: "text/csv", Authorization: "Bearer s3cret", "IF-NONE-MATCH": '"old"' };
  await look(`http://user:pass@${host}/`, { headers, mark: JSON.stringify({ "if-none-match": '"new"' }) });
  expect(asked[0]?.headers).toMatchObject({
    accept: "text/csv",
    authorization: "Bearer s3cret",
    "if-none-match": '"new"',
  });
});

test("reports a blocked port as such", async () => {
  await expect(look("http://127.0.0.1:1/?key=s3cret")).rejects.toThrow(
    /^127\.0\.0\.1:1 cannot be read \(fetch blocks this port\)$/,
  );
});

test("follows redirects without the headers meant for the first site", async () => {
  const other = await site((_request, response) => response.end("10.0.0.1:80"));
  const { host, asked } = await site((request, response) => {
    if (request.url === "/here") return response.end("10.0.0.2:80");
    const to = request.url === "/near" ? "/here" : request.url === "/far" ? `http://${other.host}/` : request.url;
    response.writeHead(302, { location: request.url === "/out" ? "file:///etc/passwd" : to }).end();
  });
  const headers = { "x-api-key": "s3cret" };
  expect(await look(`http://user:pass@${host}/near`, { headers })).toEqual({ text: "10.0.0.2:80" });
  expect(asked.map((each) => [each.headers["x-api-key"], each.headers.authorization])).toEqual(
    Array(2).fill(["s3cret", `Basic ${Buffer.from("user:pass").toString("base64")}`]),
  );
  expect(await look(`http://user:pass@${host}/far`, { headers })).toEqual({ text: "10.0.0.1:80" });
  expect(other.asked[0]?.headers).not.toHaveProperty("x-api-key");
  expect(other.asked[0]?.headers).not.toHaveProperty("authorization");
  await expect(look(`http://${host}/round`)).rejects.toThrow(/redirects more than 5 times/);
  await expect(look(`http://${host}/out`)).rejects.toThrow(/redirects to a URL that is not http/);
});

test.each([201, 202, 204, 206, 304, 404, 429, 500])("rejects a body with status %i", async (status) => {
  const { host } = await site((_request, response) => response.writeHead(status).end("10.0.0.1:80"));
  await expect(look(`http://${host}/`)).rejects.toThrow(`${host} answers ${status}`);
});

test("accepts a compressed body, and gives up one that never ends, however slowly it comes", async () => {
  const text = "10.0.0.1:80\n".repeat(1000);
  const packed = await site((_request, response) =>
    response.setHeader("content-encoding", "gzip").end(gzipSync(Buffer.from(text))),
  );
  expect(await look(`http://${packed.host}/`)).toEqual({ text });
  const dripping = await site((_request, response) => {
    const timer = setInterval(() => response.write("10.0.0.1:80\n"), 20);
    response.once("close", () => clearInterval(timer));
  });
  const looked = within(5000, look(`http://${dripping.host}/`, { timeoutMs: 300 }));
  await expect(looked).rejects.toThrow(/did not answer within 300 ms$/);
});

test.each(["close", "keep-alive"])(
  "reads a whole list whose decompression is slow when the server closes the connection (%s)",
  async (connection) => {
    const text = randomBytes(1_500_000).toString("hex");
    const { host } = await site((_request, response) => {
      response.setHeader("content-encoding", "gzip").setHeader("connection", connection);
      response.end(gzipSync(text), () => response.socket?.end());
    });
    for (let round = 0; round < 5; round++) expect(await look(`http://${host}/`)).toEqual({ text });
  },
);

test("reads no more than a list can hold: nothing of a larger file, at most that much of a URL", async () => {
  const path = join(folder, "list.txt");
  writeFileSync(path, "");
  truncateSync(path, 256 * 1024 * 1024 + 1);
  utimesSync(path, 1, 1);
  await expect(readListFile({ kind: "file", path }, undefined, Date.now())).rejects.toThrow(/gives more than 256 MB/);
  const zeros = gzipSync(Buffer.alloc(32 * 1024 * 1024)); // A body of several gzip members counts as a whole.
  const bomb = await site((_request, response) =>
    response.setHeader("content-encoding", "gzip").end(Buffer.concat(Array(9).fill(zeros))),
  );
  const looked = look(`http://${bomb.host}/`, { timeoutMs: 100_000 });
  await expect(looked).rejects.toThrow(`${bomb.host} gives more than 256 MB`);
}, 120_000);

test("sends the last answer's conditions, and reports unchanged only if both sides agree", async () => {
  const modified = "Sun, 22 Nov 2026 00:00:00 GMT";
  const { host } = await site((request, response) => {
    if (request.headers["if-modified-since"] === modified && request.headers["if-none-match"] === 'W/"1"')
      return response.writeHead(304).end();
    response.writeHead(200, { etag: 'W/"1"', "last-modified": modified }).end("10.0.0.1:80");
  });
  const first = await look(`http://${host}/`);
  if (first === "unchanged" || first.mark === undefined) throw new Error("it was read, and may be asked for again");
  expect(await look(`http://${host}/`, { mark: first.mark })).toBe("unchanged");
});

test("gives up a command whose leftover process holds its output open", async () => {
  const pids = join(folder, "pid");
  // The process has left the group, so it cannot be ended with the others. On a slow machine it starts only within a
  // longer limit.
  for (let limitMs = 500; !existsSync(pids); limitMs *= 4) {
    const looked = run(`setsid sh -c 'echo $$ > ${pids}; exec sleep 600' & printf 10.0.0.1:80`, limitMs);
    await expect(looked).rejects.toThrow(`sh did not end within ${limitMs} ms, and was ended`);
  }
  process.kill(Number(readFileSync(pids, "utf8")), "SIGKILL"); // It is ours: it wrote its own number.
});

test("ends a command that prints without end, and takes none of its output", async () => {
  await expect(run("yes 10.0.0.1:80", 60_000)).rejects.toThrow(/^sh gives more than 256 MB/);
});

test("takes nothing from a command that is killed, whatever it has printed", async () => {
  await expect(run("printf 10.0.0.1:80; kill -9 $$")).rejects.toThrow(/^sh was ended by SIGKILL$/);
  const tooLong = { kind: "command", command: ["true", "x".repeat(3_000_000)], timeoutMs: 1000 } as const;
  await expect(runCommand({ ...tooLong, command: [...tooLong.command] }, never)).rejects.toThrow(
    /^true cannot be started \(E2BIG\)$/,
  );
});

test("ends a command under way together with its follower", async () => {
  const pids = join(folder, "pid");
  const stopping = new AbortController();
  const looked = runCommand(
    { kind: "command", command: ["sh", "-c", `sleep 600 & echo $! > ${pids}; wait`], timeoutMs: 60_000 },
    stopping.signal,
  );
  const pid = await eventually(() => {
    const text = existsSync(pids) ? readFileSync(pids, "utf8").trim() : "";
    expect(text).not.toBe("");
    return text;
  });
  stopping.abort();
  await expect(looked).rejects.toThrow();
  await eventually(() => expect(runs(pid)).toBe(false));
});

test("ends a command under way, with its children, when its follower is killed", async () => {
  const pids = join(folder, "pid");
  const reading = new URL("../../services/sources/reading.ts", import.meta.url).href;
  const command = ["sh", "-c", `sleep 600 & echo $$ $! > ${pids}; wait`];
  const follows =
    `import { runCommand } from ${JSON.stringify(reading)};` +
    `await runCommand(${JSON.stringify({ kind: "command", command, timeoutMs: 600_000 })}, new AbortController().signal);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", follows], { stdio: "ignore" });
  const running = await eventually(() => {
    const found = existsSync(pids) ? readFileSync(pids, "utf8").trim().split(" ") : [];
    expect(found).toHaveLength(2);
    // The command and its watching shell. Before the shell runs, the command could not be ended.
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ");
    expect(children).toHaveLength(2);
    return found;
  });
  try {
    expect(running.map(runs)).toEqual([true, true]);
    child.kill("SIGKILL");
    await eventually(() => expect(running.map(runs)).toEqual([false, false]));
  } finally {
    // They are ours: they wrote their own numbers.
    for (const pid of running.filter(runs)) process.kill(Number(pid), "SIGKILL");
  }
});

test("takes nothing from a path that is not a file or is being written, and rereads a replaced file", async () => {
  const now = Date.now();
  const path = join(folder, "list.txt");
  const read = (at: string, mark?: string) => readListFile({ kind: "file", path: at }, mark, now);
  await expect(read(folder)).rejects.toThrow(`${folder} is not a file`);
  await expect(read("/dev/zero")).rejects.toThrow("/dev/zero is not a file");
  await expect(read(join(folder, "list.txt", "x"))).rejects.toThrow(/there is no such file/);
  writeFileSync(path, "10.0.0.1:80");
  utimesSync(path, now / 1000, now / 1000);
  await expect(read(path)).rejects.toThrow(`${path} is being written`);
  utimesSync(path, now / 1000 - 0.9, now / 1000 - 0.9);
  await expect(read(path)).rejects.toThrow(`${path} is being written`);
  utimesSync(path, now / 1000 - 4.9, now / 1000 - 4.9);
  await expect(read(path)).rejects.toThrow(`${path} is being written`); // It looks like part of :8080.
  writeFileSync(path, "10.0.0.1:8080\n");
  utimesSync(path, now / 1000 - 1.1, now / 1000 - 1.1);
  expect(await read(path)).toMatchObject({ text: "10.0.0.1:8080\n" });
  writeFileSync(path, "10.0.0.1:80");
  utimesSync(path, now / 1000 - 10, now / 1000 - 10);
  const first = await read(path);
  if (first === "unchanged") throw new Error("it was never read before");
  expect(first.text).toBe("10.0.0.1:80");
  expect(await read(path, first.mark)).toBe("unchanged");
  // Another file of the same size and time.
  const other = `${path}.new`;
  writeFileSync(other, "10.0.0.2:80");
  utimesSync(other, now / 1000 - 10, now / 1000 - 10);
  renameSync(other, path);
  expect(await read(path, first.mark)).toMatchObject({ text: "10.0.0.2:80" });
});
