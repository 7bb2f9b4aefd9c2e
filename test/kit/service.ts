// One service for all tests of a file, on its own data directory. Its broker has ended, and writes no more, when the
// directory is removed. A broker that a test started in its place may take a moment to notice that it must end.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { type RemudaProcess, startRemuda, stopAllRemudas } from "./process.ts";

export interface FileService {
  dataDir: string;
  service: RemudaProcess;
}

/** Call it at the head of a file. @param begin called before the first test, and before the file's own hooks. */
export function serviceForAll(begin: (started: FileService) => void): void {
  let dataDir: string | undefined;
  let service: RemudaProcess | undefined;
  beforeAll(async () => {
    dataDir = await mkdtemp(join(tmpdir(), "remuda-test-"));
    service = await startRemuda({ dataDir });
    begin({ dataDir, service });
  }, 150_000);
  afterAll(async () => {
    await service?.interrupt();
    await stopAllRemudas();
    if (dataDir !== undefined) await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  });
}
