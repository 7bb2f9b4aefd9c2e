// A server that reads its store is waited for, however long that takes. Stand-ins take the place of a large store.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { openBroker } from "../../runtime/broker/broker.ts";
import { birthOf } from "../../runtime/broker/record.ts";
import { Recovery, workOf } from "../../runtime/broker/recovery.ts";
import { findTestBinary } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";

test("waits as long as the CPU time or the bytes grow, and says so every five seconds", () => {
  const recovery = new Recovery(20_000, 0);
  const said: string[] = [];
  for (let s = 1; s <= 600; s++) {
    // Half of the time it computes, half of the time it reads.
    const work = { cpuMs: Math.min(s, 300) * 50, bytes: Math.max(0, s - 300) * 5_000_000 };
    const look = recovery.look(work, s * 1000);
    expect(look.isOver).toBe(false);
    if (look.say !== undefined) said.push(look.say);
  }
  expect(said).toHaveLength(120);
  expect(said[0]).toBe("nats-server is not ready after 5 s. It is working (0.3 s of CPU, 0 MiB read and written)");
  expect(said.at(-1)).toBe(
    "nats-server is not ready after 600 s. It is working (15.0 s of CPU, 1431 MiB read and written)",
  );
});

test("gives up a server 20 s after its last work, if it does no more than an idle one", () => {
  const recovery = new Recovery(20_000, 0);
  const workAt = (s: number) => ({ cpuMs: s <= 60 ? s * 100 : 6000 + (s - 60) * 5, bytes: 1000 * s });
  let s = 1;
  let said = "";
  for (; s < 600; s++) {
    const look = recovery.look(workAt(s), s * 1000);
    said = look.say ?? said;
    if (look.isOver) break;
  }
  expect(s).toBe(80);
  expect(said).toBe("nats-server is not ready after 75 s. It has done nothing for 15 s");
});

test("sees the work of a process, and no work of a process that sleeps or is gone", async () => {
  const busy = spawn(process.execPath, ["-e", "for (;;) require('node:fs').readFileSync('/proc/self/stat')"]);
  onTestFinished(() => void busy.kill("SIGKILL"));
  await once(busy, "spawn");
  const before = workOf(busy.pid!); // It runs.
  await eventually(() => {
    const { cpuMs, bytes } = workOf(busy.pid!);
    expect(cpuMs).toBeGreaterThan(before.cpuMs);
    expect(bytes).toBeGreaterThan(before.bytes);
  });
  expect(workOf(2 ** 22 + 1)).toEqual({ cpuMs: 0, bytes: 0 });
});

/** A nats-server that first does something else. */
async function slowServer(first: string): Promise<{ dataDir: string; binary: string }> {
  const dataDir = mkdtempSync(join(tmpdir(), "broker-test-"));
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }));
  const binary = join(dataDir, "slow-server");
  writeFileSync(binary, `#!/bin/sh\n${first}\nexec '${await findTestBinary()}' "$@"\n`, { mode: 0o755 });
  return { dataDir, binary };
}

const idleMsMax = 1500;

test("does not end a server that is not ready for a long time and works", async () => {
  const read = "i=0; while [ $i -lt 20 ]; do head -c 2000000 /dev/zero >/dev/null; sleep 0.1; i=$((i+1)); done";
  const { dataDir, binary } = await slowServer(read);
  const startedOn = performance.now();
  const broker = await openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {}, idleMsMax });
  onTestFinished(() => broker.stop());
  expect(performance.now() - startedOn).toBeGreaterThan(idleMsMax);
  expect(birthOf(broker.pid)).toBeDefined();
});

test("ends a server that is not ready and does nothing", async () => {
  const { dataDir, binary } = await slowServer("exec sleep 1000");
  const opening = openBroker({ dataDir, host: "127.0.0.1", port: 0, binary, say: () => {}, idleMsMax });
  await expect(opening).rejects.toMatchObject({
    code: "retry-later",
    message: expect.stringContaining("was not ready, and did nothing for 1.5 s"),
  });
});
