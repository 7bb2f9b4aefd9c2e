// Moments as people name them: a time or a place in the stream. Read once, at the border.

import { timesFrom } from "../../events/moment.ts";

/** `at`: all commits up to this time. `sequence`: all up to this one in the stream. */
export type Moment = { at: number } | { sequence: number };

export const momentForm =
  "a sequence (4711), epoch milliseconds, an ISO 8601 time (2026-01-31T14:03:00Z), 14:03 for today, or -5m for five minutes ago";

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Undefined: it is none of these forms. @param now epoch ms; times without a zone are of this machine's zone. */
export function readMoment(text: string, now: number): Moment | undefined {
  const trimmed = text.trim();
  if (/^\d{1,15}$/.test(trimmed)) {
    const number = Number(trimmed);
    return number >= timesFrom ? { at: number } : { sequence: number };
  }
  const [, amount, unit] = /^-(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(trimmed) ?? [];
  if (amount !== undefined && unit !== undefined) {
    return { at: Math.round(now - Number(amount) * unitMs[unit as keyof typeof unitMs]) }; // One of those in the expression.
  }
  const [, hours, minutes, seconds = "0"] = /^([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?$/.exec(trimmed) ?? [];
  if (hours !== undefined) return { at: new Date(now).setHours(Number(hours), Number(minutes), Number(seconds), 0) };
  if (!/^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/i.test(trimmed)) return undefined;
  const at = Date.parse(trimmed);
  return Number.isNaN(at) ? undefined : { at };
}

/** Is this commit after the moment? */
export function isAfter(moment: Moment, commit: { at: number; sequence: number }): boolean {
  return "at" in moment ? commit.at > moment.at : commit.sequence > moment.sequence;
}

/** Is it before? */
export function isBefore(moment: Moment, commit: { at: number; sequence: number }): boolean {
  return "at" in moment ? commit.at < moment.at : commit.sequence < moment.sequence;
}

export function showMoment(moment: Moment): string {
  return "at" in moment ? new Date(moment.at).toISOString() : `sequence ${moment.sequence}`;
}
