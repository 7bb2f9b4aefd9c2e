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

/** A separate process that owns the data directory, or is refused. */
async function ownerProcess(): Promise<{ child: ChildProcess; answer: Answer }> {
  const program = join(import.meta.dirname, "owner-process.ts");
  const child = spawn(process.execPath, [program, dataDir, binary], { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  const [line] = await once(createInterface(child.stdout!), "line");
  return { child, answer: JSON.parse(line) };
}

/** Counts from now on how often a process tries to take a lock. */
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

/** The watchdog's SIGTERM is enough. A process that ignores it is killed after five seconds. */
const heeding = { timeout: 4_000, interval: 10 };

test("ends the broker soon after kill -9 of the owner, and a new start works", async () => {
  const { child, answer } = await ownerProcess();
  expect(answer.how).toBe("started");
  expect(birthOf(answer.pid)).toBeDefined();
  await kill(child);
  await expect.poll(() => birthOf(answer.pid), heeding).toBeUndefined();
  expect((await open()).how).toBe("started");
});

test("waits for the watchdog on a new start right after kill -9 of the owner, and then starts afresh", async () => {
  const { child, answer } = await ownerProcess();
  // A server that ignores SIGTERM: the watchdog needs its 5 s, and holds the lock for as long.
  process.kill(answer.pid, "SIGSTOP");
  await kill(child);
  const broker = await open();
  expect(broker.how).toBe("started");
  expect(birthOf(answer.pid)).toBeUndefined();
});

test("adopts the broker after kill -9 of owner and watchdog, and gives it to the new owner", async () => {
  const { child, answer } = await ownerProcess();
  const [watchdog] = holders("owner.lock");
  // Stopped first, or it would start a new watchdog.
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

test("ends an adopted broker with its new owner too", async () => {
  const first = await ownerProcess();
  first.child.kill("SIGSTOP");
  process.kill(holders("owner.lock")[0]!, "SIGKILL");
  await kill(first.child);

  const second = await ownerProcess();
  expect(second.answer).toMatchObject({ how: "adopted", pid: first.answer.pid });
  await kill(second.child);
  await expect.poll(() => birthOf(first.answer.pid), heeding).toBeUndefined();
});

test("ends a running broker with other settings, and starts one with ours", async () => {
  const { child, answer } = await ownerProcess();
  child.kill("SIGSTOP");
  process.kill(holders("owner.lock")[0]!, "SIGKILL");
  await kill(child);
  const broker = await open({ host: "127.0.0.2" });
  expect(broker).toMatchObject({ how: "started", host: "127.0.0.2" });
  expect(birthOf(answer.pid)).toBeUndefined();
});

test("gives a fault if another program holds the broker's lock, and starts nothing", async () => {
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

test("refuses a second start at once, naming the owner, its NATS address, and what to do", async () => {
  const { child, answer } = await ownerProcess();
  const looks = await countLooks();
  await expect(open()).rejects.toMatchObject({
    code: "in-use",
    message: expect.stringMatching(
      new RegExp(`${dataDir} belongs to process ${child.pid}.*nats://127.0.0.1:${answer.port};.*REMUDA_DATA_DIR`),
    ),
  });
  // If the owner is ending, or just starting, it retries for ten seconds.
  expect(await looks()).toBe(1);
  expect(birthOf(answer.pid)).toBeDefined();
});

test("allows one owner of a data directory within one process too", async () => {
  const first = await open();
  await expect(open()).rejects.toMatchObject({ code: "in-use" });
  await first.stop();
  expect((await open()).how).toBe("started");
});

test("lets exactly one of several concurrent starts win, and refuses the others", async () => {
  const answers = (await Promise.all([ownerProcess(), ownerProcess(), ownerProcess()])).map(({ answer }) => answer);
  expect(answers.filter(({ how }) => how === "started")).toHaveLength(1);
  expect(answers.filter(({ code }) => code === "in-use")).toHaveLength(2);
});

test("gives an owner that loses its watchdog a new one, and keeps the owner", async () => {
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

test("leaves nothing running when an owner ends in order", async () => {
  const { child, answer } = await ownerProcess();
  const gone = once(child, "exit");
  child.stdin?.end();
  expect(await gone).toEqual([0, null]);
  expect(birthOf(answer.pid)).toBeUndefined();
  expect(holders("owner.lock")).toEqual([]);
});
