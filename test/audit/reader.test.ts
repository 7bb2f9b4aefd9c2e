// The reader of commits must read any bytes as `JSON.parse` does, or leave them to it.
import { describe, expect, test } from "vitest";
import { Findings } from "../../services/audit/checker/finding.ts";
import { Reader } from "../../services/audit/checker/reader.ts";
import { isWhole } from "../../services/audit/checker/shape.ts";
import { type Seeded, seeded } from "../kit/seed.ts";
import { makeLedger, randomPolicy } from "./ledgers.ts";
import { simulatedLedger } from "./simulated.ts";

const seeds = Number(process.env["REMUDA_TEST_SEEDS"] ?? 3);

/** @returns whether the reader read it. Then the document must be the same, and each event must fit its schema. */
function isRead(reader: Reader, bytes: Buffer): boolean {
  const text = bytes.toString("utf8");
  const read = reader.read(bytes);
  if (read === undefined) return false;
  const document = JSON.parse(text) as { events: unknown[] };
  if (JSON.stringify(read) !== JSON.stringify(document)) expect(read, text).toEqual(document);
  const findings = new Findings();
  const strangers = new Set<string>();
  for (const [place, event] of document.events.entries())
    if (!isWhole(event, findings, { place, strangers })) expect(event, text).toBe("whole");
  expect([findings.count, findings.noticeCount]).toEqual([0, 0]);
  return true;
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

test(`reads ${seeds} ledgers as JSON.parse does`, async () => {
  const reader = new Reader();
  for (let seed = 1; seed <= seeds; seed++) {
    for (const bytes of randomLedger(seeded(seed), 200)) isRead(reader, bytes);
    for (const bytes of await simulatedLedger(seed)) isRead(reader, bytes);
  }
});

test("leaves few commits of a busy service to JSON.parse", () => {
  for (const names of [false, true]) {
    const reader = new Reader();
    const ledger = makeLedger(200, { proxies: 100, requestsPerTurn: 40, names, chaos: 2, failures: 2 });
    expect(ledger.filter((bytes) => !isRead(reader, bytes)).length).toBeLessThan(ledger.length / 20);
  }
});

const spoilt = seeds * 2000;

test(`reads ${spoilt} spoilt commits as JSON.parse does, or not at all`, () => {
  const random = seeded(7);
  const reader = new Reader();
  const ledger = randomLedger(random, 400).filter(({ length }) => length < 4000);
  let read = 0;
  for (let i = 0; i < spoilt; i++) if (isRead(reader, spoil(random, random.pick(ledger)))) read++;
  // Some must still be commits, and most must not.
  expect(read).toBeGreaterThan(spoilt / 20);
  expect(read).toBeLessThan(spoilt / 2);
});

describe("reads as JSON.parse does, or not at all:", () => {
  const use =
    '{"type":"UseReported","leaseId":"l_1","n":1,"proxyId":"p_1","class":"success","result":"success","score":1,"streak":0,"storedAt":9}';
  const closing =
    '{"type":"LeaseClosed","leaseId":"l_1","proxyId":"p_1","state":"available","how":"completed","used":1,"slotAt":5}';
  const grant =
    '{"type":"LeaseGranted","leaseId":"l_1","proxyId":"p_1","state":"in-use","request":{"requestId":"r"},"uses":1,"epoch":0,"expiresAt":9,"strategy":"best","ranked":{"granted":0,"score":0,"lastUsedAt":0}}';
  const commit = (...events: string[]): string =>
    `{"v":2,"n":1,"prev":"","term":1,"at":5,"cursor":{"seq":0,"at":5},"events":[${events.join(",")}]}`;

  test("a commit in the form in which it is written", () => {
    for (const text of [commit(), commit(use, closing, grant)])
      expect(isRead(new Reader(), Buffer.from(text))).toBe(true);
  });

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
    ].map((request) => commit(grant.replace('{"requestId":"r"}', request))),
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
    isRead(new Reader(), Buffer.from(text));
  });

  test("bytes that are not UTF-8", () => {
    const bytes = Buffer.from(commit(use, grant));
    const reader = new Reader();
    for (let at = 0; at < bytes.length; at++) {
      for (const byte of [0xff, 0xe2, 0xc3, 0x80]) {
        const changed = Buffer.from(bytes);
        changed[at] = byte;
        expect(isRead(reader, changed)).toBe(false);
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
