import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** What takes longest begins first, so that no worker is left alone with it at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification): boolean =>
      /\/test\/(e2e|demo|compose|examples|sim)\//.test(moduleId);
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // No promises: what is awaited is given up, and says what it was, before these are over.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Real brokers and real processes: more than two files at once make a 2-core machine miss its own deadlines.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    reporters: ["default"],
    // Hundreds of commands are started: what V8 makes of their code is kept, as `npx remuda` keeps it.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("node_modules/.cache/compiled", import.meta.url)) },
  },
});
