// Moments as people name them: a time, or a place in the stream.
import { timesFrom } from "../../events/words.ts";

/** `at`: all commits up to this time. `sequence`: all up to this one in the stream. */
export type Moment = { at: number } | { sequence: number };

export const momentForm =
  'a sequence (4711), epoch milliseconds, an ISO 8601 time (2026-01-31T14:03:00Z), a time of the last 24 hours (14:03 here, 14:03Z in UTC), "now", or a time ago (10m, -10m, "5 minutes ago")';

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const dayMs = unitMs.d;
const clock = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(z)?$/i;
const calendar = /^(\d{4})-(\d\d)-(\d\d)([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/i;

/**
 * Undefined if the text has none of these forms.
 * @param now epoch ms; times without a zone are in this machine's zone.
 */
export function readMoment(text: string, now: number): Moment | undefined {
  const trimmed = text.trim();
  if (/^\d{1,15}$/.test(trimmed)) {
    const number = Number(trimmed);
    return number >= timesFrom ? { at: number } : { sequence: number };
  }
  if (/^now$/i.test(trimmed)) return { at: now };
  const ago =
    /^-?(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(trimmed) ??
    /^(\d{1,9}(?:\.\d{1,3})?) ?(ms|s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:ours?)?|d(?:ays?)?) ago$/.exec(trimmed);
  const [, amount, word] = ago ?? [];
  if (amount !== undefined && word !== undefined) {
    const unit = (word === "ms" ? word : word.charAt(0)) as keyof typeof unitMs; // One of those in the expressions.
    return { at: Math.round(now - Number(amount) * unitMs[unit]) };
  }
  const [, hours, minutes, seconds = "0", utc] = clock.exec(trimmed) ?? [];
  if (hours !== undefined) return { at: lastAt([Number(hours), Number(minutes), Number(seconds), 0], now, utc) };
  const [, year, month, day] = calendar.exec(trimmed) ?? [];
  if (year === undefined || Number(day) > new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate())
    return undefined;
  const at = Date.parse(trimmed);
  return Number.isNaN(at) ? undefined : { at };
}

/** The length of a named moment: 14:03 is a minute. Undefined for an instant. */
export function spanNamed(text: string): number | undefined {
  const trimmed = text.trim();
  const [isClock, , , second] = clock.exec(trimmed) ?? [];
  if (isClock !== undefined) return second === undefined ? unitMs.m : unitMs.s;
  const [isDate, , , , time, seconds, part] = calendar.exec(trimmed) ?? [];
  if (isDate === undefined || part !== undefined) return undefined;
  if (time === undefined) return dayMs;
  return seconds === undefined ? unitMs.m : unitMs.s;
}

/** The last moment at which clocks showed this time, here or in UTC. */
function lastAt(time: [number, number, number, number], now: number, utc: string | undefined): number {
  const date = new Date(now);
  if (utc !== undefined) {
    const today = date.setUTCHours(...time);
    return today > now ? today - dayMs : today;
  }
  if (date.setHours(...time) <= now) return date.getTime();
  // Yesterday, which may not have 24 hours.
  date.setDate(date.getDate() - 1);
  return date.setHours(...time);
}

/** Is this commit after the moment? */
export function isAfter(moment: Moment, commit: { at: number; sequence: number }): boolean {
  return "at" in moment ? commit.at > moment.at : commit.sequence > moment.sequence;
}

/** Is this commit before the moment? */
export function isBefore(moment: Moment, commit: { at: number; sequence: number }): boolean {
  return "at" in moment ? commit.at < moment.at : commit.sequence < moment.sequence;
}

/** Is the range empty in any ledger? False for two moments of different kinds. */
export function isReversed(from: Moment, to: Moment): boolean {
  if ("at" in from) return "at" in to && from.at > to.at;
  return "sequence" in to && from.sequence > to.sequence;
}
