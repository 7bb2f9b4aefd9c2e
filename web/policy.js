// The policy of a pool, as a form: one field for each number or word, with its value as JSON. What is changed is shown
// beside the commands that do the same, and is saved as a partial policy, if no other change came in between.
import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { quoted } from "./actions.js";
import { call, mayChange, pathOf } from "./api.js";
import { useLive } from "./live.js";
import { follow, hrefOf, place } from "./place.js";

/** @typedef {{[field: string]: unknown}} Policy */

export function PolicyView() {
  const { pool = "" } = place.value;
  const { value, error, again } = useLive(pool, () => call(`GET ${pathOf(pool)}`), pool);
  return html`<main>
    <p><a href=${hrefOf({ view: "pool", pool })} onClick=${follow}>Pool ${pool}</a></p>
    <h1>Policy of ${pool}</h1>
    ${error && html`<p role="alert" class="error">${error.message}</p>`}
    ${value && html`<p>Version ${value.version}.</p><${Form} pool=${pool} policy=${shown(value.policy)} version=${value.version} again=${again} />`}
  </main>`;
}

/** The source of guest tokens may have secrets in it. It is changed elsewhere. @param {Policy} policy */
function shown({ token: _token, ...others }) {
  return others;
}

/** @param {{pool: string, policy: Policy, version: number, again: () => void}} props */
function Form({ pool, policy, version, again }) {
  const [edits, setEdits] = useState(/** @type {Readonly<Record<string, string>>} */ ({}));
  const [said, setSaid] = useState("");
  const [error, setError] = useState("");
  const fields = fieldsOf(policy, []);
  const changed = fields.filter(({ name, text }) => edits[name] !== undefined && edits[name] !== text);
  const patch = patchOf(changed, edits);
  /** @param {SubmitEvent} event */
  const save = async (event) => {
    event.preventDefault();
    setError("");
    try {
      const { version: next, warnings = [] } = await call(`PATCH ${pathOf(pool)}`, {
        policy: patch,
        ifVersion: version,
      });
      setEdits({});
      setSaid([`Saved as version ${next}.`, ...warnings].join(" "));
      again();
    } catch (refusal) {
      setError(/** @type {Error} */ (refusal).message);
    }
  };
  return html`<form onSubmit=${save}>
    ${Object.keys(policy).map(
      (rule) => html`<details key=${rule} class="card rule">
        <summary>${rule} <code class="soft">${brief(policy[rule])}</code></summary>
        ${fields
          .filter(({ path }) => path[0] === rule)
          .map(
            ({ name, text }) => html`<label key=${name}>${name}
              <input value=${edits[name] ?? text} readonly=${!mayChange()} spellcheck="false"
                onInput=${(/** @type {Event} */ event) => setEdits({ ...edits, [name]: /** @type {HTMLInputElement} */ (event.currentTarget).value })} />
            </label>`,
          )}
      </details>`,
    )}
    <p role="status">${said}</p>
    ${error !== "" && html`<p role="alert" class="error">${error}</p>`}
    ${
      changed.length > 0 &&
      html`<section class="card" aria-labelledby="changes-title">
        <h2 id="changes-title">Changes</h2>
        <ul>${changed.map(({ name, text }) => html`<li key=${name}>${name}: <del>${text}</del> → <ins>${edits[name]}</ins></li>`)}</ul>
        <h3>Try it first, on the recorded requests of the last hour</h3>
        <pre tabindex="0" aria-label="What if">npx remuda audit what-if --policy ${quoted(JSON.stringify(patch))} --from 1h --pool ${pool}</pre>
        <h3>The same elsewhere</h3>
        <pre tabindex="0" aria-label="Commands">${commandsOf(pool, patch, version)}</pre>
        <div class="acts">
          <button class="main">Save</button>
          <button type="button" onClick=${() => setEdits({})}>Discard</button>
        </div>
      </section>`
    }
  </form>`;
}

/** @param {string} pool @param {Policy} patch @param {number} version */
function commandsOf(pool, patch, version) {
  const body = JSON.stringify({ policy: patch, ifVersion: version });
  return `npx remuda pool policy ${quoted(JSON.stringify(patch))} --if-version ${version} --pool ${pool}
curl -X PATCH -H "Authorization: Bearer $REMUDA_HTTP_KEY" -d ${quoted(body)} "$REMUDA_HTTP_URL${pathOf(pool)}"`;
}

/** @typedef {{path: string[], name: string, text: string}} Field */

/** Lists and rules that are off have one field. @param {unknown} value @param {string[]} path @returns {Field[]} */
function fieldsOf(value, path) {
  if (typeof value !== "object" || value === null || Array.isArray(value) || Object.keys(value).length === 0)
    return path.length === 0
      ? []
      : [{ path, name: path.join("."), text: typeof value === "string" ? value : JSON.stringify(value) }];
  return Object.entries(value).flatMap(([name, each]) => fieldsOf(each, [...path, name]));
}

/** @param {readonly Field[]} changed @param {Readonly<Record<string, string>>} edits @returns {Policy} */
function patchOf(changed, edits) {
  /** @type {Policy} */
  const patch = {};
  for (const { path, name } of changed) {
    let at = patch;
    for (const step of path.slice(0, -1)) at = /** @type {Policy} */ ((at[step] ??= {}));
    at[path.at(-1) ?? ""] = valueOf(edits[name] ?? "");
  }
  return patch;
}

/** JSON, or a word. @param {string} text */
function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** @param {unknown} value */
function brief(value) {
  const text = JSON.stringify(value);
  return text.length > 70 ? `${text.slice(0, 70)} …` : text;
}
