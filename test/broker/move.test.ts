import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { moveStreams } from "../../runtime/broker/move.ts";

function store(...folders: string[]): string {
  const made = mkdtempSync(join(tmpdir(), "move-test-"));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  for (const folder of folders) mkdirSync(join(made, "jetstream", folder), { recursive: true });
  return made;
}

test("moves streams of the global account to their own, once, and no others", () => {
  const where = store("$G/streams/A/msgs", "$G/streams/MINE");
  expect(moveStreams(where, { A: "ONE", B: "TWO" })).toEqual(["A"]);
  expect(existsSync(join(where, "jetstream/ONE/streams/A/msgs"))).toBe(true);
  expect(existsSync(join(where, "jetstream/$G/streams/MINE"))).toBe(true);
  expect(moveStreams(where, { A: "ONE", B: "TWO" })).toEqual([]);
});

test("gives a fault for a stream that exists twice, and keeps both", () => {
  const where = store("$G/streams/A", "ONE/streams/A");
  expect(() => moveStreams(where, { A: "ONE" })).toThrow(
    expect.objectContaining({ code: "fix-setup", message: expect.stringMatching(/^the stream A is there twice/) }),
  );
  expect(existsSync(join(where, "jetstream/$G/streams/A"))).toBe(true);
});
