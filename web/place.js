// Which view is shown. The whole place is in the URL's query, so it can be copied, and the back button works.
import { signal } from "@preact/signals";

/** @typedef {Readonly<Record<string, string>>} Place */

/**
 * These values become parts of commands, which are copied into a shell. Anybody may have written the URL.
 * @type {ReadonlyMap<string, RegExp>}
 */
const forms = new Map([
  ["pool", /^[a-z0-9][a-z0-9-]{0,62}$/],
  ["proxy", /^\w[\w-]{0,127}$/],
  ["at", /^\d{1,15}$/],
]);

/** @type {import("@preact/signals").Signal<Place>} */
export const place = signal(placeIn(location.search));

addEventListener("popstate", () => {
  place.value = placeIn(location.search);
});

/** @param {string} search values of another form are left out @returns {Place} */
export function placeIn(search) {
  const given = [...new URLSearchParams(search)];
  return Object.fromEntries(given.filter(([name, value]) => forms.get(name)?.test(value) ?? true));
}

/** @param {Place} to Empty values are left out. */
export function hrefOf(to) {
  const set = Object.entries(to).filter(([, value]) => value !== "");
  return set.length === 0 ? "/" : `/?${new URLSearchParams(Object.fromEntries(set))}`;
}

/** @param {Place} to @param {{isSame?: boolean}} [how] `isSame`: it is no place to come back to, as while typing. */
export function goTo(to, { isSame = false } = {}) {
  const href = hrefOf(to);
  if (isSame) history.replaceState(null, "", href);
  else history.pushState(null, "", href);
  place.value = placeIn(new URL(href, location.href).search);
}

/** The current place, changed. @param {Place} change @param {{isSame?: boolean}} [how] */
export function change(change, how) {
  goTo({ ...place.value, ...change }, how);
}

/** For a link of the page: no new load. @param {MouseEvent} event */
export function follow(event) {
  const link = /** @type {HTMLAnchorElement} */ (event.currentTarget);
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  goTo(placeIn(new URL(link.href).search));
  scrollTo(0, 0);
}
