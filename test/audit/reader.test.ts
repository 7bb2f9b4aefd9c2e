// The audit's own reader of commits must read any bytes as `JSON.parse` does: what is quick must not be another truth.
import { describe, expect, test } from "vitest";
import { Findings } from "../../services/audit/checker/finding.ts";
import { Reader } from "../../services/audit/checker/reader.ts";
import { isWhole } from "../../services/audit/checker/shape.ts";
import { type Seeded, seeded } from "../kit/seed.ts";
import { makeLedger, randomPolicy } from "./ledgers.ts";
import { simulatedLedger } from "./simulated.ts";

const seeds = Number(process.env["REMUDA_TEST_SEEDS"] ?? 20);

/** The document as text: the same text, the same document, and in the same order. "broken": it is none. */
function readBy(read: () => unknown): string {
  try {
    return JSON.stringify(read());
  } catch {
    return "broken";
  }
}

function expectSame(reader: Reader, bytes: Buffer): string {
  const read = readBy(() => reader.read(bytes));
  const parsed = readBy(() => JSON.parse(bytes.toString("utf8")));
  if (read !== parsed) expect(read, bytes.toString("utf8")).toBe(parsed);
  if (read !== "broken") expectProven(reader, JSON.parse(read));
  return read;
}

/** What was read where it lies needs no other look at its form. */
function expectProven(reader: Reader, document: { events?: unknown } | null): void {
  if (!Array.isArray(document?.events)) return;
  const unproven = new Set(reader.unproven);
  const findings = new Findings();
  const strangers = new Set<string>();
  for (const [place, event] of document.events.entries()) {
    if (unproven.has(place)) continue;
    expect(isWhole(event, findings, { place, strangers }), JSON.stringify(event)).toBe(true);
  }
  expect([findings.count, findings.noticeCount]).toEqual([0, 0]);
}

function randomLedger(random: Seeded, commits: number): Buffer[] {
  return makeLedger(commits, {
    seed: random.int(1, 1e9),
    policy: randomPolicy(random),
    otherPolicies: [randomPolicy(random)],
    names: random.chance(0.5),
    proxies: random.int(1, 8),
    pauseMs: random.int(20, 2000),
  });
}

test(`what is read of ${seeds} ledgers is what JSON.parse reads`, { timeout: 120_000 }, async () => {
  for (let seed = 1; seed <= seeds; seed++) {
    const reader = new Reader();
    for (const bytes of randomLedger(seeded(seed), 200)) expectSame(reader, bytes);
    for (const bytes of await simulatedLedger(seed)) expectSame(reader, bytes);
  }
});

test("nearly all that a busy service writes is read where it lies, and not by JSON.parse", () => {
  for (const names of [false, true]) {
    const reader = new Reader();
    let slow = 0;
    for (const bytes of makeLedger(500, { proxies: 100, wishesPerTurn: 40, names, chaos: 2, failures: 2 })) {
      reader.read(bytes);
      slow += reader.unproven.length;
    }
    expect(reader.quick).toBeGreaterThan(10_000);
    expect(slow).toBeLessThan(reader.quick / 20);
  }
});

const spoilt = Number(process.env["REMUDA_TEST_SEEDS"] ?? 20) * 2000;

test(`what is read of ${spoilt} spoilt commits is what JSON.parse reads, or neither reads anything`, {
  timeout: 120_000,
}, () => {
  const random = seeded(7);
  const reader = new Reader();
  const ledger = randomLedger(random, 400).filter(({ length }) => length < 4000);
  let broken = 0;
  for (let i = 0; i < spoilt; i++) {
    const bytes = spoil(random, random.pick(ledger));
    if (expectSame(reader, bytes) === "broken") broken++;
  }
  // Both must have been put to the test.
  expect(broken).toBeGreaterThan(spoilt / 5);
  expect(broken).toBeLessThan((spoilt * 4) / 5);
});

describe("forms that the service does not write", () => {
  const use =
    '{"type":"UseReported","leaseId":"l_1","n":1,"proxyId":"p_1","class":"success","result":"success","score":1,"streak":0,"storedAt":9}';
  const closing =
    '{"type":"LeaseClosed","leaseId":"l_1","proxyId":"p_1","state":"available","how":"completed","used":1,"slotAt":5}';
  const grant =
    '{"type":"LeaseGranted","leaseId":"l_1","proxyId":"p_1","state":"in-use","wish":{"requestId":"r"},"uses":1,"epoch":0,"expiresAt":9,"strategy":"best","ranked":{"granted":0,"score":0,"lastUsedAt":0}}';
  const commit = (...events: string[]): string =>
    `{"v":1,"n":1,"prev":"","term":1,"at":5,"cursor":{"seq":0,"at":5},"events":[${events.join(",")}]}`;

  test.each([
    commit(),
    commit(use, closing, grant),
    commit("1", "null", '"text"', "[]", "{}", "true"),
    commit(use.replace(":1,", ":1.0,")),
    commit(use.replace(":1,", ":01,")),
    commit(use.replace(":1,", ":-0,")),
    commit(use.replace(":1,", ":1e3,")),
    commit(use.replace(":1,", ":-,")),
    commit(use.replace(":1,", ":,")),
    commit(use.replace(":1,", ":999999999999999,")),
    commit(use.replace(":1,", ":9007199254740993,")),
    commit(use.replace(":1,", ":123456789012345678901234567890,")),
    commit(use.replace("l_1", "l_\\u0041")),
    commit(use.replace("l_1", "l_é")),
    commit(use.replace("l_1", "l_\\")),
    commit(use.replace("l_1", "l_\n")),
    commit(use.replace("l_1", "l_\x7f")),
    commit(use.replace("}", ',"score":2}')),
    commit(use.replace("}", ',"__proto__":{"n":7}}')),
    commit(use.replace('"n":1,', "")),
    commit(use.replace('"class":"success"', '"class":"superb"')),
    commit(use.replace('"result":"success"', '"result":"superb"')),
    commit(use.replace('"class":"success","result":"success"', '"class":"timeout","result":"failure","counts":true')),
    commit(use.replace("}", ',"counts":true}')),
    commit(closing.replace("completed", "vanished")),
    commit(closing.replace('"available","how":"completed"', '"retired","how":"expired"')),
    commit(closing.replace("}", ', "late":true}')),
    commit(closing.replace(',"slotAt":5', "")),
    commit(grant.replace('{"requestId":"r"}', "null")),
    commit(grant.replace('{"requestId":"r"}', "")),
    commit(grant.replace('{"requestId":"r"}', '{"requestId":"r","labels":{"a":"}],{"}}')),
    ...[
      '{"requestId":"r","uses":2,"session":"s"}',
      '{"uses":2}',
      '{"uses":0}',
      '{"requestId":"r","minUses":0}',
      '{"requestId":"r","ttlMs":-5}',
      '{,"uses":2}',
      '{"requestId":"r",,"uses":2}',
      '{"labels":{},"exclude":["a","b"],"holder":"h","token":true,"target":"t"}',
      '{"labels":{"2":"b","a":"c","1":"d","a":"e"},"exclude":["a"]}',
      '{"labels":{"__proto__":"b"}}',
      '{"labels":{"a":"b",}}',
      '{"labels":{"a":1}}',
      '{"labels":["a"]}',
      '{"exclude":[]}',
      '{"exclude":["a",]}',
      '{"exclude":["a" "b"]}',
      '{"schemes":["http"]}',
      '{"token":false}',
      "{}",
      "{",
      "}",
      ",",
    ].map((wish) => commit(grant.replace('{"requestId":"r"}', wish))),
    ...[
      '{"order":1,"spent":0}',
      '{"a":1,"a":2}',
      '{"__proto__":1}',
      '{"a":"b"}',
      '{"a":1.5}',
      '{"a":1,}',
      "{a:1}",
      "[]",
    ].map((ranked) => commit(grant.replace(/"ranked":.*\}\}/, `"ranked":${ranked}}`))),
    commit(grant.replace('"score":0', '"score":0.5')),
    commit(grant.replace(/"ranked":.*\}\}/, '"ranked":{}}')),
    commit(use, ""),
    commit("", use),
    `${commit(use)} `,
    ` ${commit(use)}`,
    `${commit(use)}}`,
    commit(use).slice(0, -1),
    commit(use).slice(0, -2),
    commit(use).replace(/\}$/, ',"events":[]}'),
    commit(use).replace(/\}$/, ',"n":7}'),
    commit(use).replace('"cursor":{"seq":0,"at":5}', '"events":[{"type":"LeaseClosed"}],"n":3'),
    commit(use).replace('"cursor":{"seq":0,"at":5}', '"cursor":{"seq":0,"events":[1]}'),
    commit(use).replace('"cursor":{"seq":0,"at":5}', '"cursor":{"seq":0'),
    `[0,"events":[${use}]]`,
    '{"events":[]}',
    "{}",
    "null",
    "",
  ])("%s", (text) => {
    expectSame(new Reader(), Buffer.from(text));
  });

  test("bytes that are no UTF-8 are read as such text is", () => {
    const bytes = Buffer.from(commit(use, grant));
    for (let at = 0; at < bytes.length; at++) {
      for (const byte of [0xff, 0xe2, 0xc3, 0x80]) {
        const changed = Buffer.from(bytes);
        changed[at] = byte;
        expectSame(new Reader(), changed);
      }
    }
  });
});

const scraps = [
  '"',
  "\\",
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  " ",
  "0",
  "1",
  "9",
  "-",
  ".",
  "e",
  "é",
  "\n",
  "x",
  "true",
  "null",
];

function spoil(random: Seeded, whole: Buffer): Buffer {
  let bytes = whole;
  for (let times = random.int(1, 2); times > 0; times--) {
    const at = random.int(0, bytes.length - 1);
    const length = random.pick([0, 0, 1, 1, 1, 2, random.int(0, 40)]);
    const other = random.int(0, bytes.length - 1);
    const put = random.pick([
      Buffer.from(random.pick(scraps)),
      Buffer.from(random.pick(scraps)),
      Buffer.alloc(0),
      // A digit for a digit, a letter for a letter: mostly still JSON.
      Buffer.from([bytes[at]! ^ 1]),
      bytes.subarray(other, other + random.int(1, 60)),
    ]);
    bytes = Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + length)]);
  }
  return bytes;
}
