import { expect, test } from "vitest";
import { readMoment, spanNamed } from "../../services/audit/moment.ts";

const now = new Date(2026, 0, 31, 15, 30).getTime();

const soon = new Date(now + 60_000);

function lastUtc(hours: number, minutes: number): number {
  const at = new Date(now).setUTCHours(hours, minutes, 0, 0);
  return at > now ? at - 86_400_000 : at;
}

test.each([
  ["4711", { sequence: 4711 }],
  ["1767225780000", { at: 1_767_225_780_000 }],
  ["2026-01-31T14:03:00Z", { at: Date.UTC(2026, 0, 31, 14, 3) }],
  ["2026-01-31T14:03:00.250+02:00", { at: Date.UTC(2026, 0, 31, 12, 3, 0, 250) }],
  ["2026-01-31 14:03", { at: new Date(2026, 0, 31, 14, 3).getTime() }],
  ["2026-01-31", { at: Date.UTC(2026, 0, 31) }],
  ["14:03", { at: new Date(2026, 0, 31, 14, 3).getTime() }],
  ["9:05:07", { at: new Date(2026, 0, 31, 9, 5, 7).getTime() }],
  // The last one that there was: at midnight, this time means yesterday's.
  ["15:31", { at: new Date(2026, 0, 30, 15, 31).getTime() }],
  ["23:50:10", { at: new Date(2026, 0, 30, 23, 50, 10).getTime() }],
  ["14:03Z", { at: lastUtc(14, 3) }],
  [soon.toISOString().slice(11, 16).concat("Z"), { at: soon.getTime() - 86_400_000 }],
  ["-5m", { at: now - 300_000 }],
  ["5m", { at: now - 300_000 }],
  ["5m ago", { at: now - 300_000 }],
  ["2 hours ago", { at: now - 7_200_000 }],
  ["1 minute ago", { at: now - 60_000 }],
  ["now", { at: now }],
  ["-1.5h", { at: now - 5_400_000 }],
  ["-250ms", { at: now - 250 }],
])("reads %s as a moment", (text, moment) => {
  expect(readMoment(text, now)).toEqual(moment);
});

test.each([
  ["14:03", 60_000],
  ["14:03Z", 60_000],
  ["2026-01-31 14:03", 60_000],
  ["2026-01-31T14:03+01:00", 60_000],
  ["14:03:00", 1000],
  ["2026-01-31T14:03:00Z", 1000],
  ["2026-01-31T14:03:00.250Z", undefined],
  ["2026-01-31", 86_400_000],
  ["4711", undefined],
  ["-5m", undefined],
])("reads all of the span that %s names", (text, forMs) => {
  expect(spanNamed(text)).toBe(forMs);
});

test.each([
  "",
  "yesterday",
  "5w",
  "-5",
  "-5 minutes",
  "25:00",
  "14:60",
  "2026-13-01",
  "2026-02-30",
  "2026-02-30T10:00:00Z",
  "ago",
  "5 ago",
  "5 fortnights ago",
  "1e12",
  "0x10",
  "12:3",
  "1234567890123456",
])('rejects "%s"', (text) => {
  expect(readMoment(text, now)).toBeUndefined();
});
