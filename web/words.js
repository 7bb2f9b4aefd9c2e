// Numbers, times and names as the page shows them.

const numbers = new Intl.NumberFormat("en");

/** @param {number} value */
export const number = (value) => numbers.format(value);

/** @param {number} count of proxies */
export const countOf = (count) => `${number(count)} ${count === 1 ? "proxy" : "proxies"}`;

/** @param {number} part @param {number} whole */
export function percent(part, whole) {
  return whole === 0 ? "–" : `${Math.round((100 * part) / whole)} %`;
}

/** `12 s`, `3 min 5 s`, `2 h 4 min`. @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** @param {number} at epoch milliseconds */
export const clock = (at) => new Date(at).toLocaleString("en-GB", { hour12: false });

/** Codes of refusals, in words. @type {Readonly<Record<string, string>>} */
export const refusalWords = {
  "pool-exhausted": "no proxy could be leased",
  "no-match": "no proxy has these labels",
  "invalid-request": "wrong request",
  overloaded: "overloaded",
  unavailable: "no leader",
};
