// A moment as one number.

/** Whole numbers from here on are epoch milliseconds (1973 and later); smaller ones are sequences in a stream. */
export const timesFrom = 1e11;
