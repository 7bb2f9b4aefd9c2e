// Later versions write further kinds of events. A running picker announces the highest level that it knows, and
// writes nothing of a level that another one does not know. An event that says `"inert": true` needs no level.

export const levels = {
  /** All events until then. */
  first: 1,
  /** `closed` in events that are written to the ledger of a closed pool. */
  closedLedgers: 2,
} as const;

/** Of this program. */
export const ledgerLevel = Math.max(...Object.values(levels));
