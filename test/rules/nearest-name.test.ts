// The known name that a misspelt one was probably meant to be.
import { expect, test } from "vitest";
import { nearestName } from "../../protocol/nearest-name.ts";
import { outcomeSchema } from "../../protocol/outcome.ts";
import { readRequest } from "../../protocol/request.ts";

test.each([
  ["lease_id", "leaseId"],
  ["latency", "latencyMs"],
  ["statsu", "status"],
  ["retryAfter", "retryAfterMs"],
  ["colour", undefined],
  ["aVeryLongNameOfAnotherService", undefined],
])("%s: %s", (given, nearest) => {
  expect(nearestName(given, Object.keys(outcomeSchema.shape))).toBe(nearest);
});

test("a report of a thousand outcomes with unknown fields, half a megabyte of them, does not hold up its leader", () => {
  const field = (i: number): string => `x${String(i).padStart(31, "q")}`;
  const outcomes = Array.from({ length: 1000 }, (_, i) => ({
    ...{ leaseId: "l_0000000000000000000000", n: 1 },
    ...Object.fromEntries(Array.from({ length: 10 }, (_, k) => [field(10 * i + k), 1])),
  }));
  const times = Array.from({ length: 3 }, () => {
    const since = performance.now();
    for (const outcome of outcomes) readRequest(outcomeSchema, outcome);
    return performance.now() - since;
  });
  expect(Math.min(...times)).toBeLessThan(200);
});

test("an outcome of the stream has no reply, so nothing is compared for it", () => {
  const read = readRequest(outcomeSchema, { leaseId: "l_0000000000000000000000", stauts: 200 }, { warningsMost: 0 });
  expect(read).toEqual({ value: { leaseId: "l_0000000000000000000000" }, warnings: [] });
});
