// The dashboard. Each view is a file. Text reaches the page only as text: no markup is made of data.
import { html, render } from "htm/preact";
import { useEffect } from "preact/hooks";
import { findSession, logOut, session } from "./api.js";
import { Login } from "./login.js";
import { Overview } from "./overview.js";
import { follow, place } from "./place.js";
import { PolicyView } from "./policy.js";
import { Pool } from "./pool.js";
import { SourcesView } from "./sources.js";
import { MomentView, ProxyView } from "./story.js";

function App() {
  const sender = session.value;
  if (sender === undefined) return html`<main><p>Asking the service …</p></main>`;
  if (sender === null) return html`<${Login} />`;
  return html`<header>
      <a class="name" href="/" onClick=${follow}>Remuda</a>
      <nav aria-label="Views">
        <a href="/" onClick=${follow} aria-current=${(place.value["view"] ?? "") === "" ? "page" : undefined}>Pools</a>
        <a href="/docs">API</a>
      </nav>
      <span class="user">
        ${sender.user === undefined ? "no login needed" : `${sender.user} (${sender.role})`}
        ${sender.user !== undefined && html`<button onClick=${logOut}>Log out</button>`}
      </span>
    </header>
    <${View} />`;
}

const views = new Map([
  ["pool", Pool],
  ["proxy", ProxyView],
  ["moment", MomentView],
  ["policy", PolicyView],
  ["sources", SourcesView],
]);

function View() {
  const { view = "", pool } = place.value;
  useEffect(() => {
    document.title = pool === undefined ? "Remuda" : `${pool} – Remuda`;
  }, [pool]);
  if (session.value?.role === "metrics")
    return html`<main><h1>Remuda</h1><p>Your role <code>metrics</code> may read <a href="/metrics">/metrics</a> alone.</p></main>`;
  return html`<${views.get(view) ?? Overview} />`;
}

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
findSession();
