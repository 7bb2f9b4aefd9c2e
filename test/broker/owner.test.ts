import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { type Broker, type BrokerOptions, openBroker } from "../../runtime/broker/broker.ts";
import { birthOf } from "../../runtime/broker/record.ts";
import { findTestBinary } from "../kit/broker.ts";
import { gate, holdersOf } from "./processes.ts";

type Answer = { pid: number; port: number; how: string; code?: string; message?: string };

let dataDir: string;
let binary: string;
const opened: Broker[] = [];
const children: ChildProcess[] = [];

// On a fresh machine the server is fetched first.
beforeAll(async () => {
  binary = await findTestBinary();
}, 180_000);

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "broker-test-"));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  for (const child of children.splice(0)) await kill(child);
  for (const broker of opened.splice(0)) await broker.stop();
  await expect.poll(() => holders("owner.lock"), { timeout: 20_000 }).toEqual([]);
  await rm(dataDir, { recursive: true, force: true });
});

function holders(file: "owner.lock" | "nats/broker.lock"): number[] {
  return holdersOf(join(dataDir, file));
}

async function open(options: Partial<BrokerOptions> = {}): Promise<Broker> {
  const broker = await openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {}, ...options });
  opened.push(broker);
  return broker;
}

/** A process of its own that owns, or is refused, the data directory. */
async function ownerProcess(): Promise<{ child: ChildProcess; answer: Answer }> {
  const program = join(import.meta.dirname, "owner-process.ts");
  const child = spawn(process.execPath, [program, dataDir, binary], { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  const [line] = await once(createInterface(child.stdout!), "line");
  return { child, answer: JSON.parse(line) };
}

/** Counts from now on how often it is tried to take a lock. */
async function countLooks(): Promise<() => Promise<number>> {
  const folder = join(dataDir, "bin");
  const log = join(folder, "looks");
  await mkdir(folder);
  await writeFile(log, "");
  const script = `#!/bin/sh\necho look >> '${log}'\nexec env PATH='${process.env.PATH}' flock "$@"\n`;
  await writeFile(join(folder, "flock"), script, { mode: 0o755 });
  vi.stubEnv("PATH", `${folder}:${process.env.PATH}`);
  return async () => (await readFile(log, "utf8")).split("\n").length - 1;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

/** The watchdog's SIGTERM is enough: what does not heed it is killed after five seconds. */
const heeding = { timeout: 4_000, interval: 10 };

test("after kill -9 of the owner the broker is gone soon, and a new start works", async () => {
  const { child, answer } = await ownerProcess();
  expect(answer.how).toBe("started");
  expect(birthOf(answer.pid)).toBeDefined();
  await kill(child);
  await expect.poll(() => birthOf(answer.pid), heeding).toBeUndefined();
  expect((await open()).how).toBe("started");
});

test("a new start right after kill -9 of the owner waits for the watchdog, and then starts afresh", async () => {
  const { child, answer } = await ownerProcess();
  // A server that does not heed SIGTERM: the watchdog needs its 5 s, and holds the lock for as long.
  process.kill(answer.pid, "SIGSTOP");
  await kill(child);
  const broker = await open();
  expect(broker.how).toBe("started");
  expect(birthOf(answer.pid)).toBeUndefined();
});

test("after kill -9 of owner and watchdog the broker is adopted, and belongs to the new owner", async () => {
  const { child, answer } = await ownerProcess();
  const [watchdog] = holders("owner.lock");
  // Stopped first, or it would see to a new watchdog.
  child.kill("SIGSTOP");
  process.kill(watchdog!, "SIGKILL");
  await kill(child);
  expect(birthOf(answer.pid)).toBeDefined();

  const restart = gate();
  const broker = await open({ onRestart: restart.open });
  expect(broker).toMatchObject({ how: "adopted", pid: answer.pid, port: answer.port });
  process.kill(answer.pid, "SIGKILL");
  await restart.passed;
  expect(broker.port).toBe(answer.port);
  expect(holders("nats/broker.lock")).toEqual([broker.pid]);
});

test("an adopted broker dies with its new owner too", async () => {
  const first = await ownerProcess();
  first.child.kill("SIGSTOP");
  process.kill(holders("owner.lock")[0]!, "SIGKILL");
  await kill(first.child);

  const second = await ownerProcess();
  expect(second.answer).toMatchObject({ how: "adopted", pid: first.answer.pid });
  await kill(second.child);
  await expect.poll(() => birthOf(first.answer.pid), heeding).toBeUndefined();
});

test("a broker found running with other settings is ended, and one with ours is started", async () => {
  const { child, answer } = await ownerProcess();
  child.kill("SIGSTOP");
  process.kill(holders("owner.lock")[0]!, "SIGKILL");
  await kill(child);
  const broker = await open({ host: "127.0.0.2" });
  expect(broker).toMatchObject({ how: "started", host: "127.0.0.2" });
  expect(birthOf(answer.pid)).toBeUndefined();
});

test("a process that holds the broker's lock but is no broker is a fault, and nothing is started", async () => {
  const first = await open();
  await first.stop();
  const lock = join(dataDir, "nats/broker.lock");
  const stranger = spawn("flock", ["--no-fork", lock, "sh", "-c", "echo held; read -r _"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  children.push(stranger);
  await once(stranger.stdout!, "data");
  await expect(open()).rejects.toMatchObject({ code: "in-use", message: expect.stringContaining(lock) });
  expect(holders("nats/broker.lock")).toEqual([stranger.pid]);
}, 20_000);

test("a second start is refused at once, saying who owns the directory, where its NATS is, and what to do", async () => {
  const { child, answer } = await ownerProcess();
  const looks = await countLooks();
  await expect(open()).rejects.toMatchObject({
    code: "in-use",
    message: expect.stringMatching(
      new RegExp(`${dataDir} belongs to process ${child.pid}.*nats://127.0.0.1:${answer.port};.*REMUDA_DATA_DIR`),
    ),
  });
  // For an owner that is ending, or just beginning, it looks again and again, for ten seconds.
  expect(await looks()).toBe(1);
  expect(birthOf(answer.pid)).toBeDefined();
});

test("within one process too, a data directory has one owner", async () => {
  const first = await open();
  await expect(open()).rejects.toMatchObject({ code: "in-use" });
  await first.stop();
  expect((await open()).how).toBe("started");
});

test("of starts at the very same time exactly one wins, and the others are refused", async () => {
  const answers = (await Promise.all([ownerProcess(), ownerProcess(), ownerProcess()])).map(({ answer }) => answer);
  expect(answers.filter(({ how }) => how === "started")).toHaveLength(1);
  expect(answers.filter(({ code }) => code === "in-use")).toHaveLength(2);
});

test("an owner that loses its watchdog gets a new one, and stays the owner", async () => {
  const { child, answer } = await ownerProcess();
  const [first] = holders("owner.lock");
  process.kill(first!, "SIGKILL");
  await expect
    .poll(() => holders("owner.lock").filter((pid) => pid !== first), { timeout: 20_000, interval: 10 })
    .toHaveLength(1);
  await expect(open()).rejects.toMatchObject({ code: "in-use" });
  await kill(child);
  await expect.poll(() => birthOf(answer.pid), heeding).toBeUndefined();
});

test("an owner that ends in order leaves nothing running", async () => {
  const { child, answer } = await ownerProcess();
  const gone = once(child, "exit");
  child.stdin?.end();
  expect(await gone).toEqual([0, null]);
  expect(birthOf(answer.pid)).toBeUndefined();
  expect(holders("owner.lock")).toEqual([]);
});
