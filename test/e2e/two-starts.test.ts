// One data directory has one owner and one broker, whatever is started twice, killed or interrupted. The tests share the
// directory: each one begins with the service that the previous one left, and has a pool of its own.

import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { birthOf, isAlive, readBrokerRecord, readProcessRecord } from "../../runtime/broker/record.ts";
import { holdersOf, openFilesOf } from "../broker/processes.ts";
import { findTestBinary } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { groupMembers, type RemudaProcess, runCli, startRemuda, stopAllRemudas } from "../kit/process.ts";
import { connectRaw, type RawNats } from "../kit/raw-nats.ts";

const systemsChoice = { REMUDA_NATS_PORT: "0", REMUDA_HTTP_PORT: "0" };
const endMsMax = 2_000;

let dataDir: string;
/** Left running by the last test. */
let running: RemudaProcess | undefined;
const clients: RawNats[] = [];

beforeAll(async () => {
  await findTestBinary(); // On a fresh machine the server is fetched first.
  dataDir = await mkdtemp(join(tmpdir(), "two-starts-"));
}, 180_000);

afterEach(async ({ task }) => {
  for (const client of clients.splice(0)) await client.close();
  if (task.result?.state === "fail") await stopEverything(); // It may have left anything.
});

afterAll(async () => {
  await stopEverything();
  await rm(dataDir, { recursive: true, force: true });
});

async function stopEverything(): Promise<void> {
  running = undefined;
  await stopAllRemudas();
  // If a broker's owner was killed, its watchdog ends the broker a moment later.
  await eventually(() => expect([...brokers(), ...holdersOf(join(dataDir, "owner.lock"))]).toEqual([]));
}

/** The one that the last test left, or the first. */
const firstOne = async (): Promise<RemudaProcess> => running ?? (await startRemuda({ dataDir }));

/**
 * Every live nats-server that was started with this data directory's settings, or holds its lock.
 * @param others processes that cannot become one. They are not looked at, which takes most of the time.
 */
function brokers(others: ReadonlySet<number> = new Set()): number[] {
  const conf = join(dataDir, "nats", "nats.conf");
  const lock = join(dataDir, "nats", "broker.lock");
  return processes()
    .filter((pid) => !others.has(pid))
    .filter((pid) => {
      const words = commandOf(pid);
      if (!words.includes(conf)) return false;
      // Not yet the server: the shell that waits for the word to start it, and flock, which becomes it.
      const isServer = words[0]?.endsWith("nats-server") === true && birthOf(pid) !== undefined;
      return isServer || openFilesOf(pid).includes(lock);
    });
}

function processes(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return [];
  }
}

/** Counts brokers continuously; `most` stops it and returns the largest number seen. */
function countBrokers(): { most(): Promise<number> } {
  let most = 0;
  let counting = true;
  // Nothing of theirs becomes a broker of this data directory: each of those that is still to come is a new process.
  const others = new Set(processes().filter((pid) => !commandOf(pid).some((word) => word.startsWith(dataDir))));
  const counted = (async () => {
    while (counting) {
      const living = new Set(processes());
      for (const pid of others) if (!living.has(pid)) others.delete(pid);
      most = Math.max(most, brokers(others).length);
      await sleep(5);
    }
  })();
  return {
    async most() {
      counting = false;
      await counted;
      return most;
    },
  };
}

function recordedBroker(): number {
  const record = readBrokerRecord(join(dataDir, "nats", "broker.json"));
  if (record === undefined || !isAlive(record)) throw new Error("no living broker is on record");
  return record.pid;
}

async function clientOf(remuda: RemudaProcess): Promise<RawNats> {
  const client = await connectRaw(remuda.natsUrl);
  clients.push(client);
  return client;
}

interface Pool {
  name: string;
  client: RawNats;
}

async function ask<T>({ name, client }: Pool, verb: string, body: object = {}): Promise<T> {
  return (await client.request(`remuda.${verb}.${name}`, JSON.stringify(body))).json<T>();
}

const request = { requestId: "two-starts-the-only-request", ttlMs: 60_000, labels: { kept: "secretly" } };

/** State to be found again: three proxies, a password (stored separately), and an open lease. */
async function leaveState(pool: Pool): Promise<{ leaseId: string }> {
  const secret = { url: "http://user:secret@192.0.2.2:8080", labels: request.labels };
  expect(await ask(pool, "pool.open")).toMatchObject({ pool: pool.name, version: 1 });
  expect(await ask(pool, "proxies.add", { proxies: ["192.0.2.1:8080", secret, "192.0.2.3:8080"] })).toMatchObject({
    added: 3,
  });
  return ask(pool, "lease", request);
}

async function expectState(pool: Pool, { leaseId }: { leaseId: string }): Promise<void> {
  const stats = await ask(pool, "pool.stats");
  expect(stats).toMatchObject({ proxies: { available: 2, "in-use": 1 }, leases: { open: 1, granted: 1 } });
  const url = "http://user:secret@192.0.2.2:8080";
  expect(await ask(pool, "lease", request)).toMatchObject({ leaseId, url });
}

/** Starts two at once. Returns the one that serves, and the result of the other. */
async function startTwo(): Promise<{ served: RemudaProcess; refused: string }> {
  const starts = await Promise.allSettled([startRemuda({ dataDir }), startRemuda({ dataDir })]);
  const served = starts.flatMap((start) => (start.status === "fulfilled" ? [start.value] : []));
  const refused = starts.flatMap((start) => (start.status === "rejected" ? [String(start.reason)] : []));
  expect(served).toHaveLength(1);
  return { served: served[0]!, refused: refused[0]! }; // One of each: there were two.
}

test("of two starts at the very same moment exactly one serves, with one broker", async () => {
  for (let round = 0; round < 3; round++) {
    const counting = countBrokers();
    const { served, refused } = await startTwo();
    expect(refused).toMatch(/remuda ended \(1\) before it was ready/);
    expect(refused).toContain(`the data directory ${dataDir} belongs to process ${served.pid}`);
    const pool = { name: "default", client: await clientOf(served) };
    expect(await ask(pool, "pool.get")).toMatchObject({ pool: "default" });
    expect(brokers()).toEqual([recordedBroker()]);
    expect(await counting.most()).toBe(1);
    // The next round finds a used directory. The round after that finds one whose owner was killed.
    if (round === 0) await served.interrupt();
    if (round === 1) await served.kill9();
    if (round === 2) running = served;
  }
}, 60_000);

test("a second start on one data directory names the owner and ends; the first one is not disturbed", async () => {
  const first = await firstOne();
  const broker = recordedBroker();
  const pool = { name: "refused", client: await clientOf(first) };
  const left = await leaveState(pool);
  const counting = countBrokers();
  let asking = true;
  const unanswered: unknown[] = [];
  const asked = (async () => {
    while (asking) {
      await ask<{ code?: string }>(pool, "pool.stats").then(
        (stats) => stats.code !== undefined && unanswered.push(stats),
        (error) => unanswered.push(error),
      );
      await sleep(5);
    }
  })();

  for (const port of ["0", new URL(first.natsUrl).port]) {
    const env = { ...systemsChoice, REMUDA_NATS_PORT: port };
    const second = await runCli(["up"], { dataDir, env });
    expect(second.code).toBe(1);
    expect(second.stdout).toBe("");
    expect(second.stderr).toContain(`the data directory ${dataDir} belongs to process ${first.pid}`);
    expect(second.stderr).toContain(first.bareNatsUrl);
    expect(second.stderr).toContain("REMUDA_DATA_DIR");
    expect(second.stderr).not.toMatch(/\n\s+at /); // A message without a stack trace.
  }

  asking = false;
  await asked;
  expect(unanswered).toEqual([]);
  expect(await counting.most()).toBe(1);
  expect(recordedBroker()).toBe(broker);
  expect(first.child.exitCode).toBeNull();
  expect(pool.client.errors).toEqual([]);
  await expectState(pool, left);
  // The file that tells other commands the address is still there too.
  expect(readProcessRecord(join(dataDir, "owner.json"))?.pid).toBe(first.pid);
  running = first;
});

test("after kill -9 a new start serves with all state, and two brokers never run at once", async () => {
  const name = "killed";
  const counting = countBrokers();
  const first = await firstOne();
  const broker = recordedBroker();
  const left = await leaveState({ name, client: await clientOf(first) });
  await first.kill9();
  const second = await startRemuda({ dataDir });
  expect(birthOf(broker)).toBeUndefined();
  await expectState({ name, client: await clientOf(second) }, left);
  expect(brokers()).toEqual([recordedBroker()]);

  await second.kill9();
  const { served } = await startTwo();
  await expectState({ name, client: await clientOf(served) }, left);
  expect(brokers()).toEqual([recordedBroker()]);
  expect(await counting.most()).toBe(1);
  running = served;
}, 60_000);

test("after kill -9 of process and broker together a new start serves with all state", async () => {
  const name = "killed-together";
  const first = await firstOne();
  const left = await leaveState({ name, client: await clientOf(first) });
  process.kill(recordedBroker(), "SIGKILL");
  await first.kill9();
  const second = await startRemuda({ dataDir });
  await expectState({ name, client: await clientOf(second) }, left);
  expect(brokers()).toEqual([recordedBroker()]);
  running = second;
}, 60_000);

test.each([
  { whom: "the process alone", wholeGroup: false },
  { whom: "its whole group, as a terminal does it", wholeGroup: true },
])(
  "Ctrl-C to $whom ends all of it within 2 s, and a second start has all state",
  async ({ wholeGroup }) => {
    const first = await firstOne();
    const name = wholeGroup ? "interrupted-group" : "interrupted";
    const pool = { name, client: await clientOf(first) };
    const left = await leaveState(pool);
    const broker = recordedBroker();
    // A waiting lease request must not delay it. All proxies are leased by then.
    for (let i = 0; i < 5; i++) await ask(pool, "lease", { ttlMs: 60_000 });
    const waiting = ask(pool, "lease", { waitMs: 60_000 });

    const askedOn = performance.now();
    const ended = await first.interrupt({ wholeGroup });
    expect(ended).toMatchObject({ code: 0, signal: null });
    await eventually(
      () => expect([...brokers(), ...groupMembers(first.pid), ...holdersOf(join(dataDir, "owner.lock"))]).toEqual([]),
      { everyMs: 5 },
    );
    expect(performance.now() - askedOn).toBeLessThan(endMsMax);
    expect(birthOf(broker)).toBeUndefined();
    expect(await waiting).toMatchObject({ code: "unavailable", message: "This picker is stopping." });

    const second = await startRemuda({ dataDir });
    const again = { name, client: await clientOf(second) };
    expect(await ask(again, "lease", request)).toMatchObject({ leaseId: left.leaseId });
    expect(await ask(again, "pool.stats")).toMatchObject({ leases: { open: 6, granted: 6 } });
    running = second;
  },
  60_000,
);
