// The fields of a source, by request and in the file.
import { expect, test } from "vitest";
import { readRequest } from "../../protocol/request.ts";
import { sourceRequestSchema, sourceSchema } from "../../protocol/source.ts";

test("ignores unknown fields of a request, nested ones too, and names each with the nearest known one", () => {
  const read = readRequest(sourceRequestSchema, {
    name: "site",
    everyMS: 60_000,
    from: { kind: "url", url: "https://list.example/", header: {}, path: "/etc/passwd" },
    probe: { url: "https://shop.example/", perMinute: 1, expect: 200 },
    refill: null,
  });
  expect(read).toMatchObject({ value: { name: "site", everyMs: 300_000, from: { kind: "url", headers: {} } } });
  expect(read.warnings).toEqual([
    "everyMS: not a field of this request, and ignored. Did you mean everyMs?",
    "from.header: not a field of this request, and ignored. Did you mean from.headers?",
    "from.path: not a field of this request, and ignored.",
    "probe.expect: not a field of this request, and ignored. Did you mean probe.expectStatus?",
  ]);
  expect(JSON.stringify(read)).not.toContain("/etc/passwd");
});

test("refuses a request for a file or a command, and an unknown field in the file", () => {
  for (const from of [
    { kind: "file", path: "/etc/passwd" },
    { kind: "command", command: ["id"] },
  ])
    expect(readRequest(sourceRequestSchema, { name: "site", from })).toMatchObject({ refusal: { field: "from.kind" } });
  const from = { kind: "url", url: "https://list.example/" };
  expect(sourceSchema.safeParse({ name: "site", from, everyMS: 1 }).success).toBe(false);
  expect(sourceSchema.safeParse({ name: "site", from: { ...from, header: {} } }).success).toBe(false);
});
