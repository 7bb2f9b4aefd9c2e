// The checker must not repeat the decisions' mistakes, so it shares no code with them.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const folder = fileURLToPath(new URL("../../services/audit/checker/", import.meta.url));

test("imports no state machine into the checker, directly or through other files of the audit", () => {
  const files = readdirSync(folder);
  expect(files.length).toBeGreaterThan(8);
  for (const file of files) {
    const source = readFileSync(join(folder, file), "utf8");
    for (const [, specifier = ""] of source.matchAll(/from\s+"([^"]+)"/g)) {
      const isOwn =
        /^\.\/[\w-]+\.ts$/.test(specifier) ||
        specifier.startsWith("../../../events/") ||
        specifier.startsWith("../../../protocol/") ||
        specifier.startsWith("node:");
      expect(isOwn || specifier === "../source.ts", `${file} imports ${specifier}`).toBe(true);
    }
  }
  // The only file of the audit that it may import has only types.
  expect(readFileSync(join(folder, "../source.ts"), "utf8")).not.toMatch(/^import /m);
});
