import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { type Broker, type BrokerOptions, openBroker } from "../../runtime/broker/broker.ts";
import { birthOf } from "../../runtime/broker/record.ts";
import type { Fault } from "../../runtime/fault.ts";
import { findTestBinary, startTestBroker } from "../kit/broker.ts";
import { quickest } from "../kit/stopwatch.ts";
import { gate, holdersOf, openFilesOf, unixSockets } from "./processes.ts";

let dataDir: string;
const opened: Broker[] = [];

// On a fresh machine the server is fetched first.
beforeAll(() => findTestBinary().then(() => {}), 180_000);

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "broker-test-"));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  for (const broker of opened.splice(0)) await broker.stop();
  await rm(dataDir, { recursive: true, force: true });
});

async function open(options: Partial<BrokerOptions> = {}): Promise<Broker> {
  const binary = await findTestBinary();
  const broker = await openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {}, ...options });
  opened.push(broker);
  return broker;
}

async function store(url: string, text: string): Promise<void> {
  const connection = await connect({ servers: url });
  const manager = await jetstreamManager(connection);
  await manager.streams.add({ name: "KEPT", subjects: ["kept"] });
  await jetstream(connection).publish("kept", text);
  await connection.close();
}

async function stored(url: string): Promise<string | undefined> {
  const connection = await connect({ servers: url });
  const manager = await jetstreamManager(connection);
  const message = await manager.streams.getMessage("KEPT", { last_by_subj: "kept" });
  await connection.close();
  return message?.string();
}

test("starts, answers, and is gone after stop, which may be called twice", async () => {
  const broker = await open();
  expect(broker).toMatchObject({ how: "started", host: "127.0.0.1", url: `nats://127.0.0.1:${broker.port}` });
  await store(broker.url, "here");

  await Promise.all([broker.stop(), broker.stop()]);
  expect(birthOf(broker.pid)).toBeUndefined();
  expect(holdersOf(join(dataDir, "owner.lock"))).toEqual([]);
  await expect(connect({ servers: broker.url, reconnect: false })).rejects.toThrow();
});

test("keeps stored messages over a restart, even on another port", async () => {
  const first = await open();
  await store(first.url, "kept");
  await first.stop();
  const second = await open();
  expect(second.how).toBe("started");
  expect(await stored(second.url)).toBe("kept");
});

test("keeps an acknowledged message over kill -9 of the server, which restarts on the same port", async () => {
  const said: string[] = [];
  const restart = gate();
  const broker = await open({ say: (line) => said.push(line), onRestart: restart.open });
  const { pid, port } = broker;
  await store(broker.url, "acknowledged");
  process.kill(pid, "SIGKILL");
  await restart.passed;
  expect(broker.port).toBe(port);
  expect(broker.pid).not.toBe(pid);
  expect(await stored(broker.url)).toBe("acknowledged");
  expect(said.join("\n")).toMatch(new RegExp(`nats-server ${pid} died \\(by SIGKILL\\)`));
  // And we can stop the new one.
  await broker.stop();
  expect(holdersOf(join(dataDir, "nats/broker.lock"))).toEqual([]);
});

test("retries a dead server while another program has the port, each time with a fault", async () => {
  const faults: Fault[] = [];
  const restart = gate();
  const failed = gate();
  const squatter = createServer();
  const broker = await open({
    onRestart: restart.open,
    onFault: (fault) => {
      faults.push(fault);
      failed.open();
    },
    // It notices the death before the first attempt, and is faster.
    say: (line) => {
      if (line.includes("died")) squatter.listen({ port: broker.port, host: "127.0.0.1" });
    },
  });
  process.kill(broker.pid, "SIGKILL");
  await failed.passed;
  expect(faults[0]).toMatchObject({ code: "fix-setup", message: expect.stringContaining(`port ${broker.port}`) });
  await new Promise((closed) => squatter.close(closed));
  await restart.passed;
  await connect({ servers: broker.url }).then((connection) => connection.close());
});

test("stop during the wait before a restart ends at once, and nothing restarts", async () => {
  const stop = async (): Promise<number> => {
    const faults: Fault[] = [];
    const squatter = createServer();
    const failed = gate();
    const broker = await open({
      onFault: (fault) => {
        faults.push(fault);
        if (faults.length === 4) failed.open();
      },
      say: (line) => {
        if (line.includes("died")) squatter.listen({ port: broker.port, host: "127.0.0.1" });
      },
    });
    process.kill(broker.pid, "SIGKILL");
    await failed.passed;
    const before = performance.now();
    await broker.stop();
    const tookMs = performance.now() - before;
    await new Promise((closed) => squatter.close(closed));
    expect(holdersOf(join(dataDir, "nats/broker.lock"))).toEqual([]);
    expect(faults).toHaveLength(4);
    return tookMs;
  };
  expect(await quickest(500, stop)).toBeLessThan(500); // The wait after the fourth fault is 800 ms.
});

test("kills a server that ignores SIGTERM, and stop still takes less than 2 s", async () => {
  const stop = async (): Promise<number> => {
    const broker = await open();
    process.kill(broker.pid, "SIGSTOP");
    const before = performance.now();
    await broker.stop();
    const tookMs = performance.now() - before;
    expect(birthOf(broker.pid)).toBeUndefined();
    return tookMs;
  };
  expect(await quickest(2_000, stop)).toBeLessThan(2_000);
});

test("names the port and the variable in the fault for a used port, and leaves nothing behind", async () => {
  const other = await startTestBroker();
  try {
    await expect(open({ port: other.port })).rejects.toMatchObject({
      code: "fix-setup",
      message: expect.stringMatching(new RegExp(`port ${other.port} .*in use.*REMUDA_NATS_PORT`)),
    });
    expect(holdersOf(join(dataDir, "owner.lock"))).toEqual([]);
    expect((await open()).how).toBe("started");
  } finally {
    await other.stop();
  }
});

test("gives the last output of a server that ends early in the fault", async () => {
  await expect(open({ binary: "/bin/ls" })).rejects.toMatchObject({
    code: "fix-setup",
    message: expect.stringMatching(/ended before it was ready.*nats\.conf/s),
  });
  expect(holdersOf(join(dataDir, "owner.lock"))).toEqual([]);
});

test("names REMUDA_NATS_URL in the fault without flock(1)", async () => {
  const binary = await findTestBinary();
  vi.stubEnv("PATH", "/nonexistent");
  await expect(open({ binary })).rejects.toMatchObject({
    code: "fix-setup",
    message: expect.stringMatching(/flock.*REMUDA_NATS_URL/),
  });
});

test("syncs every acknowledged write, listens for NATS only, and lets no other user read the folder", async () => {
  await open();
  const conf = await readFile(join(dataDir, "nats/nats.conf"), "utf8");
  expect(conf).toMatch(/^ {2}sync_interval: always$/m);
  expect(conf).not.toMatch(/http|monitor/);
  expect((await stat(join(dataDir, "nats/nats.conf"))).mode & 0o777).toBe(0o600);
  expect((await stat(join(dataDir, "nats"))).mode & 0o777).toBe(0o700);
  expect((await stat(join(dataDir, "nats/store/jetstream"))).isDirectory()).toBe(true);
});

test("gives the server its own lock, and neither the owner's lock nor the owner's pipe", async () => {
  const broker = await open();
  const ownerLock = join(dataDir, "owner.lock");
  expect(holdersOf(join(dataDir, "nats/broker.lock"))).toEqual([broker.pid]);
  expect(holdersOf(ownerLock)).toHaveLength(1);
  expect(openFilesOf(broker.pid)).not.toContain(ownerLock);
  const pipes = new Set(unixSockets());
  expect(openFilesOf(process.pid).some((file) => pipes.has(file))).toBe(true);
  expect(openFilesOf(broker.pid).filter((file) => pipes.has(file))).toEqual([]);
});

test("leaks no descriptor by opening and stopping", async () => {
  const cycle = async () => (await open()).stop();
  await cycle();
  const before = openFilesOf(process.pid).length;
  for (let round = 0; round < 5; round++) await cycle();
  await expect.poll(() => openFilesOf(process.pid).length, { timeout: 20_000 }).toBeLessThanOrEqual(before);
});
