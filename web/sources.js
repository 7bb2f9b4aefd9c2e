// The sources that a pool follows. They are added with `remuda sources put`, because a source may have secrets in it.
import { html } from "htm/preact";
import { call, pathOf } from "./api.js";
import { useLive } from "./live.js";
import { follow, hrefOf, place } from "./place.js";
import { clock, duration, number } from "./words.js";

/**
 * @typedef {{name: string, kind: string, everyMs: number, proxies: number, last?: {at: number, read: number, added: number,
 *   retired: number, rejected: number}, trouble?: {since: number, why: string}, nextAt?: number}} Source
 */

export function SourcesView() {
  const { pool = "" } = place.value;
  const { value, error } = useLive(pool, () => call(`GET ${pathOf(pool)}/sources`), pool);
  const sources = /** @type {Source[] | undefined} */ (value?.sources);
  return html`<main>
    <p><a href=${hrefOf({ view: "pool", pool })} onClick=${follow}>Pool ${pool}</a></p>
    <h1>Sources of ${pool}</h1>
    ${error && html`<p role="alert" class="error">${error.message}</p>`}
    ${sources?.length === 0 && html`<p>None. <code>npx remuda sources put</code> adds one.</p>`}
    <div class="cards">${sources?.map((source) => html`<${SourceCard} key=${source.name} source=${source} />`)}</div>
  </main>`;
}

/** @param {{source: Source}} props */
function SourceCard({ source: { name, kind, everyMs, proxies, last, trouble, nextAt } }) {
  return html`<article class="card">
    <h2>${name}</h2>
    ${trouble && html`<p class="error">Fails since ${clock(trouble.since)}: ${trouble.why}</p>`}
    <dl>
      <div><dt>Kind</dt><dd>${kind}, every ${duration(everyMs)}</dd></div>
      <div><dt>Proxies</dt><dd>${number(proxies)}</dd></div>
      ${
        last &&
        html`<div><dt>Last read</dt><dd>${clock(last.at)}</dd></div>
          <div><dt>Added, retired, rejected</dt><dd>${[last.added, last.retired, last.rejected].map(number).join(", ")}</dd></div>`
      }
      ${nextAt !== undefined && html`<div><dt>Next</dt><dd>${clock(nextAt)}</dd></div>`}
    </dl>
  </article>`;
}
