// The doctor's findings: a sentence about one thing, its severity, and what to do. A check that fails or takes too long
// is also a finding, and never stops the other checks.

export type Severity = "ok" | "warning" | "problem";

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
  ...(todo === undefined ? {} : { todo }),
});

export const problem = (about: string, what: string, todo?: string): Finding => ({
  ...warning(about, what, todo),
  severity: "problem",
});

/** The findings of a check, within its time. */
export async function findingsOf(about: string, check: Check, msMax: number): Promise<Finding[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Finding[]>((resolve) => {
    const what = `could not be looked at within ${msMax / 1000} s`;
    timer = setTimeout(
      () => resolve([warning(about, what, "Try again; if it stays so, what it asks is overloaded.")]),
      msMax,
    );
  });
  try {
    return await Promise.race([Promise.resolve().then(check), late]);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return [warning(about, `could not be looked at: ${why}`)];
  } finally {
    clearTimeout(timer);
  }
}

/** `3 proxies`, `1 proxy`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
