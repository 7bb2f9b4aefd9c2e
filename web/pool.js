// A pool: its numbers, a chart from now on, and its proxies by page. The URL holds the filters.
import { html } from "htm/preact";
import { useEffect, useState } from "preact/hooks";
import { Actions } from "./actions.js";
import { call, mayChange, pathOf, session } from "./api.js";
import { Chart } from "./chart.js";
import { now, useLive } from "./live.js";
import { PoolNumbers, states } from "./overview.js";
import { change, follow, hrefOf, place } from "./place.js";
import { Proxies } from "./proxies.js";
import { clock, countOf, number } from "./words.js";

const pageSize = 100;
/** After the last key, before the list is asked for. */
const typingMs = 250;

export function Pool() {
  const at = place.value;
  const pool = at["pool"] ?? "";
  const query = queryOf(at);
  const moment = at["at"] ?? "";
  const { value, error, again } = useLive(pool, () => load(pool, query), query, { isStill: moment !== "" });
  return html`<main>
    <h1>Pool ${pool}</h1>
    <nav class="pages" aria-label="More of this pool">
      <a href=${hrefOf({ view: "policy", pool })} onClick=${follow}>Policy</a>
      ${mayChange() && html`<a href=${hrefOf({ view: "sources", pool })} onClick=${follow}>Sources</a>`}
    </nav>
    ${error && html`<p role="alert" class="error">${error.message}</p>`}
    ${mayList() && html`<${Time} pool=${pool} at=${moment} openedAt=${value?.openedAt} />`}
    ${value?.past && html`<p role="status">The proxies at ${clock(value.past.at)}, after commit ${number(value.past.commit)}.</p>`}
    ${
      value?.stats &&
      html`<div class="beside">
        <section class="card" aria-label="Numbers"><${PoolNumbers} stats=${value.stats} /></section>
        <section class="card" aria-labelledby="chart-title">
          <h2 id="chart-title">Since this page was opened</h2>
          <${Chart} stats=${value.stats} key=${pool} />
        </section>
      </div>`
    }
    ${mayList() ? html`<${List} at=${at} value=${value} again=${again} />` : html`<p>Your role may not see proxies.</p>`}
  </main>`;
}

const mayList = () => session.value?.role !== "worker";

/** @param {import("./place.js").Place} at */
function queryOf({ state = "", label = "", text = "", after = "", at = "" }) {
  const query = new URLSearchParams({ limit: String(pageSize) });
  if (state !== "") query.set("state", state);
  if (text !== "") query.set("text", text);
  if (after !== "") query.set("after", after);
  if (at !== "") query.set("at", at);
  for (const each of label.split(" ").filter((part) => part.includes("="))) {
    const equals = each.indexOf("=");
    query.set(`label.${each.slice(0, equals)}`, each.slice(equals + 1));
  }
  return query.toString();
}

/**
 * @typedef {{openedAt: number, proxies: import("./proxies.js").Proxy[], next?: string, time: () => number,
 *   stats?: import("./overview.js").Stats, policy?: any, past?: {at: number, commit: number}}} Loaded
 * `time`: by the pool's clock. Without `past` it is the present, with `stats` and `policy`.
 */

/** @param {string} pool @param {string} query @returns {Promise<Loaded>} */
async function load(pool, query) {
  const path = pathOf(pool);
  const isPast = query.includes("&at=");
  const [stats, { policy, openedAt }, page] = await Promise.all([
    isPast ? undefined : call(`GET ${path}/stats`),
    call(`GET ${path}`),
    mayList() ? call(`GET ${path}/proxies?${query}`) : { proxies: [] },
  ]);
  if (isPast) return { ...page, openedAt, time: () => page.at, past: { at: page.at, commit: page.commit } };
  const ahead = stats.at - Date.now();
  return { ...page, openedAt, time: () => now.value + ahead, stats, policy };
}

/** Any moment since the pool was opened. @param {{pool: string, at: string, openedAt?: number}} props `at`: empty: now */
function Time({ pool, at, openedAt }) {
  const [wanted, setWanted] = useState(at === "" ? Date.now() : Number(at));
  useEffect(() => setWanted(at === "" ? Date.now() : Number(at)), [at]);
  const go = () => change({ at: String(wanted), after: "" });
  const set = (/** @type {Event} */ event) =>
    setWanted(Number(/** @type {HTMLInputElement} */ (event.currentTarget).value));
  /** @param {Event} event */
  const setLocal = (event) => {
    const time = new Date(/** @type {HTMLInputElement} */ (event.currentTarget).value).getTime();
    if (!Number.isNaN(time)) setWanted(time); // It may be empty, or have a year of five digits.
  };
  /** @param {Event} event */
  const submit = (event) => {
    event.preventDefault();
    go();
  };
  return html`<form class="filters time" aria-label="Moment" onSubmit=${submit}>
    <label>Time <input type="datetime-local" step="1" value=${localOf(wanted)} onInput=${setLocal} /></label>
    ${
      openedAt !== undefined &&
      html`<input type="range" aria-label="Time since the pool was opened" aria-valuetext=${clock(wanted)} min=${openedAt}
        max=${Math.max(Date.now(), openedAt + 1000)} step="1000" value=${wanted} onInput=${set} onChange=${go} />`
    }
    <button>Show</button>
    <a href=${hrefOf({ view: "moment", pool, at: String(wanted) })} onClick=${follow}>What happened then?</a>
    ${at !== "" && html`<button type="button" onClick=${() => change({ at: "", after: "" })}>Now</button>`}
  </form>`;
}

/** As an input of local times has it. @param {number} at */
function localOf(at) {
  return new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** @param {{at: import("./place.js").Place, value?: Loaded, again: () => void}} props */
function List({ at, value, again }) {
  const [selected, setSelected] = useState(/** @type {ReadonlySet<string>} */ (new Set()));
  const place = JSON.stringify(at);
  useEffect(() => setSelected(new Set()), [place]);
  const { pool = "", after = "" } = at;
  return html`<section aria-labelledby="proxies-title">
    <h2 id="proxies-title">Proxies</h2>
    <${Filters} at=${at} key=${pool} />
    ${
      mayChange() &&
      (at["at"] ?? "") === "" &&
      html`<${Actions} pool=${pool} ids=${[...selected]} onDone=${() => {
        setSelected(new Set());
        again();
      }} />`
    }
    ${
      value === undefined
        ? html`<p>Loading …</p>`
        : html`<${Proxies} ...${value} isPast=${value.past !== undefined} sort=${at["sort"] ?? ""} pool=${pool} selected=${selected} onSelect=${setSelected} again=${again} />`
    }
    <nav class="pages" aria-label="Pages of the list">
      ${after !== "" && html`<a href=${hrefOf({ ...at, after: "" })} onClick=${follow}>First page</a>`}
      ${value?.next !== undefined && html`<a href=${hrefOf({ ...at, after: value.next })} onClick=${follow}>Next page</a>`}
      <span>${value === undefined ? "" : `${countOf(value.proxies.length)} on this page`}</span>
    </nav>
  </section>`;
}

/** @param {{at: import("./place.js").Place}} props */
function Filters({ at }) {
  const [typed, setTyped] = useState({ text: at["text"] ?? "", label: at["label"] ?? "" });
  useEffect(() => {
    const { text = "", label = "" } = place.peek();
    if (typed.text === text && typed.label === label) return undefined;
    const timer = setTimeout(() => change({ ...typed, after: "" }, { isSame: true }), typingMs);
    return () => clearTimeout(timer);
  }, [typed]);
  /** @param {"text" | "label"} name */
  const onInput = (name) => (/** @type {InputEvent} */ event) =>
    setTyped({ ...typed, [name]: /** @type {HTMLInputElement} */ (event.currentTarget).value });
  return html`<form class="filters" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <label>State
      <select value=${at["state"] ?? ""} onChange=${(/** @type {Event} */ event) =>
        change({ state: /** @type {HTMLSelectElement} */ (event.currentTarget).value, after: "" })}>
        <option value="">all</option>
        ${states.map((state) => html`<option key=${state} value=${state}>${state}</option>`)}
      </select>
    </label>
    <label>Text <input type="search" value=${typed.text} onInput=${onInput("text")} placeholder="10.0.0.1" /></label>
    <label>Labels <input type="search" value=${typed.label} onInput=${onInput("label")} placeholder="country=DE" /></label>
  </form>`;
}
