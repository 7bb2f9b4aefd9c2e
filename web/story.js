// The story of a proxy, or of a minute of a pool, in sentences. The service tells them from the ledger.
import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { ActButton } from "./actions.js";
import { call, mayChange, pathOf } from "./api.js";
import { useLive } from "./live.js";
import { State } from "./overview.js";
import { follow, hrefOf, place } from "./place.js";
import { isResting, nameOf } from "./proxies.js";
import { clock, number, percent } from "./words.js";

const minuteMs = 60_000;

export function ProxyView() {
  const { pool = "", proxy: id = "", at = "" } = place.value;
  const isStill = at !== "";
  const { value, error, again } = useLive(pool, () => load(pool, id), `${id} ${at}`, { isStill });
  return html`<main>
    <p><${Back} pool=${pool} at=${at} /></p>
    <h1>Proxy ${value === undefined ? id : nameOf(value.proxy)}</h1>
    ${error && html`<p role="alert" class="error">${error.message}</p>`}
    ${value && !isStill && html`<${Facts} proxy=${value.proxy} />`}
    ${
      value &&
      !isStill &&
      mayChange() &&
      html`<div class="acts">
        <${ActButton} act=${isResting(value.proxy) ? "revive" : "rest"} pool=${pool} ids=${[id]} name=${nameOf(value.proxy)} onDone=${again} />
        <${ActButton} act="retire" pool=${pool} ids=${[id]} name=${nameOf(value.proxy)} onDone=${again} />
      </div>`
    }
    ${
      // It is told anew when a rest begins or ends, but not for each lease, because the whole ledger is read for it.
      (value || isStill) &&
      html`<${Story} pool=${pool} query=${isStill ? `proxyId=${id}&at=${at}` : `proxyId=${id}&sequence=${value?.sequence}`}
        command=${`npx remuda audit explain ${id}${isStill ? ` --at ${at}` : ""} --pool ${pool}`}
        key=${isStill ? at : `${value?.proxy.state.replace("in-use", "available")} ${value?.proxy.epoch}`} />`
    }
  </main>`;
}

/** @param {string} pool @param {string} id @returns {Promise<{proxy: import("./proxies.js").Proxy, sequence: number}>} */
async function load(pool, id) {
  const [proxy, { sequence }] = await Promise.all([
    call(`GET ${pathOf(pool)}/proxies/${encodeURIComponent(id)}`),
    call(`GET ${pathOf(pool)}/stats`),
  ]);
  return { proxy, sequence };
}

/** @param {{proxy: import("./proxies.js").Proxy}} props */
function Facts({ proxy }) {
  const { state, exit, labels, score, streak, openLeases, usesInWindow, usesSinceRest, totals, lastUsedAt } = proxy;
  const { succeeded = 0, failed = 0, granted = 0 } = totals;
  const shown = Object.entries(labels).map(([label, value]) => `${label}=${value}`);
  /** @type {[string, unknown][]} */
  const facts = [
    ["State", html`<${State} state=${state} />`],
    ["Exit", exit],
    ["Labels", shown.length === 0 ? "–" : shown.join(" ")],
    ["Score", number(score)],
    ["Failures in a row", number(streak)],
    ["Open leases", number(openLeases)],
    ["Uses in the window", number(usesInWindow)],
    ["Uses since the last usage rest", number(usesSinceRest)],
    ["Uses granted, ever", number(granted)],
    ["Success", percent(succeeded, succeeded + failed)],
    ["Last used", lastUsedAt === undefined ? "never" : clock(lastUsedAt)],
  ];
  return html`<dl class="card facts">
    ${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/** Why requests were refused in this minute. */
export function MomentView() {
  const { pool = "", at = "" } = place.value;
  const from = Math.floor(Number(at) / minuteMs) * minuteMs;
  const { value, error } = useLive(pool, () => call(`GET ${pathOf(pool)}`), "", { isStill: true });
  const [before, after] = [from - minuteMs, from + minuteMs].map((other) => ({
    view: "moment",
    pool,
    at: String(other),
  }));
  return html`<main>
    <p><${Back} pool=${pool} at=${at} /></p>
    <h1>Pool ${pool}, ${clock(from)}</h1>
    <nav class="pages" aria-label="Minutes">
      <a href=${hrefOf(before ?? {})} onClick=${follow}>Minute before</a>
      ${from + minuteMs < Date.now() && html`<a href=${hrefOf(after ?? {})} onClick=${follow}>Minute after</a>`}
    </nav>
    ${error && html`<p role="alert" class="error">${error.message}</p>`}
    ${
      value &&
      html`<${Story} pool=${pool} query=${`at=${Math.max(from, value.openedAt)}&forMs=${minuteMs}`} key=${from}
        command=${`npx remuda audit explain ${new Date(from).toISOString().slice(0, 16)}Z --pool ${pool}`} />`
    }
  </main>`;
}

/** @param {{pool: string, at: string}} props */
function Back({ pool, at }) {
  return html`<a href=${hrefOf({ view: "pool", pool, at })} onClick=${follow}>Pool ${pool}</a>`;
}

/** @param {{pool: string, query: string, command: string}} props */
function Story({ pool, query, command }) {
  const [path] = useState(`${pathOf(pool)}/explain?${query}`); // The query changes with each commit.
  const { value, error } = useLive(pool, () => call(`GET ${path}`), "", { isStill: true });
  return html`<section class="card story" aria-labelledby="story-title">
    <h2 id="story-title">What happened</h2>
    ${value === undefined && error === undefined && html`<p>Reading the ledger …</p>`}
    ${error && html`<p role="alert" class="error">${error.message}</p>`}
    ${/** @type {{story: string[]} | undefined} */ (value)?.story.map((line, i) => html`<p key=${i} class=${line.startsWith("  ") ? "indented" : ""}>${line.trim()}</p>`)}
    <h3>The same elsewhere</h3>
    <pre tabindex="0" aria-label="Commands">${command}${"\n"}curl -H "Authorization: Bearer $REMUDA_HTTP_KEY" "$REMUDA_HTTP_URL${path}"</pre>
  </section>`;
}
