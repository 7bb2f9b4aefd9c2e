// The small readers and writers of the command line.

import { Readable } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readDuration, readLabel } from "../../cli/arguments.ts";
import { linesIn, textOf, withDurations } from "../../cli/files.ts";
import { sorted } from "../../cli/list.ts";
import { showDuration, showRelative, Table } from "../../cli/output.ts";
import { readPlace, whatIsWatched } from "../../cli/watch.ts";
import { printable, shellQuoted, showInstant } from "../../runtime/text.ts";

const lines = async (chunks: readonly (string | Buffer)[]): Promise<string[]> => {
  const read: string[] = [];
  const pieces = textOf(Readable.from(chunks.map((chunk) => Buffer.from(chunk))), "a list");
  for await (const some of linesIn(pieces, 8192)) read.push(...some);
  return read;
};

describe("the lines of a text", () => {
  test("end with LF, CRLF or CR, and the last one may have no end", async () => {
    expect(await lines(["a\nb\r\nc\rd\n\ne"])).toEqual(["a", "b", "c", "d", "", "e"]);
    expect(await lines(["a\r"])).toEqual(["a"]);
    expect(await lines([])).toEqual([]);
  });

  test("are the same however the text was split", async () => {
    const text = fc.string({ unit: fc.constantFrom("a", "é", "😀", "\r", "\n", "\r\n"), maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(text, fc.array(fc.nat(100), { maxLength: 6 }), async (whole, cuts) => {
        const bytes = Buffer.from(whole);
        const at = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
        const chunks = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
        const expected = whole.split(/\r\n|\n|\r/);
        if (expected.at(-1) === "") expected.pop();
        expect(await lines(chunks)).toEqual(expected);
      }),
    );
  });

  test("are bounded: only the beginning of an endless line is kept, and the next is read as it is", async () => {
    const endless = Array.from({ length: 100 }, () => "x".repeat(10_000));
    const [first, second] = await lines([...endless, "\n1.2.3.4:80"]);
    expect(first?.length).toBeGreaterThan(4096);
    expect(first?.length).toBeLessThan(20_000);
    expect(second).toBe("1.2.3.4:80");
  });
});

test.each([
  ["500ms", 500],
  ["1.5s", 1500],
  ["90s", 90_000],
  ["10m", 600_000],
  ["2h", 7_200_000],
  ["1d", 86_400_000],
  ["0s", 0],
])("reads the duration %s", (text, ms) => expect(readDuration(text)).toBe(ms));

test.each(["", "90", "-1s", "1 s", "s", "1w", "1e3s", "１s", "1.s"])("rejects the duration %s", (text) => {
  expect(() => readDuration(text)).toThrow("number with a unit");
});

test("reads durations with a unit in the fields of a document that are milliseconds", () => {
  const policy = {
    rate: [{ limit: 1, windowMs: "10m" }],
    lease: { ttlMsMax: "1h" },
    backoff: { baseMsBy: { blocked: "30s" } },
  };
  expect(withDurations(policy)).toEqual({
    rate: [{ limit: 1, windowMs: 600_000 }],
    lease: { ttlMsMax: 3_600_000 },
    backoff: { baseMsBy: { blocked: 30_000 } },
  });
  const others = { name: "10m", everyMs: "soon", windowMs: null, labels: { "10m": "10m" } };
  expect(withDurations(others)).toEqual(others);
});

test.each(["10m", "-10m", "10m ago"])("reads %s as a place ten minutes ago", (text) => {
  const { seq, at } = readPlace(text);
  expect(seq).toBe(Number.MAX_SAFE_INTEGER);
  expect(Math.abs(at - (Date.now() - 600_000))).toBeLessThan(60_000);
});

test("says what is watched", () => {
  expect(whatIsWatched({ pool: "shop" })).toBe("watching the pool shop from now on. Ctrl-C ends it.");
  expect(whatIsWatched({ pool: "shop", from: readPlace("7"), type: ["RestBegan"], proxy: ["p_1"] })).toBe(
    "watching the pool shop from sequence 7, only RestBegan, p_1. Ctrl-C ends it.",
  );
  expect(whatIsWatched({ pool: "shop", from: readPlace("2026-01-31T12:00Z") })).toContain(
    " from 2026-01-31T12:00:00.000Z on. ",
  );
});

test("collects labels; a value may have an equals sign, or be empty", () => {
  expect(readLabel("b==x", readLabel("a=1"))).toEqual({ a: "1", b: "=x" });
  expect(readLabel("a=")).toEqual({ a: "" });
});

test("shows a duration rounded up", () => {
  expect([1, 3120, 59_901, 60_000, 250_001, 7_500_000].map(showDuration)).toEqual([
    "0.1 s",
    "3.2 s",
    "60 s",
    "1 m 0 s",
    "4 m 11 s",
    "2 h 5 m",
  ]);
});

test("shows an instant relative to now, in one unit", () => {
  const shown = (ms: number): string => showRelative(1e12 + ms, 1e12);
  expect([43_000, 42_001, 60_000, 90_000, 7_200_000, 200_000_000].map(shown)).toEqual([
    "in 43 s",
    "in 43 s",
    "in 1 min",
    "in 2 min",
    "in 2 h",
    "in 3 d",
  ]);
  expect([0, -900, -61_000, -90_000_000].map(shown)).toEqual(["0 s ago", "0 s ago", "1 min ago", "1 d ago"]);
});

test("sorts a list by a column, those without a value last in either order", () => {
  const columns = [{ name: "LAST READ", cell: () => "", by: ({ at }: { at?: number }) => at }];
  const order = (isReverse: boolean) =>
    sorted([{ at: 2 }, {}, { at: 10 }, { at: 1 }], columns, { column: "last-read", isReverse }).map(({ at }) => at);
  expect(order(false)).toEqual([1, 2, 10, undefined]);
  expect(order(true)).toEqual([10, 2, 1, undefined]);
});

test("cuts a line of a list at the width of the terminal, and nothing in a pipe", () => {
  const print = (terminal: { isTTY: boolean; columns: number }): string[] => {
    const lines: string[] = [];
    const { stdout } = process;
    const write = (line: string) => lines.push(stripVTControlCharacters(line));
    const fake = Object.create(stdout, { write: { value: write }, isTTY: { value: terminal.isTTY } });
    Object.defineProperty(fake, "columns", { value: terminal.columns });
    Object.defineProperty(process, "stdout", { value: fake, configurable: true });
    try {
      new Table(["ID", "PROXY", "LABELS"]).print([["p_1", "http://192.0.2.1:80", "country=DE city=Berlin"]]);
    } finally {
      Object.defineProperty(process, "stdout", { value: stdout, configurable: true });
    }
    return lines;
  };
  expect(print({ isTTY: true, columns: 32 })).toEqual([
    "ID   PROXY                LABELS\n",
    "p_1  http://192.0.2.1:80  count…\n",
  ]);
  expect(print({ isTTY: true, columns: 24 })).toEqual(["ID   PROXY             …\n", "p_1  http://192.0.2.1:8…\n"]);
  expect(print({ isTTY: false, columns: 32 })[1]).toBe("p_1  http://192.0.2.1:80  country=DE city=Berlin\n");
});

test("shows an instant beyond all calendars as its number", () => {
  expect(showInstant(0)).toBe("1970-01-01T00:00:00.000Z");
  expect(showInstant(Number.MAX_SAFE_INTEGER)).toBe("9007199254740991");
});

test("removes control characters from foreign text", () => {
  expect(printable("a\u001b[2Jb\u202Ec\nd")).toBe("a\uFFFD[2Jb\uFFFDc\uFFFDd");
});

test("quotes a value for a shell if necessary", () => {
  expect(shellQuoted("nats://127.0.0.1:4222")).toBe("nats://127.0.0.1:4222");
  expect(shellQuoted("")).toBe("''");
  expect(shellQuoted("a'b$c")).toBe("'a'\\''b$c'");
});
