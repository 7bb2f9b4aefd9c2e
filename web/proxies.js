// The table of proxies: one page of the list. Sorting is of this page, because the service lists by id.
import { html } from "htm/preact";
import { ActButton } from "./actions.js";
import { mayChange } from "./api.js";
import { State } from "./overview.js";
import { change, follow, hrefOf, place } from "./place.js";
import { duration, number } from "./words.js";

/**
 * @typedef {{id: string, scheme: string, host: string, port: number, username?: string, exit: string,
 *   labels: Record<string, string>, limits?: import("../events/policy.ts").Limits, state: string, until?: number, reasons?: string[],
 *   leasableAt?: number, epoch: number, score: number, streak: number, usesInWindow: number, usesSinceRest: number, openLeases: number,
 *   totals: Record<string, number>, lastUsedAt?: number}} Proxy
 */

/** @type {Record<string, (proxy: Proxy) => string | number>} */
const sorts = {
  state: ({ state }) => state,
  proxy: ({ host, port }) => `${host}:${port}`,
  exit: ({ exit }) => exit,
  window: ({ usesInWindow }) => -usesInWindow,
  score: ({ score }) => score,
  streak: ({ streak }) => -streak,
  leases: ({ openLeases }) => -openLeases,
};

/**
 * @param {{proxies: Proxy[], policy?: import("../events/policy.ts").Policy, time: () => number, isPast: boolean, sort: string, pool: string, again: () => void,
 *   selected: ReadonlySet<string>, onSelect: (ids: ReadonlySet<string>) => void}} props
 */
export function Proxies({ proxies, policy, time, isPast, sort, pool, selected, onSelect, again }) {
  const may = mayChange() && !isPast;
  const { at: past = "" } = place.value;
  if (proxies.length === 0) return html`<p>No proxy matches.</p>`;
  const all = proxies.every(({ id }) => selected.has(id));
  /** @type {Map<string, number>} */
  const shared = new Map();
  for (const { exit } of proxies) shared.set(exit, (shared.get(exit) ?? 0) + 1);
  return html`<div class="scrolls" role="region" aria-label="Table of proxies" tabindex="0">
    <table>
      <thead>
        <tr>
          ${
            may &&
            html`<th scope="col"><input type="checkbox" aria-label="Select all of this page" checked=${all}
              onChange=${() => onSelect(new Set(all ? [] : proxies.map(({ id }) => id)))} /></th>`
          }
          <${Head} name="proxy" sort=${sort}>Proxy<//>
          <${Head} name="state" sort=${sort}>State<//>
          <${Head} name="exit" sort=${sort}>Exit<//>
          <th scope="col">Labels</th>
          <${Head} name="window" sort=${sort}>Window<//>
          <${Head} name="score" sort=${sort}>Score<//>
          <${Head} name="streak" sort=${sort}>Streak<//>
          <${Head} name="leases" sort=${sort}>Leases<//>
          ${may && html`<th scope="col">Actions</th>`}
        </tr>
      </thead>
      <tbody>
        ${sorted(proxies, sort).map((proxy) => {
          const { id, state, exit, labels, score, streak, openLeases } = proxy;
          const name = nameOf(proxy);
          const others = (shared.get(exit) ?? 1) - 1;
          const toggle = () =>
            onSelect(new Set(selected.has(id) ? [...selected].filter((each) => each !== id) : [...selected, id]));
          return html`<tr key=${id} data-id=${id}>
            ${may && html`<td><input type="checkbox" aria-label=${`Select ${name}`} checked=${selected.has(id)} onChange=${toggle} /></td>`}
            <th scope="row"><a href=${hrefOf({ view: "proxy", pool, proxy: id, at: past })} onClick=${follow}>${name}</a><br /><code>${id}</code></th>
            <td><${State} state=${state} /> <${Why} proxy=${proxy} time=${time} /></td>
            <td>${exit}${others > 0 && html` <span class="soft">shared with ${others} here</span>`}</td>
            <td>${Object.entries(labels)
              .map(([label, value]) => `${label}=${value}`)
              .join(" ")}</td>
            <td><${Fill} proxy=${proxy} policy=${policy} time=${time} /></td>
            <td class="count">${number(score)}</td>
            <td class="count">${number(streak)}</td>
            <td class="count">${number(openLeases)}</td>
            ${
              may &&
              html`<td class="acts">
                <${ActButton} act=${isResting(proxy) ? "revive" : "rest"} pool=${pool} ids=${[id]} name=${name} onDone=${again} />
                <${ActButton} act="retire" pool=${pool} ids=${[id]} name=${name} onDone=${again} />
              </td>`
            }
          </tr>`;
        })}
      </tbody>
    </table>
  </div>`;
}

/** @param {Proxy} proxy @returns its address, with the masked user name */
export function nameOf({ scheme, host, port, username }) {
  return `${scheme}://${username === undefined ? "" : `${username}@`}${host}:${port}`;
}

/** @param {Proxy} proxy */
export const isResting = ({ state }) => state === "cooling" || state === "exhausted";

/** @param {readonly Proxy[]} proxies @param {string} sort */
function sorted(proxies, sort) {
  const by = Object.hasOwn(sorts, sort) ? sorts[sort] : undefined;
  if (by === undefined) return proxies;
  return proxies.toSorted((a, b) => {
    const [x, y] = [by(a), by(b)];
    return x < y ? -1 : x > y ? 1 : 0;
  });
}

/** @param {{name: string, sort: string, children?: unknown}} props */
function Head({ name, sort, children }) {
  const isSorted = name === sort;
  return html`<th scope="col" aria-sort=${isSorted ? "ascending" : undefined}>
    <button class="plain" onClick=${() => change({ sort: isSorted ? "" : name }, { isSame: true })}>
      ${children}${isSorted ? " ▾" : ""}
    </button>
  </th>`;
}

/** The reasons of a rest, and how long it lasts. @param {{proxy: Proxy, time: () => number}} props */
function Why({ proxy: { until, reasons = [] }, time }) {
  if (until === undefined) return null;
  return html`<span class="soft">${reasons.join(", ")}, for ${duration(until - time())}</span>`;
}

/** Uses in the window, of its limit, and when the next use is free. @param {{proxy: Proxy, policy?: import("../events/policy.ts").Policy, time: () => number}} props */
function Fill({ proxy: { usesInWindow, leasableAt, limits }, policy, time }) {
  // A proxy's own `null` is no limit, whatever the policy says.
  const rate = [limits?.rate === undefined ? policy?.rate : limits.rate].flat()[0];
  if (!rate) return policy === undefined ? number(usesInWindow) : html`<span class="soft">no limit</span>`;
  const waitMs = leasableAt === undefined ? 0 : leasableAt - time();
  const wait = waitMs > 0 && html` <span class="soft">frees in ${duration(waitMs)}</span>`;
  return html`<meter min="0" max=${rate.limit} value=${usesInWindow} aria-label="Uses in the window"></meter>
    ${number(usesInWindow)}/${number(rate.limit)}${wait}`;
}
