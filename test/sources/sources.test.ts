// Sources against a real service: files that are written to, URLs that flap, commands that hang. The clock of the sources is
// moved by hand, so a minute of doubt takes no time.
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { splitRow } from "../../cli/csv.ts";
import type { SourceReply } from "../../events/source.ts";
import { type Bus, openBus } from "../../runtime/bus.ts";
import { poolsOver } from "../../services/sources/pool.ts";
import { Sources } from "../../services/sources/sources.ts";
import { type Call, callerOf } from "../api/http.ts";
import { startTestBroker, type TestBroker } from "../kit/broker.ts";
import { HandClock } from "../kit/hand-clock.ts";
import { eventually } from "../kit/poll.ts";
import { startRemuda, stopAllRemudas } from "../kit/process.ts";

let broker: TestBroker;
let dataDir: string;
let call: Call;
let bus: Bus;
let site: Server;
let siteUrl: string;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let asked: IncomingMessage[];
let folder: string;
let clock: HandClock;
let sources: Sources;
let said: string[];
let pool: string;
let pools = 0;

beforeAll(async () => {
  broker = await startTestBroker();
  dataDir = mkdtempSync(join(tmpdir(), "sources-service-"));
  const run = (name: string) => startRemuda({ dataDir, args: ["run", name], env: { REMUDA_NATS_URL: broker.url } });
  await run("picker");
  call = callerOf((await run("api")).httpUrl ?? "");
  bus = await openBus(broker.url, "sources test");
  site = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => site.once("listening", resolve));
  siteUrl = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
});

afterAll(async () => {
  await bus?.close();
  site?.closeAllConnections();
  site?.close();
  await stopAllRemudas();
  await broker?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "sources-test-"));
  clock = new HandClock();
  said = [];
  asked = [];
  answer = (_request, response) => response.end(list(4));
  pool = `p${++pools}`;
  await openPool(pool);
});

afterEach(async () => {
  await sources?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function openPool(name: string, lines: string[] = []): Promise<void> {
  await call(`PUT /v1/pools/${name}`);
  if (lines.length > 0) await call(`POST /v1/pools/${name}/proxies`, lines);
}

/** `count` lines of proxies, from the `first`. */
const list = (count: number, first = 1) =>
  Array.from({ length: count }, (_, i) => `user:secret@10.7.0.${first + i}:8080`).join("\n");

async function start(...configured: object[]): Promise<void> {
  writeFileSync(
    join(folder, "sources.json"),
    JSON.stringify({ sources: configured.map((each) => ({ pool, ...each })) }),
  );
  await startWith();
}

async function startWith(): Promise<void> {
  const log = pino({ level: "warn" }, { write: (line: string) => void said.push(line) });
  const ports = { front: bus, pools: poolsOver(bus), clock, splitRow, log };
  sources = new Sources({ ...ports, file: join(folder, "sources.json"), folder: join(folder, "seen") });
  await sources.start();
}

async function ask<Reply = { code?: string; message?: string }>(verb: string, body: object = {}): Promise<Reply> {
  return (
    await bus.nc.request(`remuda.sources.${verb}.${pool}`, JSON.stringify(body), { timeout: 20_000 })
  ).json<Reply>();
}

const read = (name: string) => ask<SourceReply>("read", { name });
const statusOf = async (name: string) =>
  (await ask<{ sources: SourceReply[] }>("list")).sources.find((each) => each.name === name);

/** Hosts' last numbers of the proxies that are not retired. */
async function inPool(of = pool): Promise<number[]> {
  const { body } = await call(`GET /v1/pools/${of}/proxies?limit=1000`);
  const all = body.proxies as { host: string; state: string }[];
  return all
    .filter(({ state }) => state !== "retired")
    .map(({ host }) => Number(host.split(".")[3]))
    .toSorted((a, b) => a - b);
}

function file(text: string): string {
  const path = join(folder, "list.txt");
  writeFileSync(path, text);
  // Older than what counts as just being written.
  utimesSync(path, new Date(clock.wall() - 10_000), new Date(clock.wall() - 10_000));
  return path;
}

test("a file's proxies are added, and what is written to it later, too", async () => {
  const path = file(list(3));
  await start({ name: "mine", from: { kind: "file", path }, labels: { tier: "gold" } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  const { body } = await call(`GET /v1/pools/${pool}/proxies?label.tier=gold`);
  expect(body.proxies).toHaveLength(3);

  clock.move(60_000);
  file(list(5));
  await eventually(async () => {
    clock.move(1000);
    expect(await inPool()).toEqual([1, 2, 3, 4, 5]);
  });
  expect(await statusOf("mine")).toMatchObject({ kind: "file", proxies: 5, last: { read: 5, added: 2, retired: 0 } });
});

test("a file that is being written is left until it is whole", async () => {
  const path = file(list(3));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  writeFileSync(path, "10.7.0.1:80"); // of :8080
  utimesSync(path, new Date(clock.wall() - 50), new Date(clock.wall() - 50));
  expect((await read("mine")).trouble?.why).toMatch(/is being written$/);
  expect(await inPool()).toEqual([1, 2, 3]);
});

test("a file that is not there is a trouble with its name, and is read once it is", async () => {
  const path = join(folder, "list.txt");
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () =>
    expect((await statusOf("mine"))?.trouble?.why).toBe(`${path} cannot be read (there is no such file)`),
  );
  file(list(1));
  expect(await read("mine")).toMatchObject({ last: { added: 1 } });
  expect((await statusOf("mine"))?.trouble).toBeUndefined();
});

test("what a source no longer names stays, unless the source says that it may go", async () => {
  answer = (_request, response) => response.end(list(4));
  await start(
    { name: "keeps", from: { kind: "url", url: `${siteUrl}/keeps` } },
    { name: "drops", from: { kind: "url", url: `${siteUrl}/drops` }, retire: true },
  );
  await eventually(async () => expect((await statusOf("drops"))?.proxies).toBe(4));
  await read("keeps");
  answer = (request, response) => response.end(request.url === "/keeps" ? list(3) : list(3, 2));
  await read("keeps");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
  // 1 is named by the other still; 4 was given up by `keeps`, and is named by this one.
  expect(await read("drops")).toMatchObject({ proxies: 3, last: { retired: 0 } });
  answer = (_request, response) => response.end(list(2, 2));
  expect(await read("drops")).toMatchObject({ proxies: 2, last: { retired: 1 } });
  expect(await inPool()).toEqual([1, 2, 3]);
});

test.each([
  ["empty", ""],
  ["less than half", list(1)],
])("a list that suddenly reads %s retires nobody until it says so again a minute later", async (_what, text) => {
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  answer = (_request, response) => response.end(text);
  const doubted = await read("drops");
  expect(doubted.doubtedUntil).toBe(clock.wall() + 60_000);
  clock.move(30_000);
  await read("drops");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
  clock.move(30_000);
  await read("drops");
  expect(await inPool()).toEqual(text === "" ? [] : [1]);
});

test("a list that was short for a moment retires nobody, and is no longer doubted", async () => {
  await start({ name: "drops", from: { kind: "url", url: siteUrl }, retire: true });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  answer = (_request, response) => response.end("");
  await read("drops");
  answer = (_request, response) => response.end(list(4));
  clock.move(30_000);
  expect(await read("drops")).not.toHaveProperty("doubtedUntil");
  answer = (_request, response) => response.end("");
  clock.move(40_000);
  await read("drops");
  expect(await inPool()).toEqual([1, 2, 3, 4]);
});

test("a URL is asked whether it has changed, and one that flaps changes nothing", async () => {
  answer = (request, response) => {
    if (request.headers["if-none-match"] === '"v1"') return response.writeHead(304).end();
    return response.setHeader("etag", '"v1"').end(list(2));
  };
  await start({
    name: "site",
    from: { kind: "url", url: siteUrl, headers: { authorization: "Bearer s3cret" } },
    retire: true,
  });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  expect(asked[0]?.headers["authorization"]).toBe("Bearer s3cret");
  await eventually(() => {
    clock.move(300_000);
    expect(asked.at(-1)?.headers["if-none-match"]).toBe('"v1"');
  });

  for (const broken of [
    (response: ServerResponse) => response.writeHead(503).end("busy"),
    (response: ServerResponse) =>
      response.writeHead(200, { "content-length": "1000" }).write("10.7.0.9:80", () => response.destroy()),
    (response: ServerResponse) => response.destroy(),
  ]) {
    answer = (_request, response) => void broken(response);
    expect((await read("site")).trouble?.why).toMatch(/^127\.0\.0\.1:\d+ (answers 503|cannot be read)/);
  }
  expect(await inPool()).toEqual([1, 2]);
  answer = (_request, response) => response.end(list(3));
  expect(await read("site")).toMatchObject({ proxies: 3 });
  expect(JSON.stringify([said, await ask("list")])).not.toMatch(/s3cret|secret@/);
});

test("a URL that does not answer in time is given up", async () => {
  answer = () => {};
  await start({ name: "site", from: { kind: "url", url: siteUrl, timeoutMs: 150 } });
  await eventually(async () => expect((await statusOf("site"))?.trouble?.why).toMatch(/did not answer within 150 ms$/));
});

test("a command's list counts when it ends well, and one that hangs is ended with its children", async () => {
  const pids = join(folder, "pid");
  await start(
    { name: "prints", from: { kind: "command", command: ["printf", list(2)] } },
    { name: "fails", from: { kind: "command", command: ["sh", "-c", `printf '${list(1, 50)}'; exit 3`] } },
    {
      name: "hangs",
      from: { kind: "command", command: ["sh", "-c", `sleep 600 & echo $! > ${pids}; wait`], timeoutMs: 300 },
    },
    { name: "missing", from: { kind: "command", command: ["/no/such/program"] } },
  );
  await eventually(async () => {
    expect((await statusOf("fails"))?.trouble?.why).toBe("sh ended with 3");
    expect((await statusOf("hangs"))?.trouble?.why).toBe("sh did not end within 300 ms, and was ended");
    expect((await statusOf("missing"))?.trouble?.why).toBe("/no/such/program cannot be started (ENOENT)");
    expect(await inPool()).toEqual([1, 2]);
  });
  const pid = readFileSync(pids, "utf8").trim();
  await eventually(() =>
    expect(existsSync(`/proc/${pid}`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))).toBe(false),
  );
});

test("another pool is a source, credentials and labels included", async () => {
  const other = `${pool}-other`;
  await openPool(other, ["user:p%40ss@10.7.0.1:8080", "socks5://10.7.0.2:1080"]);
  await start({ name: "there", from: { kind: "pool", pool: other } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  const [here, there] = await Promise.all(
    [pool, other].map(async (each) => (await call(`GET /v1/pools/${each}/proxies`)).body.proxies),
  );
  expect(here.map(({ id }: { id: string }) => id)).toEqual(there.map(({ id }: { id: string }) => id));
});

test("a proxy that was retired by hand does not come back with the next look, nor with a restart", async () => {
  const path = file(list(3));
  await start({ name: "mine", from: { kind: "file", path } });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3]));
  const { body } = await call(`GET /v1/pools/${pool}/proxies`);
  const first = body.proxies.find(({ host }: { host: string }) => host === "10.7.0.1");
  await call(`DELETE /v1/pools/${pool}/proxies/${first.id}`);
  await read("mine");
  await sources.stop();
  await startWith();
  file(list(4));
  await eventually(async () => {
    await read("mine");
    expect(await inPool()).toEqual([2, 3, 4]);
  });
});

test("a pool below its floor has its source asked at once, and a webhook called, but not again and again", async () => {
  const called: string[] = [];
  answer = (request, response) => {
    if (request.url !== "/hook") return response.end(list(2));
    request.on("data", (chunk) => called.push(String(chunk))).on("end", () => response.end());
  };
  const refill = { leasableMin: 3, everyMsMin: 30_000, webhook: `${siteUrl}/hook` };
  await start({ name: "site", everyMs: 86_400_000, from: { kind: "url", url: `${siteUrl}/list` }, refill });
  await eventually(async () => expect(await inPool()).toEqual([1, 2]));
  const lists = () => asked.filter(({ url }) => url === "/list").length;
  expect(lists()).toBe(1);
  clock.move(2000);
  await eventually(() => expect([lists(), called.length]).toEqual([2, 1]));
  expect(JSON.parse(called[0] ?? "")).toEqual({ pool, source: "site", leasable: 2, leasableMin: 3 });
  for (let i = 0; i < 10; i++) {
    clock.move(2000);
    await ask("list"); // A round trip: what the move began has been sent.
  }
  expect([lists(), called.length]).toEqual([2, 1]);
  answer = (request, response) => response.end(request.url === "/list" ? list(4) : "");
  await eventually(async () => {
    clock.move(2000);
    expect(await inPool()).toEqual([1, 2, 3, 4]);
  });
});

test("sources are set, listed and removed by request, and the file is the truth", async () => {
  await start({ name: "byhand", from: { kind: "command", command: ["printf", ""] } });
  const from = { kind: "url", url: `${siteUrl}/list?key=s3cret` };
  expect(await ask("put", { name: "site", from })).toMatchObject({ name: "site", pool, kind: "url" });
  await eventually(async () => expect(await inPool()).toEqual([1, 2, 3, 4]));
  const stored = JSON.parse(readFileSync(join(folder, "sources.json"), "utf8"));
  expect(stored.sources.map(({ name }: { name: string }) => name)).toEqual(["byhand", "site"]);
  expect(statSync(join(folder, "sources.json")).mode & 0o777).toBe(0o600);
  expect(JSON.stringify(await ask("list"))).not.toContain("s3cret");

  for (const [body, field] of [
    [{ name: "x", from: { kind: "command", command: ["reboot"] } }, "from"],
    [{ name: "x", from: { kind: "file", path: "/etc/passwd" } }, "from"],
    [{ name: "X!", from }, "name"],
    [{ name: "x", from: { kind: "url", url: "ftp://a/" } }, "from.url"],
    [{ name: "x", from, everyMs: 1 }, "everyMs"],
    [{ name: "byhand", from }, "name"],
  ] as const) {
    expect(await ask("put", body), JSON.stringify(body)).toMatchObject({
      code: "invalid-request",
      field: expect.stringContaining(field),
    });
  }
  expect(await ask("remove", { name: "byhand" })).toMatchObject({ code: "invalid-request" });
  expect(await ask("remove", { name: "site" })).toEqual({ removed: "site" });
  expect(await ask("remove", { name: "site" })).toMatchObject({ code: "invalid-request", field: "name" });
  expect(await inPool()).toEqual([1, 2, 3, 4]);
});

test("a change of the file is followed, and a mistake in it leaves everything as it is", async () => {
  await start({ name: "one", from: { kind: "command", command: ["printf", list(1)] } });
  await eventually(async () => expect(await inPool()).toEqual([1]));
  const path = join(folder, "sources.json");
  writeFileSync(path, '{"sources": [{"name": "one", "from": {"kind": "url"}}]}');
  clock.move(2000);
  await eventually(() =>
    expect(said.join()).toMatch(/sources\.json: sources\.0\.from\.url: .*; the sources stay as they were/),
  );
  expect(await statusOf("one")).toMatchObject({ kind: "command" });
  writeFileSync(
    path,
    JSON.stringify({ sources: [{ name: "two", pool, from: { kind: "command", command: ["printf", list(2)] } }] }),
  );
  await eventually(async () => {
    clock.move(2000);
    expect(await inPool()).toEqual([1, 2]);
  });
  expect(await statusOf("one")).toBeUndefined();
});
