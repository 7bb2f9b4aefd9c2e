// A notice: a new leader says that it leads (docs/protocol.md §1.8).

export interface Notice {
  leader: string;
  term: number;
}

/** Undefined: it is not a notice. */
export function noticeIn(text: string): Notice | undefined {
  try {
    const { leader, term } = JSON.parse(text) as { leader?: unknown; term?: unknown };
    return Number.isSafeInteger(term) ? { leader: String(leader), term: term as number } : undefined; // It is a number.
  } catch {
    return undefined;
  }
}
