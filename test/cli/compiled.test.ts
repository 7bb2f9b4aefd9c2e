// V8's compiled code is kept once a service is ready, so a killed service restarts in half the time.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { findTestBinary } from "../kit/broker.ts";
import { eventually } from "../kit/poll.ts";
import { startRemuda, stopAllRemudas } from "../kit/process.ts";

const place = mkdtempSync(join(tmpdir(), "compiled-test-"));

afterEach(async () => {
  await stopAllRemudas();
  rmSync(place, { recursive: true, force: true, maxRetries: 20 });
});

test("a killed start leaves its compiled code to the next one", async () => {
  const env = {
    REMUDA_NATS_SERVER: await findTestBinary(),
    REMUDA_CACHE_DIR: join(place, "cache"),
    NODE_COMPILE_CACHE: undefined,
  };
  const remuda = await startRemuda({ dataDir: join(place, "data"), entry: "cli/remuda.js", env });
  // The services' own files and their packages'. Only this test uses the folder.
  const kept = (): number => {
    const all = readdirSync(join(place, "cache", "compiled"), { recursive: true, withFileTypes: true });
    return all.filter((entry) => entry.isFile() && !entry.name.endsWith(".tmp")).length;
  };
  await eventually(() => expect(kept()).toBeGreaterThan(300)); // The service still runs.
  await remuda.kill9();
  expect(kept()).toBeGreaterThan(300);
});
