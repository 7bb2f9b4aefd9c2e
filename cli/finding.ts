// The doctor's findings: a sentence about one subject, its severity, and what to do. A check that fails or takes too
// long is also a finding. The other checks go on.

import { given } from "../protocol/given.ts";
import { messageOf } from "../runtime/fault.ts";

/** A note asks for nothing. */
export type Severity = "ok" | "note" | "warning" | "problem";

export interface Finding {
  severity: Severity;
  /** The subject of the check: "node", "clock", "pool default". */
  about: string;
  what: string;
  /** A sentence, or a command to type. */
  todo?: string;
}

export type Check = () => Promise<Finding[]> | Finding[];

export const ok = (about: string, what: string): Finding => ({ severity: "ok", about, what });

export const warning = (about: string, what: string, todo?: string): Finding => ({
  severity: "warning",
  about,
  what,
  ...given({ todo }),
});

export const note = (about: string, what: string, todo: string): Finding => ({
  ...warning(about, what, todo),
  severity: "note",
});

export const problem = (about: string, what: string, todo?: string): Finding => ({
  ...warning(about, what, todo),
  severity: "problem",
});

/** The findings of a check, within its time. */
export async function findingsOf(about: string, check: Check, msMax: number): Promise<Finding[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Finding[]>((resolve) => {
    const what = `the check did not end within ${msMax / 1000} s`;
    timer = setTimeout(() => resolve([warning(about, what, "Try again. The machine may be overloaded.")]), msMax);
  });
  try {
    return await Promise.race([Promise.resolve().then(check), late]);
  } catch (error) {
    return [warning(about, `the check failed: ${messageOf(error)}`)];
  } finally {
    clearTimeout(timer);
  }
}
