import { expect, test } from "vitest";
import { readMoment } from "../../services/audit/moment.ts";

const now = new Date(2026, 0, 31, 15, 30).getTime();

test.each([
  ["4711", { sequence: 4711 }],
  ["1767225780000", { at: 1_767_225_780_000 }],
  ["2026-01-31T14:03:00Z", { at: Date.UTC(2026, 0, 31, 14, 3) }],
  ["2026-01-31T14:03:00.250+02:00", { at: Date.UTC(2026, 0, 31, 12, 3, 0, 250) }],
  ["2026-01-31 14:03", { at: new Date(2026, 0, 31, 14, 3).getTime() }],
  ["2026-01-31", { at: Date.UTC(2026, 0, 31) }],
  ["14:03", { at: new Date(2026, 0, 31, 14, 3).getTime() }],
  ["9:05:07", { at: new Date(2026, 0, 31, 9, 5, 7).getTime() }],
  ["-5m", { at: now - 300_000 }],
  ["-1.5h", { at: now - 5_400_000 }],
  ["-250ms", { at: now - 250 }],
])("%s is a moment", (text, moment) => {
  expect(readMoment(text, now)).toEqual(moment);
});

test.each([
  "",
  "yesterday",
  "5m",
  "-5",
  "-5 minutes",
  "25:00",
  "14:60",
  "2026-13-01",
  "1e12",
  "0x10",
  "12:3",
  "1234567890123456",
])('"%s" is none', (text) => {
  expect(readMoment(text, now)).toBeUndefined();
});
