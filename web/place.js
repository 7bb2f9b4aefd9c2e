// Which view is shown. The whole place is in the URL's query, so it can be copied, and the back button works.
import { signal } from "@preact/signals";

/** @typedef {Readonly<Record<string, string>>} Place */

/** @type {import("@preact/signals").Signal<Place>} */
export const place = signal(placeIn(location.search));

addEventListener("popstate", () => {
  place.value = placeIn(location.search);
});

/** @param {string} search @returns {Place} */
function placeIn(search) {
  return Object.fromEntries(new URLSearchParams(search));
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
