// One service for the protocol tests that need no service of their own. Each test has its own pools in it. Vitest calls
// this once, before the first of these files.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startRemuda } from "../kit/process.ts";

declare module "vitest" {
  export interface ProvidedContext {
    service: { dataDir: string; bareNatsUrl: string; httpUrl: string };
  }
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), "protocol-tests-"));
  const remuda = await startRemuda({ dataDir });
  project.provide("service", { dataDir, bareNatsUrl: remuda.bareNatsUrl, httpUrl: remuda.httpUrl ?? "" });
  return async () => {
    await remuda.interrupt();
    await remuda.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
}
