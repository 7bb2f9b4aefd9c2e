import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Each test file is in one part of the suite (CONTRIBUTING.md): in the first one that names it. */
const e2e = ["test/{chaos,compose,demo,e2e,examples,sim}/**/*.test.ts", "test/{audit,rules}/seeds/*.test.ts"];
const core = ["test/*.test.ts", "test/{audit,docs,lists,properties,rules}/**/*.test.ts"];

/** They share one service of each worker. In a project of their own, it does not idle while other files run. */
const protocol = "test/protocol/**/*.test.ts";

/** The longest files begin first, so that no worker is left alone with one of them at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ project }: TestSpecification): boolean => project.name === "e2e";
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    // Never reached on purpose: a test stops waiting earlier, and names the condition that did not come true.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Real brokers and real processes: more than two files at once make a 2-core machine miss its own deadlines. Three
    // were tried, and took no less time.
    maxWorkers: 2,
    // Within a file, too: each of the tests that run at the same time has a thread of its own.
    maxConcurrency: 2,
    // The files of a worker share its modules, its services and the thread of its commands: loading the modules anew
    // takes a second and a half of a core for each file, and starting a service takes more than two.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    reporters: ["default"],
    // Hundreds of commands are started: V8 keeps their compiled code, as `npx remuda` does.
    env: { NODE_COMPILE_CACHE: fileURLToPath(new URL("node_modules/.cache/compiled", import.meta.url)) },
    projects: [
      { extends: true, test: { name: "core", include: core, exclude: e2e } },
      { extends: true, test: { name: "wire", include: ["test/**/*.test.ts"], exclude: [...core, ...e2e, protocol] } },
      { extends: true, test: { name: "wire-protocol", include: [protocol] } },
      { extends: true, test: { name: "e2e", include: e2e } },
    ],
  },
});
