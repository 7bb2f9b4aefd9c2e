// The kit's processes: ready when they say so, and none left behind.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "./poll.ts";
import { groupMembers, runCli, startRemuda, stopAllRemudas } from "./process.ts";

describe("processes", () => {
  let dataDir: string;
  let entry: string;
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "remuda-kit-"));
    entry = join(dataDir, "stand-in.mjs");
    await writeFile(entry, STAND_IN_COMMAND);
  });
  afterEach(stopAllRemudas);
  afterAll(() => rm(dataDir, { recursive: true, force: true }));

  const isAlone = (pid: number) => eventually(() => expect(groupMembers(pid)).toEqual([]));

  test("is ready when it says so, with the kit's ports and data directory and none of the test's own variables", async () => {
    const remuda = await startRemuda({ dataDir, entry, env: { EXTRA: "yes", HOME: undefined } });
    expect(remuda.readyLine).toBe("remuda is ready: nats://127.0.0.1:4333, http://127.0.0.1:7481.");
    expect(remuda.natsUrl).toBe("nats://127.0.0.1:4333");
    expect(remuda.httpUrl).toBe("http://127.0.0.1:7481");
    // It comes through a different pipe from the ready line, so it may arrive a moment later.
    await eventually(() => expect(remuda.output()).toContain("on stderr: ü"));
    const said: unknown = JSON.parse(/^environment (.*)$/m.exec(remuda.output())?.[1] ?? "");
    expect(said).toEqual({
      args: ["up"],
      REMUDA_DATA_DIR: dataDir,
      REMUDA_NATS_PORT: "0",
      REMUDA_HTTP_PORT: "0",
      REMUDA_GATEWAY_PORT: "0",
      REMUDA_OUTBOUND_ALLOW: "127.0.0.0/8,::1",
      EXTRA: "yes",
    });
    expect(remuda.child.pid).toBe(remuda.pid);
  });

  test("waits for an interrupt and times it, to the process or as Ctrl-C to the group", async () => {
    for (const wholeGroup of [false, true]) {
      const remuda = await startRemuda({ dataDir, entry });
      const { code, signal, ms } = await remuda.interrupt({ wholeGroup });
      expect({ code, signal }).toEqual({ code: 0, signal: null });
      expect(ms).toBeGreaterThan(0);
      expect(remuda.output()).toContain("interrupted");
      await remuda.stop();
    }
  });

  test("kill -9 ends the process alone; stop ends the other processes of its group", async () => {
    const remuda = await startRemuda({ dataDir, entry, env: { WITH_CHILD: "1" } });
    expect(groupMembers(remuda.pid)).toHaveLength(2);
    await remuda.kill9();
    expect(await remuda.exited).toEqual({ code: null, signal: "SIGKILL" });
    expect(groupMembers(remuda.pid)).toHaveLength(1);
    await remuda.stop();
    expect(groupMembers(remuda.pid)).toEqual([]);
    await remuda.kill9();
    await remuda.interrupt({ wholeGroup: true });
    await remuda.stop();
  });

  test("a process that ends or stays silent before it is ready throws its output, and leaves nothing behind", async () => {
    await expect(startRemuda({ dataDir, entry, args: ["fail"] })).rejects.toThrow(/ended \(3\).*no port left/s);
    await expect(startRemuda({ dataDir, entry, args: ["silent"], readyWithinMs: 300 })).rejects.toThrow(
      "was not ready",
    );
  });

  test("ends its groups when the test process is killed", async () => {
    const kit = fileURLToPath(new URL("./process.ts", import.meta.url));
    const script = `
      const { startRemuda } = await import(${JSON.stringify(kit)});
      const remuda = await startRemuda(${JSON.stringify({ dataDir, entry, env: { WITH_CHILD: "1" } })});
      console.log(remuda.pid);`;
    const tests = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(tests.stdout, "data");
    const pid = Number(String(line));
    expect(groupMembers(pid)).toHaveLength(2);
    tests.kill("SIGKILL");
    await isAlone(pid);
  });

  test("runs a command to its end, with its input, and separates its outputs", async () => {
    const done = await runCli(["cat", "x"], { dataDir, entry, stdin: "ü\n" });
    expect(done).toEqual({ code: 0, stdout: "ü\n", stderr: "cat x\n" });
    expect((await runCli(["fail"], { dataDir, entry })).code).toBe(3);
    expect((await runCli(["suicide"], { dataDir, entry, stdin: "x".repeat(1 << 20) })).code).toBe(128 + 15);
    await expect(runCli(["silent"], { dataDir, entry, timeoutMs: 300 })).rejects.toThrow("remuda silent did not end");
  });
});

const STAND_IN_COMMAND = `
import { spawn } from "node:child_process";
const [verb, ...rest] = process.argv.slice(2);
if (verb === "fail") { console.error("no port left"); process.exit(3); }
if (verb === "suicide") { process.kill(process.pid, "SIGTERM"); }
if (verb === "silent") { setInterval(() => {}, 1000); }
if (verb === "cat") { console.error([verb, ...rest].join(" ")); process.stdin.pipe(process.stdout); }
if (verb === "up") {
  const seen = Object.entries(process.env).filter(([name]) => /^(REMUDA_(?!NATS_SERVER)|VITEST|NODE_ENV|EXTRA|HOME)/.test(name));
  console.error("on stderr: ü");
  console.log("environment " + JSON.stringify({ args: [verb, ...rest], ...Object.fromEntries(seen) }));
  if (process.env.WITH_CHILD) {
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
    await new Promise((resolve) => child.once("spawn", resolve));
  }
  process.on("SIGINT", () => { console.log("interrupted"); process.exit(0); });
  setInterval(() => {}, 1000);
  process.stdout.write("remuda is rea");
  setImmediate(() => process.stdout.write("dy: nats://127.0.0.1:4333, http://127.0.0.1:7481.\\n"));
}
`;
