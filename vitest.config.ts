import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Real brokers and real processes: more than two files at once make a 2-core machine miss its own deadlines.
    maxWorkers: 2,
    reporters: ["default"],
  },
});
