// All pools that the user may see: how many proxies can be leased, what waits, and why requests are refused.
import { html } from "htm/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call, pathOf } from "./api.js";
import { useLive } from "./live.js";
import { follow, hrefOf } from "./place.js";
import { number, percent, refusalWords } from "./words.js";

const listEveryMs = 5000;

/** @typedef {{pools: {pool: string}[], unusable?: {pool: string, message: string}[], streams?: {stream: string, message: string}[]}} Pools */

export function Overview() {
  const [pools, setPools] = useState(/** @type {Pools | undefined} */ (undefined));
  const [error, setError] = useState("");
  useEffect(() => {
    const look = () =>
      call("GET /v1/pools").then(
        (reply) => {
          setPools(reply);
          setError("");
        },
        (refusal) => setError(refusal.message),
      );
    look();
    const timer = setInterval(() => document.hidden || look(), listEveryMs);
    return () => clearInterval(timer);
  }, []);
  return html`<main>
    <h1>Pools</h1>
    ${error !== "" && html`<p role="alert" class="error">${error}</p>`}
    ${[...(pools?.unusable ?? []), ...(pools?.streams ?? [])].map(
      ({ message }) => html`<p role="alert" class="error" key=${message}>${message}</p>`,
    )}
    ${pools?.pools.length === 0 && html`<p>No pool is open. <code>npx remuda pool open web</code> opens one.</p>`}
    <div class="cards">${pools?.pools.map(({ pool }) => html`<${PoolCard} key=${pool} pool=${pool} />`)}</div>
  </main>`;
}

/** @param {{pool: string}} props */
function PoolCard({ pool }) {
  const { value: stats, error } = useLive(pool, () => call(`GET ${pathOf(pool)}/stats`), pool);
  return html`<article class="card" data-pool=${pool}>
    <h2><a href=${hrefOf({ view: "pool", pool })} onClick=${follow}>${pool}</a></h2>
    ${error && html`<p role="alert" class="error">${error.message}</p>`}
    ${stats && html`<${PoolNumbers} stats=${stats} />`}
  </article>`;
}

/** @typedef {{at: number, proxies: Record<string, number>, leases: Record<string, number>, outcomes: Record<string, number>, refused: Record<string, number>, waiting: number, commits: number, leader: {id: string, term: number}}} Stats */

/** The states of a proxy in the pool, in the order in which they are shown. */
export const states = ["available", "in-use", "cooling", "exhausted", "retired"];

/** @param {{stats: Stats}} props */
export function PoolNumbers({ stats }) {
  const { proxies, leases, outcomes, refused, waiting, leader, commits } = stats;
  const all = states.reduce((sum, state) => sum + (state === "retired" ? 0 : (proxies[state] ?? 0)), 0);
  const leasable = proxies["leasable"] ?? 0;
  const { succeeded = 0, failed = 0 } = outcomes;
  const rate = useRate(leases["granted"] ?? 0, stats.at);
  const refusals = Object.entries(refused).filter(([, count]) => count > 0);
  return html`<p class="big"><strong>${number(leasable)}</strong> of ${number(all)} can be leased now</p>
    <${Bar} of=${all} parts=${states.filter((state) => state !== "retired").map((state) => [state, proxies[state] ?? 0])} />
    <dl class="states">
      ${states.map((state) => html`<div key=${state}><dt><${State} state=${state} /></dt><dd>${number(proxies[state] ?? 0)}</dd></div>`)}
    </dl>
    <dl>
      <div><dt>Waiting requests</dt><dd>${number(waiting)}</dd></div>
      <div><dt>Open leases</dt><dd>${number(leases["open"] ?? 0)}</dd></div>
      <div><dt>Leases per second</dt><dd>${rate === undefined ? "–" : rate.toFixed(1)}</dd></div>
      <div><dt>Success</dt><dd>${percent(succeeded, succeeded + failed)}</dd></div>
      ${refusals.map(([code, count]) => html`<div key=${code}><dt>Refused: ${refusalWords[code] ?? code}</dt><dd>${number(count)}</dd></div>`)}
      <div><dt>Leader</dt><dd>${leader.id} (term ${leader.term})</dd></div>
      <div><dt>Commits</dt><dd>${number(commits)}</dd></div>
    </dl>`;
}

/** The proxies by state. The numbers are in text beside it. @param {{parts: [string, number][], of: number}} props */
function Bar({ parts, of }) {
  return html`<div class="bar" aria-hidden="true">
    ${parts.map(([state, count]) => html`<span key=${state} class=${state} style=${{ width: `${(100 * count) / Math.max(1, of)}%` }}></span>`)}
  </div>`;
}

/** @param {{state: string}} props */
export function State({ state }) {
  return html`<span class=${`state ${state}`}>${state}</span>`;
}

/** Growth per second since the value before, over one second at least. @param {number} value @param {number} at */
function useRate(value, at) {
  const before = useRef({ value, at });
  const [rate, setRate] = useState(/** @type {number | undefined} */ (undefined));
  useEffect(() => {
    const ms = at - before.current.at;
    if (ms < 1000) return;
    setRate((1000 * Math.max(0, value - before.current.value)) / ms);
    before.current = { value, at };
  }, [value, at]);
  return rate;
}
